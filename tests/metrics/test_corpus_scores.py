"""Corpus scores against figures published by others: sacreBLEU's README and tests.

Those of WMT21's organisers are in tests/commands/test_evaluate_command.py.
"""

import pytest
import sacrebleu

from kd.base.errors import UserError
from kd.metrics.corpus import Score, check_aligned, corpus_scores

# The example of sacreBLEU's README ("Using SacreBLEU from Python"), which states 48.53 BLEU and 59.73 chrF2 for it;
# the further digits of BLEU are those of sacreBLEU's test/test_bleu.py.
HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]


def test_readme_example_with_two_references() -> None:
    bleu, chrf = corpus_scores(HYPOTHESES, REFERENCES, ["bleu", "chrf"])
    assert bleu.value == pytest.approx(48.530827, abs=1e-6)
    assert chrf.value == pytest.approx(59.73, abs=5e-3)
    version = sacrebleu.__version__
    assert (bleu.metric, chrf.metric) == ("BLEU", "chrF2")
    assert bleu.signature == f"nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert chrf.signature == f"nrefs:2|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"


def test_ter_is_that_of_sacrebleus_tests() -> None:
    # sacreBLEU, test/test_ter.py: a single shift repairs eight words.
    (ter,) = corpus_scores(["d e f g h a b c"], [["a b c d e f g h"]], ["ter"])
    assert (ter.metric, ter.value) == ("TER", 12.5)


def test_empty_outputs_count() -> None:
    assert [score.value for score in corpus_scores(["", "", ""], REFERENCES)] == [0.0, 0.0]  # test/test_bleu.py


def test_unknown_metric_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no metric 'blue'.*bleu, chrf, chrf\+\+, ter"):
        corpus_scores(HYPOTHESES, REFERENCES, ["blue"])


def test_a_files_name_is_told_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^empty\.de is empty"):
        check_aligned({}, [[]], first="empty.de")
    with pytest.raises(UserError, match=r"^The source is empty"):
        check_aligned({}, [[]], first="the source")


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (HYPOTHESES[:2], REFERENCES, "output has 2 lines, but the reference has 3"),
        (HYPOTHESES, [REFERENCES[0], REFERENCES[1][:2]], "Reference 2 has 2 lines, but the first has 3"),
        ([], [[]], "reference is empty"),
        (HYPOTHESES, [], "no reference"),
    ],
)
def test_what_does_not_align_is_refused(hypotheses: list[str], references: list[list[str]], message: str) -> None:
    """sacreBLEU itself would score the shorter side's length and say nothing."""
    with pytest.raises(UserError, match=message):
        corpus_scores(hypotheses, references)


def test_scores_are_records() -> None:
    assert corpus_scores(["a"], [["b"]], ["ter"])[0] == Score(
        "TER", 100.0, f"nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{sacrebleu.__version__}"
    )
