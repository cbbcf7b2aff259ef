"""Recipes with external teachers and lists: their plans, and mistakes that are found before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan
from kd.recipe import compose

TEACHERS, LISTS = "chain=given_teachers", "chain=given_lists"
CHECKPOINT = "+given_models.members={a: {checkpoint: a.pt}}"


def plan(place: Path, *overrides: str) -> Plan:
    """Of the demo, with the store in this folder."""
    arguments = ["recipe=demo", f"store.dir={place}/store", f"run.dir={place}/run", *overrides]
    return compose.plan(compose.compose(compose.parse_request(arguments)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([TEACHERS], "teachers is empty"),
        ([TEACHERS, "+given_models.members={ensemble: {folder: x}}"], "cannot be called 'ensemble'"),
        ([TEACHERS, "+given_models.members={a-b: {folder: x}}"], "cannot be called 'a-b'"),
        ([TEACHERS, "+given_models.members={a: {}}"], "teachers.a must name exactly one model"),
        ([TEACHERS, "+given_models.members={a: {folder: x, checkpoint: y}}"], "teachers.a must name exactly one model"),
        ([TEACHERS, "+given_models.members={a: {folder: x}}"], "x. Give the folder of an exported or trained model"),
        ([TEACHERS, "+teachers={a: {model: x}}"], "x. Give the folder of an exported or trained model"),
        ([TEACHERS, "+teachers={a: {model: x.pt}}"], "given_models has neither vocabulary nor codes"),
        ([TEACHERS, "+teachers={a: {model: x, prefix: y}}"], "teachers.a.prefix has no effect with engine fairseq"),
        ([TEACHERS, "+teachers={a: {engine: ctranslate2, model: x}}"], ": `hf download NAME --local-dir "),
        ([TEACHERS, "+teachers={a: {engine: ctranslate2, model: x}, b: {model: y}}"], "Name a single teacher"),
        ([TEACHERS, "+teachers={a: {engine: ctranslate2, model: x, compute_type: int9}}"], "compute_type is 'int9'"),
        ([TEACHERS, "+teachers={a: {engine: marian, model: x}}"], "Choose one of"),
        ([TEACHERS, CHECKPOINT], "given_models has neither vocabulary nor codes"),
        ([TEACHERS, CHECKPOINT, "given_models.vocabulary=v"], "checkpoints without a dictionary"),
        ([TEACHERS, CHECKPOINT, "given_models.vocabulary=v", "given_models.source_dictionary=d"], "without a"),
        (
            [TEACHERS, CHECKPOINT, "given_models.vocabulary=v", "given_models.dictionary=d",
             "given_models.target_dictionary=d"],
            "but source_dictionary or target_dictionary is also set",
        ),
        ([LISTS], "given_lists.files is empty"),
        ([LISTS, "+given_lists.files={a: {file: x}}"], "x does not exist"),
        ([LISTS, "+given_lists.files={a: {file: x, format: mosses}}"], "Did you mean moses"),
        ([LISTS, "+given_lists.files={a: {file: x, ids: rows}}"], "ids is not valid: rows. Choose one of"),
        ([LISTS, "+given_lists.files={a: {file: x, first: -1}}"], "files.a.first is -1. It must be at least 0"),
        ([LISTS, "+given_lists.files={a: {file: x}}", "given_lists.on_missing=drop"], "on_missing is not valid: drop"),
        ([LISTS, "+given_lists.files={a: {file: x}}", "given_lists.workers=0"], "workers is 0. It must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_name_their_key(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(tmp_path, *overrides)
    assert message in str(caught.value)


def test_a_hugging_face_model_without_its_engine_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "opus").mkdir()
    (tmp_path / "opus" / "config.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match=r"is a Hugging Face model\. Set the teacher's `engine: ctranslate2`"):
        plan(tmp_path, TEACHERS, f"+teachers={{a: {{model: '{tmp_path}/opus'}}}}")


def test_the_path_of_a_model_does_not_change_its_fingerprint(tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> str:
        members = f"+given_models.members={{a: {{folder: '{folder}'}}}}"
        return plan(tmp_path, TEACHERS, members).task("decode.en-de", "worker-0").fingerprint

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        for file in ("model.pt", "dict.txt", "vocabulary.model"):
            (tmp_path / name / file).write_text(file, "utf-8")
    before = fingerprint(tmp_path / "here")
    assert fingerprint(tmp_path / "there") == before
    (tmp_path / "there" / "model.pt").write_text("another", "utf-8")
    assert fingerprint(tmp_path / "there") != before


def test_given_teachers_need_no_training_and_given_lists_no_teachers(tmp_path: Path) -> None:
    for file in ("model.pt", "dict.txt", "vocabulary.model", "lists"):
        (tmp_path / file).write_text(file, "utf-8")
    teachers = plan(tmp_path, TEACHERS, f"+given_models.members={{a: {{folder: '{tmp_path}'}}}}")
    (teacher,) = teachers.find("teacher")
    assert [task.name for task in teacher.tasks] == ["member-a"]
    assert not teacher.inputs
    lists = plan(tmp_path, LISTS, f"+given_lists.files={{a: {{file: '{tmp_path}/lists'}}}}", "given_lists.workers=3")
    assert "teacher.en-de" not in [stage.name for stage in lists.stages]
    (decode,) = lists.find("decode")
    assert (decode.kind.name, len(decode.tasks)) == ("given_lists", 3)
    assert sorted(decode.inputs) == ["collected", "corpus"]
    # The demo's student learns token distributions and starts from a teacher, and here are no teachers.
    for name in ("student", "control"):
        (stage,) = lists.find(name)
        assert (stage.config.distill.alpha, stage.config.start.layers) == (0, False)
        assert list(stage.tasks[0].inputs) == ["data"]
