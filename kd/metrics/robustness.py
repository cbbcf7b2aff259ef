"""Count failures on the robustness suite: lost spans, changed case, several outputs for one input, guards.

There are four checks, each on the inputs to which it applies:

- copying: spans that must survive are in the translation; a number may be written with separators.
- case: capitals stay capitals, other text does not become capitals, and a title begins with a capital.
- one output: a repeated sentence has the same translation; with other punctuation or in quotes, its translation has
  the same words; twice in a line, it has them twice.
- sound: no guard refuses the translation: empty, untranslated, far too long or short, repeating itself, in another
  language (`kd/corpora/guards.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kd.corpora.filters.numbers import unmatched
from kd.corpora.guards import Guards
from kd.corpora.robustness import KINDS, Case

COPYING, CASE, ONE_OUTPUT, SOUND = CHECKS = ("copying", "case", "one output", "sound")
SAME_WORDS = {"unfinished", "finished", "doubled", "quotes"}  # kinds whose translation has the same words
CAPITALS = 0.8  # share of the letters with case from which a text is in capitals
LEAST_LETTERS = 4  # letters with case that tell capitals from an abbreviation
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class Checked:
    """Inputs that were checked, and those that failed."""

    inputs: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Failure:
    """An input that failed a check."""

    kind: str
    check: str
    source: str
    output: str
    expected: str = ""  # what is missing, the guard, or the translation that it should equal


@dataclass(frozen=True)
class Robustness:
    """The results of a system on the suite."""

    inputs: int
    checks: dict[str, Checked] = field(default_factory=dict)  # by check
    kinds: dict[str, Checked] = field(default_factory=dict)  # by kind of input: failed any check
    failures: list[Failure] = field(default_factory=list)  # some of each check

    @property
    def failed(self) -> int:
        """Inputs that failed any check."""
        return sum(kind.failed for kind in self.kinds.values())


def robustness(cases: Sequence[Case], guards: Guards, most: int = 5) -> Robustness:
    """Check a system's translations of the suite.

    Args:
        cases: The inputs with the translations.
        guards: Guards for the pair of languages.
        most: Failures of each check that are kept, of different kinds of input first.
    """
    checks: dict[str, Callable[[Case], str | None]] = {
        COPYING: _lost,
        CASE: _other_case,
        ONE_OUTPUT: lambda case: _other_output(case, cases),
        SOUND: lambda case: _refused(case, guards),
    }
    failures: dict[str, list[Failure]] = {name: [] for name in CHECKS}
    checked = dict.fromkeys(CHECKS, 0)
    kinds = {kind: [0, 0] for kind in KINDS}
    for case in cases:
        failed = False
        for name, check in checks.items():
            found = check(case)
            if found is None:
                continue
            checked[name] += 1
            if found:
                failures[name].append(Failure(case.kind, name, case.source, case.output, found))
                failed = True
        kinds[case.kind][0] += 1
        kinds[case.kind][1] += failed
    return Robustness(
        inputs=len(cases),
        checks={name: Checked(checked[name], len(failures[name])) for name in CHECKS},
        kinds={kind: Checked(*counts) for kind, counts in kinds.items() if counts[0]},
        failures=[each for name in CHECKS for each in _of_many_kinds(failures[name], most)],
    )


def _of_many_kinds(failures: Sequence[Failure], most: int) -> list[Failure]:
    """Return the first failure of each kind, then the second ones, up to `most`."""
    turns: dict[str, int] = {}
    ordered = []
    for place, failure in enumerate(failures):
        turn = turns[failure.kind] = turns.get(failure.kind, 0) + 1
        ordered.append((turn, place))
    return [failures[place] for _, place in sorted(ordered)[:most]]


# --- the checks: None if they do not apply to an input, an empty text if it passes ------------------------------------


def _lost(case: Case) -> str | None:
    """Return the spans that the translation lacks."""
    if not case.keep:
        return None
    return " ".join(span for span in case.keep if not _kept(span, case.output))


def _kept(span: str, output: str) -> bool:
    if span.isdecimal():
        missing, _ = unmatched(span, output)
        return not missing
    return span in output


def _other_case(case: Case) -> str | None:
    """Return the expected case of a translation if it has another; compares only letters of scripts with case."""
    letters = [char for char in case.output if _cased(char)]
    if case.kind in ("upper", "upper word"):
        if len(letters) < LEAST_LETTERS:  # a script without case, or an empty translation, which another check counts
            return None
        return "" if _in_capitals(case.output) else "capitals"
    if case.kind == "plain" and not _in_capitals(case.source):
        if len(letters) < LEAST_LETTERS:
            return None
        return "no capitals" if _in_capitals(case.output) else ""
    if case.kind == "title" and case.source[0].isupper() and _cased(case.output[:1]):
        return "" if case.output[0].isupper() else "a capital at the beginning"
    return None


def _in_capitals(text: str) -> bool:
    letters = [char for char in text if _cased(char)]
    upper = sum(map(str.isupper, letters))
    return len(letters) >= LEAST_LETTERS and upper >= CAPITALS * len(letters)


def _cased(char: str) -> bool:
    return char.isupper() or char.islower()


def _other_output(case: Case, cases: Sequence[Case]) -> str | None:
    """Return the expected translation of an input if its translation differs."""
    if case.of is None:
        return None
    expected = cases[case.of].output
    if case.kind == "again":
        return "" if case.output == expected else expected or "empty"
    if case.kind == "twice":
        return "" if _words(case.output) == 2 * _words(expected) else f"{expected} {expected}"
    if case.kind in SAME_WORDS:
        return "" if _words(case.output) == _words(expected) else expected or "empty"
    return None


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.casefold())


def _refused(case: Case, guards: Guards) -> str:
    """Return the guard that refuses a translation; capitals are lower-cased, since guards misjudge them."""
    source, output = case.source, case.output
    if case.kind in ("upper", "title", "upper word"):
        source, output = source.lower(), output.lower()
    return guards.check(source, output) or ""
