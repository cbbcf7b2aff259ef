"""What the user assumes where nothing was measured: `assume.KEY=NUMBER` on the command line of `kd plan`.

These are no keys of the recipe, so that nothing assumed ever enters a run; in the forecast each is labelled as assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.planning.figures import ASSUMED, Figure

PREFIX = "assume."
# Key -> what it means. `*`: followed by the name of what stands in capitals.
KEYS = {
    "pairs.*": "sentence pairs of the language pair PAIR, as they are collected",
    "kept": "share of the collected pairs that cleaning keeps, 0 to 1",
    "source_pieces": "pieces a source sentence has on average",
    "target_pieces": "pieces a target sentence has on average",
    "bytes_per_pair": "bytes of text a pair has, both sides together, not compressed",
    "data_in": "bytes of the raw corpora, as they are brought to the machine",
    "updates.*": "updates after which the trainings of the stage STAGE end (early stopping)",
    "tokens_per_second.*": "target tokens a second that one device trains in the stage STAGE",
    "sentences_per_second.*": "sentences a second that one device translates in the stage STAGE",
    "pairs_per_second.*": "pairs a second that one task of the stage STAGE goes through",
    "seconds.*": "seconds that a task of the stage STAGE takes",
    "seconds": "seconds that a task takes of which nothing else is known",
    "tflops.*": "10^12 operations a second that one device sustains: for the class train or decode",
    "bytes.*": "bytes that the stage STAGE keeps, for each pair",
    "efficiency": "share of a device's speed that is left where several train one model, 0 to 1",
    "gpu_watts": "mean draw of a GPU at work",
    "core_watts": "mean draw of a CPU core at work",
}


@dataclass(frozen=True)
class Assumptions:
    """Values by key; `get` gives a figure that says it is assumed, or None."""

    values: Mapping[str, float]

    def get(self, *keys: str) -> Figure | None:
        """The first of these that was given."""
        for key in keys:
            if key in self.values:
                return Figure(self.values[key], f"{ASSUMED} ({self.told(key)})")
        return None

    def told(self, key: str) -> str:
        """One of them as it is typed."""
        return f"{PREFIX}{key}={self.values[key]:,.12g}"

    def check_stages(self, stages: Sequence[str], pairs: Sequence[str]) -> None:
        """Raises UserError for a key that ends in the name of no stage and of no language pair."""
        for key in self.values:
            head, dot, tail = key.partition(".")
            known = {"pairs": list(pairs), "tflops": ["train", "decode"]}.get(head, list(stages))
            if dot and tail not in known:
                raise unknown_name(f"name to assume something of ({PREFIX}{key})", tail, known)


def take(overrides: Sequence[str]) -> tuple[Assumptions, list[str]]:
    """Tells `assume.…` from other overrides; raises UserError for a key that there is not, or for no number."""
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
        raise UserError(f"{PREFIX}{key}={text} is no number that can be reckoned with.", f"Say {PREFIX}{key}=NUMBER.")
    return value
