"""Settings that a user brings: conf/local, own dev and test files, names that have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from kd.base.errors import UserError
from kd.recipe import compose
from kd.recipe.compose import register_schemas
from kd.recipe.schema import TrainConfig

FILES = ("recipe=files", "source=a.en", "target=a.de")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a corpus, a dev set and a test set."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "dev", "test"):
        for side in ("en", "de"):
            (tmp_path / f"{name}.{side}").write_text(f"{name} {side}\n", "utf-8")
    return tmp_path


def test_a_local_file_comes_after_the_groups_and_before_the_recipe(place: Path) -> None:
    (place / "conf" / "local").mkdir(parents=True)
    content = "# @package _global_\nstore: {dir: /scratch/store}\nlauncher: {threads: 7}\nshard: {lines: 5}\n"
    (place / "conf" / "local" / "default.yaml").write_text(content, "utf-8")
    config = compose.compose(compose.parse_request([*FILES, "launcher.processes=3"]))
    assert config.store.dir == "/scratch/store"
    assert (config.launcher.threads, config.launcher.processes) == (7, 3)
    assert config.shard.lines == 10_000  # recipes/files sets it


def test_own_dev_and_test_files_replace_held_out_sentences() -> None:
    own = ("dev.source=dev.en", "dev.target=dev.de", "test.source=test.en", "test.target=test.de")
    config = compose.compose(compose.parse_request([*FILES, *own]))
    found = {name: (source.use.name, source.source, source.target) for name, source in config.corpus.sources.items()}
    assert found == {
        "files": ("train", "a.en", "a.de"),
        "dev": ("dev", "dev.en", "dev.de"),
        "test": ("test", "test.en", "test.de"),
    }
    (collect,) = compose.plan(config).find("collect")
    assert {task.name for task in collect.tasks} == {"files", "dev", "test"}


def test_without_own_files_only_the_corpus_is_read() -> None:
    config = compose.compose(compose.parse_request(FILES))
    assert set(config.corpus.sources) == {"files"}
    dev_alone = compose.compose(compose.parse_request([*FILES, "dev.source=dev.tsv"]))
    assert set(dev_alone.corpus.sources) == {"files", "dev"}


def test_one_side_of_a_dev_set_is_an_error_that_names_it() -> None:
    config = compose.compose(compose.parse_request([*FILES, "dev.target=dev.de"]))
    with pytest.raises(UserError, match=r"corpus\.sources\.dev"):
        compose.plan(config)


def test_until_is_an_alias_of_upto() -> None:
    assert compose.parse_request([*FILES, "until=clean"]) == compose.parse_request([*FILES, "upto=clean"])


def test_every_group_has_a_registered_schema() -> None:
    register_schemas()
    node = ConfigStore.instance().load("teacher/schema.yaml").node
    assert node._metadata.object_type is TrainConfig


def test_a_wrong_key_in_a_file_of_a_group_names_the_file(place: Path) -> None:
    (place / "conf" / "student").mkdir(parents=True)
    (place / "conf" / "student" / "mine.yaml").write_text("modl: {width: 3}\n", "utf-8")
    with pytest.raises(UserError, match=r"student\.modl \(in student/mine\)\. Did you mean student\.model\?"):
        compose.compose(compose.parse_request([*FILES, "student=mine"]))
