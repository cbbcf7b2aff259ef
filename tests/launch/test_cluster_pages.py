"""The pages of docs/clusters: their commands work as typed, and each page states what a newcomer needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kd.launch.slurm.script import resources
from kd.pipeline.plan import Plan
from kd.recipe import compose
from kd.run.commands import cluster_machine

PAGES = Path(__file__).parents[2] / "docs" / "clusters"
SITES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "index")
# Words in capitals that a reader replaces.
ACCOUNT = re.compile(r"\b(project_NUMBER|PROJECT|ACCOUNT|BUDGET)\b")


def commands(site: str) -> list[list[str]]:
    """Return the commands of a site's page as words, with the account p200000."""
    lines = re.findall(r"^    (.+)$", (PAGES / f"{site}.md").read_text("utf-8"), re.MULTILINE)
    return [shlex.split(ACCOUNT.sub("p200000", line)) for line in lines]


def test_every_cluster_has_a_page_and_every_page_is_in_the_index() -> None:
    machines = {path.stem for path in (PAGES.parents[1] / "conf" / "machine").glob("*.yaml")}
    assert set(SITES) == machines - {"localhost", "localhost_gpu", "daedalus"}
    index, nav = (PAGES / "index.md").read_text("utf-8"), (PAGES.parents[1] / "mkdocs.yml").read_text("utf-8")
    for site in SITES:
        assert f"]({site}.md)" in index and f"clusters/{site}.md" in nav


@pytest.mark.parametrize("site", SITES)
def test_a_page_leads_to_the_first_job_in_ten_commands(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = commands(site)
    assert len(typed) <= 10
    assert any("ssh" in words[0] for words in typed)
    assert [words[1] for words in typed if words[0] == "kd"][-3:] == ["doctor", "run", "status"]
    monkeypatch.chdir(tmp_path)
    for words in typed:
        if words[0] == "kd" and words[1] in ("run", "status", "doctor"):
            named = [] if any(word.startswith("recipe=") for word in words) else ["recipe=demo"]
            config = compose.compose(compose.parse_request([*named, *words[2:]]))
            if words[1] == "run" and str(config.launcher.kind) == "slurm":
                plan: Plan = compose.plan(config, {})
                for stage in plan.stages:
                    resources(cluster_machine(config), stage)  # the machine's file says what its jobs request


@pytest.mark.parametrize("site", SITES)
def test_a_page_states_what_a_newcomer_needs(site: str) -> None:
    text = (PAGES / f"{site}.md").read_text("utf-8")
    needed = ["python", "internet", "folders", "account", "login nodes|logins", "short queue|queues"]
    needed += [] if site == "discoverer" else ["driver", "image"]  # it has no GPUs for kd's stages, and no runtime
    for word in needed:
        assert re.search(word, text, re.IGNORECASE), word
    assert len(re.findall(r"\]\(https://", text)) >= 3, "facts link the site's pages"
