"""The names of files by which one kind of stage reads what another has written.

Corpora, n-best lists, held-out sets, vocabularies and models know their own files; this is for the small rest.
"""

HYPOTHESES = "test.hypothesis"  # translate: one line a segment
SCORES = "scores.json"  # evaluate
WEAKNESSES = "weaknesses.json"  # evaluate: counts of what goes wrong, by system; segments furthest behind
SPEED = "speed.json"  # speed
SELECTION = "selection.json"  # select: what selection changed
LEAKAGE, LEAKED = "leakage.json", "leaked.tsv.zst"  # shard: what matched held-out sets: counts, and a sample of pairs
CARD = "README.md"  # release: the model card
PAGE, REPORT = "index.html", "report.json"  # report: for people, for programs
RESULTS_MARKDOWN, RESULTS_LATEX = "results.md", "results.tex"  # report: the table of results, for documents
PAIRS_MARKDOWN, PAIRS_LATEX = "pairs.md", "pairs.tex"  # report: multilingual beside bilingual students, for documents
SEARCH_MARKDOWN, SEARCH_LATEX = "search.md", "search.tex"  # report: the table of a search
FIGURES = "figures"  # report: a folder, each figure as SVG and PNG
TAKEN = "taken.json"  # train: the shape and data that a search had chosen when it began
CHOSEN, CHOICE_TABLE = "chosen.json", "table.md"  # choose: all cells and what was chosen, for programs; for people
