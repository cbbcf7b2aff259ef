"""Read assumptions for `kd plan` about values that were not measured: `assume.KEY=NUMBER`.

They are not settings of the recipe, so they have no effect on a run; the forecast marks each as assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kd.base.errors import UserError
from kd.base.estimate import ASSUMED, Estimate
from kd.base.text import unknown_name

PREFIX = "assume."
# Key -> meaning. `*` stands for the name that the meaning has in capitals.
KEYS = {
    "pairs.*": "collected sentence pairs of the language pair PAIR",
    "source_only.*": "collected sentences of text with use: source of the language pair PAIR",
    "kept": "share of the collected pairs that cleaning keeps, 0 to 1",
    "source_pieces": "mean tokens of a source sentence",
    "target_pieces": "mean tokens of a target sentence",
    "bytes_per_pair": "mean bytes of uncompressed text of a pair, both sides together",
    "data_in": "bytes of the raw corpora, as transferred to the machine",
    "updates.*": "updates after which the trainings of the stage STAGE end (early stopping)",
    "tokens_per_second.*": "target tokens per second that one device trains in the stage STAGE",
    "sentences_per_second.*": "sentences per second that one device translates in the stage STAGE",
    "pairs_per_second.*": "pairs per second that one task of the stage STAGE processes",
    "seconds.*": "seconds of a task of the stage STAGE",
    "seconds": "seconds of a task for which no other estimate exists",
    "tflops.*": "10^12 operations per second that one device sustains: for the class train or decode",
    "bytes.*": "bytes that the stage STAGE keeps per pair",
    "efficiency": "parallel efficiency of several devices that train one model, 0 to 1",
    "gpu_watts": "mean power of a GPU at work",
    "core_watts": "mean power of a CPU core at work",
}


@dataclass(frozen=True)
class Assumptions:
    """The assumed values by key."""

    values: Mapping[str, float]

    def get(self, *keys: str) -> Estimate | None:
        """Return the first of these assumptions that was given, labelled as assumed."""
        for key in keys:
            if key in self.values:
                return Estimate(self.values[key], f"{ASSUMED} ({self.typed(key)})")
        return None

    def typed(self, key: str) -> str:
        """Return an assumption as it is typed."""
        return f"{PREFIX}{key}={self.values[key]:,.12g}"

    def check_stages(self, stages: Sequence[str], pairs: Sequence[str]) -> None:
        """Check the names of stages and language pairs in the keys.

        Raises:
            UserError: A key ends in an unknown name.
        """
        for key in self.values:
            head, dot, tail = key.partition(".")
            known = {"pairs": list(pairs), "source_only": list(pairs), "tflops": ["train", "decode"]}.get(
                head, list(stages)
            )
            if dot and tail not in known:
                raise unknown_name(f"stage or pair of {PREFIX}{key}", tail, known)


def parse_assumptions(overrides: Sequence[str]) -> tuple[Assumptions, list[str]]:
    """Separate `assume.…` from other overrides.

    Raises:
        UserError: An unknown key, or a value that is not a number.
    """
    values, rest = {}, []
    for text in overrides:
        if not text.lstrip("+").startswith(PREFIX):
            rest.append(text)
            continue
        key, _, value = text.lstrip("+").removeprefix(PREFIX).partition("=")
        head, dot, _ = key.partition(".")
        if key not in KEYS and not (dot and f"{head}.*" in KEYS):
            raise unknown_name("assumption", PREFIX + key, [PREFIX + known for known in KEYS])
        values[key] = _number(key, value)
    return Assumptions(values), rest


def _number(key: str, text: str) -> float:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"{PREFIX}{key}={text} is not a number of 0 or more.", f"Type {PREFIX}{key}=NUMBER.")
    return value
