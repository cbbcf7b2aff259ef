"""Every override that an error message proposes works when it is typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.cli import main
from kd.recipe import compose, overrides

SOURCE = "{format: plain, use: dev, source: a.en, target: a.de}"
STAGE = '{kind: train, over: pairs, inputs: {data: encode, teachers: teacher}, settings: "${student}"}'
APPTAINER = "Apptainer/1.2.4-GCCcore-12.3.0"


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small files in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.en").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "a.de").write_text("eins\nzwei\n", "utf-8")
    (tmp_path / "dict.txt").write_text("eins 1\n", "utf-8")


def plan(arguments: Sequence[str]) -> None:
    """Compose and plan a recipe, as every command about a run does; a sweep, every variant of it."""
    request = compose.parse_request([argument for argument in arguments if argument != "-m"])
    for each in compose.sweep(request) if "-m" in arguments else [request]:
        compose.plan(compose.compose(each))


def proposals(hint: str) -> list[list[str]]:
    """Return the overrides that a hint proposes, one list per alternative, split as a shell does."""
    found = []
    for sentence in re.split(r" or |[.;:] |, or ", hint):
        try:
            words = shlex.split(re.sub(r"[?.]$", "", sentence.strip()))
        except ValueError:
            continue
        typed = [word for word in words if re.match(r"[~+]*[a-z_]+[\w./@-]*=.|~[a-z]|-m$", word)]
        if typed:
            found.append(typed)
    return found


DEMO = ("recipe=demo",)
FILES = ("recipe=files", "source=a.en", "target=a.de")


@pytest.mark.parametrize(
    "arguments",
    [
        (*DEMO, f"+chain.student_b={STAGE}"),
        (*DEMO, f"+chain={{student_b: {STAGE}}}"),
        (*DEMO, f"chain={{student_b: {STAGE}}}"),
        (*DEMO, "+machine.modules.Apptainer=true"),
        (*DEMO, f"+machine.modules.{APPTAINER}=true"),
        (*DEMO, f"machine.modules={{{APPTAINER}: true}}"),
        (*DEMO, "+machine.binds./data=/data"),
        (*DEMO, "machine.binds={/data: /data}"),
        (*DEMO, "+evaluate.given.opus.mt=a.de"),
        (*FILES, f"+corpus.sources.dev={SOURCE}"),
        (*FILES, f"+corpus.sources.my.corpus={SOURCE}"),
        (*FILES, f"corpus.sources={{mydev: {SOURCE}}}"),
        (*DEMO, "select=mix", "select.mix={bleu: 1, chrf: 2}"),
        (*DEMO, "-m", f"+machine.modules.{APPTAINER}=true,false"),
        (*DEMO, "-m", "student=glob(tiny_4*)"),
    ],
)
def test_an_entry_with_a_name_of_its_own_is_added_on_the_command_line(arguments: tuple[str, ...]) -> None:
    plan(arguments)


def test_a_name_with_dots_and_slashes_is_one_name() -> None:
    typed = ("+evaluate.given.opus.mt=a.de", f"+machine.modules.{APPTAINER}=true", "+machine.binds./data=/data")
    config = compose.compose(compose.parse_request([*DEMO, *typed]))
    assert dict(config.evaluate.given) == {"opus.mt": "a.de"}
    assert dict(config.machine.modules) == {APPTAINER: True}
    assert dict(config.machine.binds) == {"/data": "/data"}


def test_a_field_of_a_new_entry_and_of_an_old_one_are_set_by_the_same_form() -> None:
    typed = (
        "+corpus.sources.mine.format=plain",
        "+corpus.sources.mine.source=a.en",
        "+corpus.sources.mine.target=a.de",
    )
    config = compose.compose(compose.parse_request([*FILES, *typed, "+corpus.sources.files.licence=CC0-1.0"]))
    assert (config.corpus.sources.mine.source, config.corpus.sources.files.licence) == ("a.en", "CC0-1.0")


MISTAKES = [
    ((*DEMO, "machine.modules.Apptainer=true"), 1),
    ((*DEMO, f"machine.modules.{APPTAINER}=true"), 1),
    ((*DEMO, "machine.binds./data=/data"), 1),
    ((*DEMO, "evaluate.given.opus.mt=a.de"), 1),
    ((*DEMO, "select.metrik=chrf"), 1),
    ((*DEMO, "student.lr=0.001"), 1),
    ((*DEMO, "student.learning_rate=0.001"), 1),
    ((*DEMO, "+teacher.max_updates=3000"), 1),
    ((*DEMO, "search.width=128"), 1),
    ((*DEMO, "+search.changes.max_update=900"), 1),
    ((*DEMO, "report.title=What? (a)"), 1),
    ((*DEMO, 'report.title=A "quoted" title'), 1),
    ((*DEMO, 'report.title=it\'s "so"'), 1),
    ((*DEMO, "report.title='a"), 1),
    ((*DEMO, "report.title=one, two"), 1),
    ((*DEMO, "student.checkpoint.every=20"), 1),
    ((*DEMO, "select.guards.copy=false"), 1),
    # The demo's student starts from its teachers' layers, so that no other shape goes with it.
    ((*FILES, "student=tiny_4_2,small_6_1"), 1),
    ((*FILES, "teacher=[tiny_3_3]"), 1),
    ((*FILES, "+pairs={en-de: {}}"), 2),
    ((*FILES, "pairs.en-de={}"), 1),
    ((*FILES, "clean.filters.length=5"), 1),
    ((*FILES, "test.source=a.en", "test.trg=a.de"), 1),
    ((*FILES, "dev.target=a.de", "valid.src=a.en"), 1),
    ((*FILES, "ckpt.keep=8"), 1),
    ((*FILES, "student.optimizer.learning_rate=0,002"), 1),
    ((*FILES, "student.optimizer.learning_rate='0,002'"), 1),
    ((*FILES, "pairs.source-target.src=en"), 1),
    ((*FILES, "pairs.source-target.source=english"), 1),
    ((*FILES, "pairs.source-target.target=jp"), 1),
    (("recipe=bilingual", "corpus.root=."), 1),
    (("demo",), 1),
]


@pytest.mark.parametrize(("arguments", "count"), MISTAKES)
def test_every_proposal_of_a_message_works_when_it_is_typed(arguments: tuple[str, ...], count: int) -> None:
    with pytest.raises(UserError) as caught:
        plan(arguments)
    found = proposals(caught.value.hint)
    assert len(found) >= count, caught.value
    for typed in found:
        if typed[0].startswith("~"):
            plan([*arguments, *typed])
        else:
            plan([*arguments[:-1], *typed])


# Settings that exclude each other: every proposal is typed beside them.
COMBINATIONS = [
    ((*DEMO, "student.distill.stored=true", "student.distill.alpha=0"), 2),
    ((*DEMO, "student.distill.stored=true", "student.distill.top=0"), 1),
    ((*DEMO, "student.init_from=a.en"), 2),  # the demo's student starts from layers
    ((*FILES, "checkpoint.metric=bleu", "checkpoint.keep_best=1", "student.validate_bleu=false"), 2),
    ((*FILES, "encode.tags=true"), 1),
    ((*FILES, "~pairs.source-target", "+pairs.english-german={}"), 1),
    ((*FILES, "evaluate.baseline=nosuch"), 1),
    ((*FILES, "chain=search", "student=tiny_from_search", "search.choose.metric=chrf",
      "evaluate.metrics.chrf=false"), 1),
    ((*FILES, "chain=search", "student=tiny_from_search", "search.choose.speed=all_cores",
      "evaluate.speed.all_cores=false"), 2),
    ((*FILES, "chain=search", "student=tiny_from_search", "+search.changes.init_from=a.en"), 1),
    ((*FILES, "student.from_search=true"), 1),
    ((*FILES, "chain=search", "student=tiny_from_search", "student.init_from=a.en"), 1),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "count"), COMBINATIONS)
def test_every_proposal_for_settings_that_exclude_each_other_works(arguments: tuple[str, ...], count: int) -> None:
    with pytest.raises(UserError) as caught:
        plan(arguments)
    found = proposals(caught.value.hint)
    assert len(found) >= count, caught.value
    for typed in found:
        plan([*arguments, *typed])


@pytest.mark.parametrize("key", ["test.src", "nosuch", "evaluate.nosuch", "select.bleus"])
def test_a_search_that_a_message_proposes_finds_something(key: str) -> None:
    with pytest.raises(UserError, match="There is no setting called") as caught:
        plan((*FILES, f"{key}=1"))
    if proposed := re.search("`kd settings (.*?)`", caught.value.hint):
        assert main(["settings", proposed[1]]) == 0


def test_a_group_without_files_in_conf_is_set_by_its_keys() -> None:
    with pytest.raises(UserError, match=r"test is a group of settings\. Set its keys: test\.source=… test\.target=…"):
        overrides.prepare(["test=test.en"])
