"""Implement `kd container pin`: replace the tag of a definition's base image by its current digest.

A tag may name another image tomorrow; a digest cannot. skopeo, crane, regctl or docker queries the registry.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime

from kd.base.errors import UserError
from kd.base.files import write_text
from kd.container.definitions import Definition

# program -> the beginning of its command line, and the prefix of the reference
RESOLVERS = {
    "skopeo": (["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}"], "docker://"),
    "crane": (["crane", "digest"], ""),
    "regctl": (["regctl", "image", "digest"], ""),
    "docker": (["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}"], ""),
}
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_BASE = re.compile(r"^(\s*)BASE=(.*)$")
_NOTE = re.compile(r"^\s*# (A tag, no digest:|The digest of) ")


@dataclass(frozen=True)
class Pin:
    """A tag and its digest."""

    tag: str  # debian:bookworm-slim
    digest: str  # sha256:…
    command: str
    day: str

    @property
    def base(self) -> str:
        """The new base of the definition; a reference has a tag or a digest, not both."""
        name, colon, _ = self.tag.rpartition(":")
        return f"{name if colon and '/' not in self.tag.rpartition(':')[2] else self.tag}@{self.digest}"


def pin(definition: Definition, tag: str | None = None, options: tuple[str, ...] = ()) -> Pin:
    """Resolve a base and write its digest into the definition's stages, with the command that resolved it.

    Args:
        definition: The definition to change.
        tag: A base other than the definition's, or the tag to resolve again if the definition has a digest.
        options: Passed to the program that queries the registry, such as --tls-verify=false.

    Raises:
        UserError: The tag cannot be resolved, or the definition cannot be written.
    """
    tag = tag or _tag(definition)
    found = resolve(tag, options)
    text = definition.path.read_text("utf-8")
    try:
        write_text(definition.path, rewritten(text, found))
    except OSError as error:
        raise UserError(f"{definition.path} cannot be written: {error.strerror}.", "Pin in a checkout of kd.") from None
    return found


def resolve(tag: str, options: tuple[str, ...] = ()) -> Pin:
    """Resolve a tag by the first of RESOLVERS that is installed; raise UserError if that fails."""
    program = next(filter(shutil.which, RESOLVERS), None)
    if program is None:
        raise UserError(
            f"No program on this computer can query a registry for {tag}.", f"Install one of {', '.join(RESOLVERS)}."
        )
    start, scheme = RESOLVERS[program]
    command = [*start, *options, f"{scheme}{tag}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    digest = done.stdout.strip()
    if done.returncode != 0 or not _DIGEST.match(digest):
        why = (done.stderr.strip() or digest or f"status {done.returncode}").split("\n")[-1]
        raise UserError(
            f"{program} does not resolve {tag}: {why}", "Check the tag, and that this computer can reach the registry."
        )
    return Pin(tag, digest, shlex.join(command), f"{datetime.now(UTC):%Y-%m-%d}")


def rewritten(text: str, found: Pin) -> str:
    """Return a definition with the digest in each BASE=, and a comment on its origin above the first one."""
    lines: list[str] = []
    told = False
    for line in text.split("\n"):
        match = _BASE.match(line)
        if _NOTE.match(line):
            continue
        if match:
            if not told:
                lines.append(f"{match[1]}# The digest of {found.tag} on {found.day}, by `{found.command}`.")
                told = True
            line = f"{match[1]}BASE={found.base}"
        lines.append(line)
    return "\n".join(lines)


def _tag(definition: Definition) -> str:
    if "@" not in definition.base:
        return definition.base
    note = re.search(r"# The digest of (\S+) on ", definition.path.read_text("utf-8"))
    if note is None:
        raise UserError(f"{definition.path.name} has a digest without its tag.", "Name it by --tag.")
    return note[1]
