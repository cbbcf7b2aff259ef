"""How good a translation is: single sentences for selection, whole corpora for judging, with significance."""
