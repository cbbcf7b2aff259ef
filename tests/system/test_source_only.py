"""A whole run with text that has no translations: beside the finished run, whose teachers translate it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from runs_of_tiny import Workplace
from tiny.corpus import WORDS

from kd.corpora.heldout import read_sets
from kd.corpora.shards import Corpus
from kd.report.comparing import difference
from kd.report.verdict import verdicts

pytestmark = pytest.mark.system

MONO = "+corpus.sources.mono={use: source, format: plain, source: 'mono.{source}'}"
# What other tests run is left out, and models that have hardly learned are enough to be compared.
SHORT = (
    *(f"+chain.{stage}.changes.max_update=20" for stage in ("student", "control_selected")),
    *(f"chain.{stage}.enabled=false" for stage in ("export", "speed", "release")),
)


def write(folder: Path) -> None:
    """Write new sentences, each twice, and all sources of the bilingual corpus, held-out ones among them."""
    random_ = random.Random(11)
    new = [" ".join(random_.choices(list(WORDS), k=random_.randint(5, 8))) for _ in range(600)]
    old = (folder / "corpus.en").read_text("utf-8")
    (folder / "mono.en").write_text("".join(f"{line}\n" for line in [*new, *new]) + old, "utf-8", newline="\n")


def sources(*folders: Path) -> list[str]:
    return [source for folder in folders for source in Corpus(folder).column("source")]


def test_text_without_translations_goes_from_its_file_to_the_report(workplace: Workplace) -> None:
    write(workplace.folder / "corpus")
    before = workplace.published()
    planned = workplace.kd("plan", MONO, *SHORT).stdout
    assert {"decode_source", "control_selected"} <= set(planned.replace(".", " ").split())
    workplace.kd("run", MONO, *SHORT)

    made = {path.partition("/")[0].partition(".")[0] for path in set(workplace.published()) - set(before)}
    assert made.isdisjoint({"collect", "clean", "shard", "teacher", "decode", "select", "encode_selected", "control"})
    selected = sources(*sorted(workplace.run.glob("select_source.en-xx/worker-*")))
    held_out = {pair.source for each in read_sets(workplace.run / "split" / "all") for pair in each.pairs}
    bilingual = set(sources(workplace.run / "shard.en-xx" / "all"))
    assert len(selected) == len(set(selected)) > 100
    assert bilingual.isdisjoint(selected)
    assert held_out.isdisjoint(selected)

    report = workplace.report()
    assert report.source_only is not None
    assert report.source_only.sentences == len(selected)
    assert 0 < report.source_only.share <= 0.55  # half in characters of the source, and near it in target tokens
    student, second = report.system("student"), report.system("control selected")
    apart = difference(report, student, second, report.verdict.metric) if student else None
    assert apart is not None
    assert apart.p_value is not None
    assert report.verdict.control == "control"
    (verdict,) = verdicts(report)
    assert verdict.answers[-1].question == "What did source-only text bring?"
