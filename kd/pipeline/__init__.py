"""What a stage and a task are: how they are planned, named, stored and resumed. Knows nothing of translation."""
