"""Writing a digest into a definition. The registry that is asked for it is a real one in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.container import definitions, pinning
from kd.container.pinning import Pin

DIGEST = "sha256:" + "ab" * 32
PIN = Pin("debian:bookworm-slim", DIGEST, "crane digest debian:bookworm-slim", "2026-11-21")


@pytest.mark.parametrize(
    ("tag", "base"),
    [
        ("debian:bookworm-slim", "debian"),
        ("debian", "debian"),
        ("host:5000/team/base:1", "host:5000/team/base"),
        ("host:5000/team/base", "host:5000/team/base"),
    ],
)
def test_a_digest_takes_the_tags_place(tag: str, base: str) -> None:
    assert Pin(tag, DIGEST, "", "").base == f"{base}@{DIGEST}"


def test_both_stages_are_pinned_and_the_command_is_told(tmp_path: Path) -> None:
    text = definitions.find("cpu").path.read_text("utf-8")
    once = pinning.rewritten(text, PIN)
    assert once.count(f"BASE=debian@{DIGEST}") == 2
    assert "A tag, no digest" not in once
    assert "# The digest of debian:bookworm-slim on 2026-11-21, by `crane digest debian:bookworm-slim`." in once
    assert once.replace(DIGEST, "") != text
    assert pinning.rewritten(once, PIN) == once
    path = tmp_path / "kd-cpu.def"
    path.write_text(once)
    # Asked again, it is the tag that is looked up, not the digest.
    assert pinning._tag(definitions.read(path)) == "debian:bookworm-slim"


def test_without_a_program_that_asks_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="Install one of skopeo, crane, regctl, docker"):
        pinning.resolve("debian:bookworm-slim")


def test_what_is_no_digest_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "crane"
    program.write_text("#!/bin/sh\necho 'unauthorized' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(pinning, "RESOLVERS", {"crane": (["crane", "digest"], "")})
    with pytest.raises(UserError, match="crane does not resolve debian:12: unauthorized"):
        pinning.resolve("debian:12")
