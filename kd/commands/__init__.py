"""Commands about anybody's files, without a recipe: one module each, imported when it is called."""
