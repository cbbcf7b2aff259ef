"""Names of files that one kind of stage writes and another reads.

Corpora, n-best lists, scores, held-out sets, vocabularies and models have classes that name their files.
"""

HYPOTHESES = "test.hypothesis"  # translate: one line per segment
ROBUSTNESS_CASES = "robustness.jsonl"  # translate: inputs of the robustness suite with their translations
SCORES = "scores.json"  # evaluate
ROBUSTNESS = "robustness.json"  # evaluate: each system's results on the robustness suite
WEAKNESSES = "weaknesses.json"  # evaluate: counts of faults, by system; segments furthest behind
SPEED = "speed.json"  # speed
SELECTION = "selection.json"  # select: statistics of the choices
LEAKAGE, LEAKED = "leakage.json", "leaked.tsv.zst"  # shard: matches with held-out sets: counts, and a sample of pairs
CARD = "README.md"  # release: the model card
PAGE, REPORT = "index.html", "report.json"  # report: the page, and its data as JSON
RESULTS_MARKDOWN, RESULTS_LATEX = "results.md", "results.tex"  # report: the table of results, for documents
PAIRS_MARKDOWN, PAIRS_LATEX = "pairs.md", "pairs.tex"  # report: multilingual beside bilingual students, for documents
SEARCH_MARKDOWN, SEARCH_LATEX = "search.md", "search.tex"  # report: the table of a search
EVALUATION_CARD = "evaluation-card.json"  # report: the comparisons that were made, and the costs
FIGURES = "figures"  # report: a folder, each figure as SVG and PNG
TAKEN = "taken.json"  # train: the shape and data that a search had chosen when it began
CHOSEN, CHOICE_TABLE = "chosen.json", "table.md"  # choose: cells and choice, as JSON and as a table
