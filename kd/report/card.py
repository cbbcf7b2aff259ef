"""Render the model card of a folder for distribution: Markdown with Hugging Face's front matter.

The keys of the front matter are those of the hub's documentation (huggingface.co/docs/hub/model-cards); facts that a
run does not have are left out there, and the text states that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from kd.base.escapes import visible
from kd.base.text import amount
from kd.metrics.robustness import Robustness
from kd.models.description import ARGOS, MARIAN
from kd.models.languages import primary
from kd.report import formatting
from kd.report.robustness import check_table

HERE = Path(__file__).parent / "templates"
UNKNOWN = "unknown"
LIBRARIES = {ARGOS: "argos-translate", MARIAN: "marian-nmt"}  # the hub's names, where they are not those of the engines


@dataclass(frozen=True)
class Corpus:
    """A corpus that a model was trained on."""

    name: str
    licence: str
    use: str = "train"
    pairs: int | None = None  # before cleaning


@dataclass(frozen=True)
class TestSet:
    """Scores on one test set."""

    __test__ = False  # no test class of pytest

    name: str
    segments: int
    leakage: str  # the guard's verdict
    scores: list[dict[str, Any]]  # of this system: metric, value, signature; interval, p_value, baseline where tested
    others: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of other systems, to compare with
    pair: str = ""  # language pair, of a model of several


@dataclass(frozen=True)
class Card:
    """The content of a card."""

    name: str
    title: str
    source: str  # BCP-47 code; of several languages: `da, nl`
    target: str
    engine: str  # ctranslate2, fairseq, or the engine of a package (transformers, argos, marian, onnx)
    description: Mapping[str, Any]  # model.json
    licence: str | None = None
    text: str | None = None
    parameters: int | None = None  # of all members together
    corpora: Sequence[Corpus] = ()
    training_pairs: int | None = None  # after cleaning
    sets: Sequence[TestSet] = ()
    speed: Mapping[str, Any] | None = None
    speed_note: str = ""
    speeds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of other systems, to compare with
    weaknesses: Mapping[str, Any] | None = None
    weaknesses_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by language pair, if several
    robustness: Mapping[str, Mapping[str, Robustness]] = field(default_factory=dict)  # by pair, if several, and system
    energy: Mapping[str, Any] | None = None  # kwh, kg_co2e; of: measured stages; missing: the others
    mfu: float | None = None  # model FLOPs utilisation of its training, 0 to 1
    machine: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    made_by: str = ""
    scores_of: str = ""  # the system whose scores these are, if it is another
    lessons: str = ""  # what the model was trained on, in a sentence; empty: not stated

    @property
    def signatures(self) -> dict[str, list[str]]:
        """The signatures of each metric; several where language pairs have different tokenisers."""
        found: dict[str, dict[str, None]] = {}
        for score in (score for each in self.sets for score in each.scores):
            found.setdefault(score["metric"], {})[score["signature"]] = None
        return {metric: list(signatures) for metric, signatures in found.items()}

    @property
    def to(self) -> str:
        """The option of `kd translate` that a model of several target languages needs; empty for others."""
        targets = self.description.get("target_languages") or []
        return f" --to {code(targets[0])}" if self.description.get("tags") and len(targets) > 1 else ""

    @property
    def tag(self) -> str:
        """The tag of the first target language, with which sources begin; empty for models without tags."""
        tags = self.description.get("tags")
        return json.dumps(str(tags[0]))[1:-1] if isinstance(tags, list) and tags else ""

    @property
    def from_code(self) -> str:
        """The source language as Argos Translate names it."""
        return code(primary(self.source)).replace('"', "")

    @property
    def to_code(self) -> str:
        """The target language as Argos Translate names it."""
        return code(primary(self.target)).replace('"', "")

    @property
    def source_file(self) -> str:
        """A name for a file of source text."""
        return "source" if len(self.languages) > 2 else f"source.{code(self.source)}"

    @property
    def target_file(self) -> str:
        """A name for a file of translations."""
        return "target" if len(self.languages) > 2 else f"target.{code(self.target)}"

    @property
    def languages(self) -> list[str]:
        """All languages, sources first."""
        known = [*self.description.get("source_languages", []), *self.description.get("target_languages", [])]
        return list(dict.fromkeys(known or [self.source, self.target]))

    @property
    def unlicensed(self) -> list[str]:
        """Corpora without a stated licence."""
        return [corpus.name for corpus in self.corpora if corpus.licence == UNKNOWN]


def render(card: Card) -> str:
    """Render the card: front matter between two `---`, then Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=False,  # Markdown: the template escapes names by `cell` and `code`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": formatting.count, "cell": cell, "amount": _amount}
    environment.filters |= {"code": code, "checks": lambda systems: check_table(systems).markdown()}
    environment.filters |= {
        "of_metric": formatting.of_metric,
        "of_test_set": formatting.of_test_set,
        "p_equals": formatting.p_equals,
        "p_meaning": formatting.p_meaning,
    }
    front = yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True, width=1000)
    body = environment.get_template("card.md.j2").render(card=card)
    return f"---\n{front}---\n\n{body}"


def front_matter(card: Card) -> dict[str, Any]:
    """Return the front matter: the hub's keys."""
    results: list[dict[str, Any]] = [
        {
            "task": {"type": "translation", "name": f"Translation {each.pair or f'{card.source}-{card.target}'}"},
            "dataset": {"name": _set_name(each), "type": each.name},
            "metrics": [
                {"type": _metric_type(score["metric"]), "name": score["metric"], "value": score["value"]}
                for score in each.scores
            ],
        }
        for each in card.sets
        if each.scores
    ]
    front: dict[str, Any] = {
        "language": card.languages,
        "license": card.licence or UNKNOWN,
        "library_name": LIBRARIES.get(card.engine, card.engine),
        "pipeline_tag": "translation",
        "tags": ["translation", "knowledge-distillation"],
    }
    if results:
        front["metrics"] = list(dict.fromkeys(metric["type"] for each in results for metric in each["metrics"]))
        front["model-index"] = [{"name": card.name, "results": results}]
    return front


def _set_name(test_set: TestSet) -> str:
    return f"{test_set.name} {test_set.pair}".rstrip()


def _metric_type(metric: str) -> str:
    """Return the hub's name of a metric: bleu, chrf, ter, comet."""
    lower = metric.lower()
    return next((known for known in ("bleu", "chrf", "ter", "comet") if lower.startswith(known)), lower)


def cell(text: object) -> str:
    """Escape text for a sentence or a cell: one line without Markdown, HTML or control characters."""
    plain = visible(" ".join(str(text).split()))
    for char in "\\|`*_<>[]":
        plain = plain.replace(char, f"\\{char}")
    return plain


def code(text: object) -> str:
    """Escape text for code: one line without backticks."""
    return visible(" ".join(str(text).split())).replace("`", "'")


def _amount(value: float | None) -> str:
    """Format a measured number, or a dash if it was not measured."""
    return "–" if value is None else amount(value)
