"""Data and leakage on the page: the number of sentence pairs that each stage kept, and test text in training data.

Counts are sentence pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd.corpora.known_testsets import known_test_sets, training_names
from kd.pipeline.model import Artifact
from kd.report import formatting as form
from kd.report.table import Table


@dataclass(frozen=True)
class FlowStep:
    """Sentence pairs that entered and left a stage."""

    stage: str
    entered: int  # sentence pairs
    left: int
    dropped: dict[str, int] = field(default_factory=dict)  # by reason


@dataclass(frozen=True)
class LeakedSet:
    """Training pairs that match a held-out set, over all training corpora; a pair counts once per set."""

    name: str  # en-de test
    segments: int
    both: int = 0  # hold both sides of a segment
    source: int = 0  # its source alone
    target: int = 0  # its target alone


@dataclass(frozen=True)
class LeakedCorpus:
    """The result of the leakage guard on the training corpus of a language pair."""

    pair: str
    mode: str  # remove | fail | off
    removed: int  # training pairs


@dataclass(frozen=True)
class Leakage:
    """Whether held-out text was found in the training text."""

    corpora: list[LeakedCorpus] = field(default_factory=list)
    sets: list[LeakedSet] = field(default_factory=list)
    one_sided_words: int = 0  # a match of one side alone has more words
    warnings: dict[str, str] = field(default_factory=dict)  # training corpus whose name is that of a test set -> which
    # Selected teacher outputs equal to the test reference of another source; None: not looked for.
    reproduced_outputs: int | None = None
    reproduced_references: int | None = None

    @property
    def off(self) -> list[str]:
        """Language pairs whose training corpora were not checked."""
        return [corpus.pair for corpus in self.corpora if corpus.mode == "off"]

    @property
    def verdict(self) -> str:
        """The result in a few words: OFF, clean, or the number of pairs removed for all held-out sets together."""
        removed = sum(corpus.removed for corpus in self.corpora)
        if self.off:
            return "OFF"
        return f"removed {removed:,} (training pairs that match any dev or test set)" if removed else "clean"


def flow(artifacts: Iterable[Artifact], several: bool) -> list[FlowStep]:
    """Return the pairs in and out of each stage, per language pair if there are `several`."""
    steps: dict[str, FlowStep] = {}
    for artifact in artifacts:
        counts = artifact.manifest["counts"]
        if "pairs out" not in counts:
            continue
        stage = artifact.stage if several else artifact.stage.partition(".")[0]
        entered, left = counts.get("pairs in", counts["pairs out"]), counts["pairs out"]
        before = steps.get(stage, FlowStep(stage, 0, 0))
        dropped = Counter(before.dropped)
        dropped.update(artifact.manifest["dropped"])
        steps[stage] = FlowStep(stage, before.entered + entered, before.left + left, dict(dropped))
    return list(steps.values())


def leakage(manifests: Iterable[Mapping[str, Any]]) -> Leakage | None:
    """Make the record from the manifests of all stages; None if no stage checked for leakage."""
    corpora: list[LeakedCorpus] = []
    sets: dict[str, LeakedSet] = {}
    warnings: dict[str, str] = {}
    reproduced: list[Mapping[str, int]] = []
    words = 0
    for manifest in manifests:
        facts = manifest["facts"]
        warnings |= known_test_sets(training_names(manifest["settings"].get("sources") or {}))
        if "reproduced" in facts:
            reproduced.append(facts["reproduced"])
        if "leakage" in facts:
            found = facts["leakage"]
            words = found["one_sided_words"]
            warnings |= found["known_test_sets"]
            corpora.append(LeakedCorpus(str(manifest["axis"]), found["mode"], found["pairs"]))
            for name, segments in found["held_out_sets"].items():
                sets[name] = _added(sets.get(name, LeakedSet(name, segments)), Counter(found["sets"].get(name, {})))
    if not corpora:
        return None
    totals = [sum(part[key] for part in reproduced) if reproduced else None for key in ("outputs", "references")]
    return Leakage(corpora, list(sets.values()), words, warnings, *totals)


def _added(before: LeakedSet, kinds: Counter[str]) -> LeakedSet:
    both, source, target = (getattr(before, kind) + kinds[kind] for kind in ("both", "source", "target"))
    return LeakedSet(before.name, before.segments, both, source, target)


def flow_table(flow: Sequence[FlowStep]) -> Table:
    """Make the table of sentence pairs that each stage kept."""
    rows = [
        (
            step.stage,
            form.count(step.entered),
            form.count(step.left),
            form.percent(step.left / step.entered) if step.entered else "",
            " · ".join(f"{reason} {form.count(number)}" for reason, number in step.dropped.items() if number),
        )
        for step in flow
    ]
    headings = ["Stage", "Pairs in", "Pairs out", "Kept", "Dropped"]
    return Table.of_rows(headings, rows, title="Sentence pairs that each stage kept", text=["Stage", "Dropped"])


def leakage_table(leakage: Leakage) -> Table:
    """Make the table of training pairs that matched held-out sets."""
    sets = [(each.name, (each.segments, each.both, each.source, each.target)) for each in leakage.sets]
    rows = [(name, *map(form.count, counts)) for name, counts in sets]
    headings = ["Held-out set", "Segments", "Both sides found", "Source alone", "Target alone"]
    return Table.of_rows(headings, rows, title="Training pairs that matched held-out sets")
