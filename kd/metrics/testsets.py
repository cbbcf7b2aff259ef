"""Test sets by sacreBLEU's names (sacreBLEU downloads each once to `~/.sacrebleu`), or given as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import UserError
from kd.base.text import did_you_mean


@dataclass(frozen=True)
class TestSet:
    """The files of a test set, aligned by line."""

    __test__ = False  # pytest takes classes of this name for tests

    source: Path | None
    references: tuple[Path, ...]


def named_test_set(name: str, language_pair: str) -> TestSet:
    """Return sacreBLEU's set of this name, fetched if needed. Raise UserError if it is unknown or cannot be fetched."""
    from sacrebleu.dataset import DATASETS
    from sacrebleu.utils import get_reference_files, get_source_file

    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS) or "`sacrebleu --list` lists them."
        raise UserError(f"sacreBLEU has no test set {name}.", hint)
    pairs = DATASETS[name].langpairs
    if language_pair not in pairs:
        raise UserError(f"sacreBLEU's test set {name} has no {language_pair}.", f"It has: {', '.join(sorted(pairs))}.")
    try:
        source = Path(get_source_file(name, language_pair))
        references = tuple(map(Path, get_reference_files(name, language_pair)))
    except (Exception, SystemExit) as error:  # it exits if a certificate or a checksum is wrong
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"sacreBLEU's test set {name} is not in the cache and could not be downloaded: {reason}.",
            "Run the command once on a computer with a network and copy ~/.sacrebleu, or give --source and "
            "--reference.",
        ) from error
    return TestSet(source, references)
