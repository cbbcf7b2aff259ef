"""Find raw files: paths, wildcards, and files inside zip and tar archives, which are read like folders.

Files found by different patterns belong together if their wildcards match the same text.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kd.base.errors import UserError
from kd.corpora.archives import Member, is_archive, members

Place = Path | Member
Key = tuple[str, ...]  # what the wildcards of a pattern matched

WILDCARD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?[^]]+\])")


def find(pattern: Path) -> dict[Key, Place]:
    """Return the files that match a pattern, keyed and sorted by the text that its wildcards matched.

    An existing path is returned unchanged, whatever its characters; a path without wildcards is returned even if it
    does not exist. `corpus.zip/*.en` matches files in an archive. Raises UserError for wildcards without a match.
    """
    if pattern.exists() or (not _has_wildcard(pattern) and _archive_of(pattern) is None):
        return {(): pattern}
    archive = _archive_of(pattern)
    inside: Sequence[Place]
    if archive is not None:
        inside = members(archive)
    else:
        names = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 -- Path.glob takes no absolute pattern
        inside = [path for name in names if (path := Path(name)).is_file()]
    matches = expression(str(pattern)).fullmatch
    found = {match.groups(): place for place in inside if (match := matches(str(place)))}
    if not found:
        nested = [str(place) for place in inside if archive is not None and is_archive(Path(str(place)))]
        raise UserError(f"No file matches {pattern}.{_nested(nested)}", "Check the path and its wildcards.")
    return dict(sorted(found.items()))


def _nested(names: Sequence[str]) -> str:
    """Return a hint about archives within an archive, which are not read."""
    return f" The archive holds another archive, {names[0]}: unpack the outer one." if names else ""


def find_aligned(patterns: Mapping[str, Path]) -> list[dict[str, Place]]:
    """Return the groups of files that belong together, by the name of their pattern (source, target, scores …).

    Raises UserError if the wildcards of one pattern match text that those of another do not.
    """
    return align({name: find(pattern) for name, pattern in patterns.items()}, patterns)


def align(found: Mapping[str, Mapping[Key, Place]], patterns: Mapping[str, Path | str]) -> list[dict[str, Place]]:
    """Group the files that each pattern found; raises the errors of `find_aligned`."""
    keys = list(dict.fromkeys(key for files in found.values() for key in files))
    for key in keys:
        if lacking := [name for name, files in found.items() if key not in files]:
            having = next(files[key] for files in found.values() if key in files)
            raise UserError(
                f"{having} has no partner: no file that matches {patterns[lacking[0]]} has "
                f"{', '.join(key) or 'an empty text'} in place of the wildcards.",
                "The wildcards of all sides must match the same text; correct the paths or add the file.",
            )
    return [{name: files[key] for name, files in found.items()} for key in sorted(keys)]


def on_disk(place: Place) -> Path:
    """Return the file on disk: the file itself, or its archive."""
    return place.archive if isinstance(place, Member) else place


def inside_archive(pattern: Path) -> str:
    """Return the part of a path inside an archive, judged by names alone; "" if the path enters no archive."""
    parts = pattern.parts
    depth = next((depth for depth, part in enumerate(parts[:-1], 1) if is_archive(Path(part))), len(parts))
    return "/".join(parts[depth:])


def within(place: Place, suffixes: Sequence[str]) -> list[Place]:
    """Return an archive's files with one of these endings, ignoring case; for any other file, the file itself."""
    if isinstance(place, Member) or not is_archive(place) or not place.is_file():
        return [place]
    inside = members(place)
    found: list[Place] = [member for member in inside if member.name.lower().endswith(tuple(suffixes))]
    if not found:
        nested = _nested([member.name for member in inside if is_archive(Path(member.name))])
        raise UserError(
            f"The archive {place} holds no {suffixes[0]} file.{nested}",
            f"Name a file in it: {place.name}/… .",
        )
    return found


def _has_wildcard(pattern: Path) -> bool:
    return WILDCARD.search(str(pattern)) is not None


def _archive_of(pattern: Path) -> Path | None:
    """Return the archive that a path enters, or None."""
    return next((path for path in pattern.parents if is_archive(path) and path.is_file()), None)


def expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression with a group for each wildcard; wildcards are those of `glob`."""
    wildcards = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    parts = []
    for part in WILDCARD.split(pattern):
        if part.startswith("[") and WILDCARD.fullmatch(part):
            parts.append(f"({part.replace('[!', '[^', 1).replace(chr(92), chr(92) * 2)})")
        else:
            parts.append(wildcards.get(part) or re.escape(part))
    return re.compile("".join(parts), re.DOTALL)
