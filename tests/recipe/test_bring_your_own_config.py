"""Recipes with external teachers and lists: their plans, and mistakes that are found before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.base.errors import UserError
from kd.launch.servers import check_servers
from kd.pipeline.plan import Plan
from kd.recipe import compose

TEACHERS, LISTS = "chain=given_teachers", "chain=given_lists"
URL = "http://models.example/v1"
SERVER = f"engine: endpoint, url: '{URL}', model: x"
TWO = f"+teachers={{a: {{{SERVER}}}, b: {{{SERVER}}}}}"
MIXED = "+mixture={a: {}, b: {}}"
ENDPOINT = f"+teachers={{a: {{{SERVER}}}}}"
SAMPLE = ["decode.method=sample", "student.distill.alpha=0", "student.distill.stored=false",
          "student.start.layers=false"]  # fmt: skip
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
        ([TEACHERS, "+teachers={a: {engine: ctranslate2, model: x, compute_type: int9}}"], "compute_type is 'int9'"),
        ([TEACHERS, "+teachers={a: {engine: marian, model: x}}"], "Choose one of"),
        ([TEACHERS, "+teachers={a: {engine: endpoint, model: x}}"], "teachers.a.url is not set"),
        ([TEACHERS, f"+teachers={{a: {{engine: endpoint, url: '{URL}'}}}}"], "teachers.a must name exactly one model"),
        ([TEACHERS, f"+teachers={{a: {{model: x, url: '{URL}'}}}}"], "a.url has no effect with engine fairseq"),
        ([TEACHERS, TWO], "decode.en-de has an endpoint among several teachers, but only fairseq models decode as an"),
        ([TEACHERS, TWO], "'+mixture={a: {decode: {method: sample}}, b: {decode: {method: sample}}}'"),
        (["+mixture={a: {}}"], "mixture names given teachers, but the chain does not decode with any. Set chain="),
        ([TEACHERS, TWO, "+mixture={c: {}}"], "no teacher (named by mixture.c) called c. There are: a, b"),
        ([TEACHERS, TWO, "+mixture={c: {teachers: {a: true, bb: true}}}"], "(named by mixture.c) called bb. "),
        ([TEACHERS, TWO, "+mixture={a: {decode: {share: 0.5}}}"], "mixture.a.decode cannot set share. Set decode."),
        ([TEACHERS, TWO, "+mixture={a: {decode: {bem: 5}}}"], "Did you mean mixture.a.decode.beam?"),
        ([TEACHERS, TWO, "+mixture={a: {}}"], "decode_a.en-de cannot use decode.method=beam with decode.beam=4"),
        ([TEACHERS, TWO, *SAMPLE, MIXED, "select.metric=model"], "no teacher of the mixture can score hypotheses"),
        ([TEACHERS, ENDPOINT], "has no beam search: decode.en-de cannot use decode.method=beam with decode.beam=4"),
        ([TEACHERS, ENDPOINT, "decode.method=diverse"], "Set decode.method=sample for several samples"),
        ([TEACHERS, ENDPOINT, "decode.method=sample"], "is behind a server, which returns only text"),
        ([TEACHERS, ENDPOINT, *SAMPLE, "select.metric=model"], "server of decode.en-de returns none"),
        (["decode.method=sample", "decode.top_p=0.9"], "top_p is 0.9, but teachers of fairseq do not read it"),
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


def test_a_converted_teacher_samples_and_has_no_diverse_beam_search(tmp_path: Path) -> None:
    (tmp_path / "opus").mkdir()
    (tmp_path / "opus" / "config.json").write_text("{}", "utf-8")
    teachers = f"+teachers={{a: {{engine: ctranslate2, model: '{tmp_path}/opus'}}}}"
    given = [TEACHERS, teachers, *SAMPLE[1:]]
    with pytest.raises(UserError, match=r"a is translated by CTranslate2, which has no diverse beam"):
        plan(tmp_path, *given, "decode.method=diverse")
    plan(tmp_path, *given, "decode.method=sample", "decode.top_p=0.9")


def test_adding_a_member_to_a_mixture_leaves_the_decoding_of_the_others_as_it_is(tmp_path: Path) -> None:
    def planned(mixture: str, *more: str) -> Plan:
        return plan(tmp_path, TEACHERS, TWO, *SAMPLE, f"+mixture={mixture}", "students.one_teacher=true", *more)

    one, both = planned("{a: {}}"), planned("{a: {}, b: {decode: {nbest: 2}}}")
    first = "decode_a.en-de", "worker-0"
    assert both.task(*first).fingerprint == one.task(*first).fingerprint
    assert both.task("decode.en-de", "worker-0").fingerprint != one.task("decode.en-de", "worker-0").fingerprint
    assert both.find("decode_b")[0].config.nbest == 2
    joined = both.task("decode.en-de", "worker-1")
    assert [(item.label, item.task.full_name) for item in joined.inputs["lists"]] == [
        ("a", "decode_a.en-de/worker-1"), ("b", "decode_b.en-de/worker-1"),
    ]  # fmt: skip
    assert joined.inputs["teachers"] == [], "a server scores no given text"
    assert [stage.name for _, stage in both.find("select_one")[0].inputs["lists"]] == ["decode_a.en-de"]
    systems = {task.name for task in both.find("translate")[0].tasks}
    assert {"teacher-a", "teacher-b"} <= systems
    assert "teacher-ensemble" not in systems


def test_a_teacher_of_another_pair_is_refused(tmp_path: Path) -> None:
    given = [TEACHERS, ENDPOINT, *SAMPLE, "+pairs.de-en={}", "chain.decode.inputs.teachers=teacher.de-en"]
    with pytest.raises(
        UserError, match=r"decode\.en-de translates en-de, and teacher\.de-en belongs to de-en\. Set chain"
    ):
        plan(tmp_path, *given)


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


def test_the_address_of_a_server_does_not_change_a_teacher_and_its_prompt_does(tmp_path: Path) -> None:
    def fingerprint(**settings: object) -> str:
        values = {"engine": "endpoint", "model": "x", "url": f"'{URL}'", **settings}
        teacher = ", ".join(f"{name}: {value}" for name, value in values.items())
        made = plan(tmp_path, TEACHERS, *SAMPLE, f"+teachers={{a: {{{teacher}}}}}")
        return made.task("decode.en-de", "worker-0").fingerprint

    first = fingerprint()
    moved = {"url": "'http://localhost:1/v1'", "timeout": 9, "input_price": 2.5, "key": "OTHER", "concurrency": 1}
    assert fingerprint(**moved) == first
    for other in ({"model": "y"}, {"prompt": "'{source}'"}, {"examples": 2}):
        assert fingerprint(**other) != first


def test_examples_are_drawn_from_dev(tmp_path: Path) -> None:
    with_examples = plan(tmp_path, TEACHERS, *SAMPLE, f"+teachers={{a: {{{SERVER}, examples: 3}}}}")
    assert [task.stage.name for task in with_examples.find("teacher")[0].tasks[0].upstream()] == ["split"]
    without = plan(tmp_path, TEACHERS, *SAMPLE, ENDPOINT)
    assert not list(without.find("teacher")[0].tasks[0].upstream())


@pytest.mark.parametrize(
    ("url", "settings", "refused"),
    [
        (URL, ["machine.online=false"], True),
        (URL, ["machine.online=false", "machine.resources.decode.online=true"], False),
        (URL, ["machine.online=true"], False),
        ("http://localhost:8000/v1", ["machine.online=false"], False),
    ],
)
def test_nodes_without_a_network_are_found_when_the_run_is_planned(
    tmp_path: Path, url: str, settings: list[str], refused: bool
) -> None:
    teacher = f"+teachers={{a: {{engine: endpoint, url: '{url}', model: x}}}}"
    machine = ["machine=meluxina", "machine.account=p1", *settings]
    place = [f"store.dir={tmp_path}/s", f"run.dir={tmp_path}/r"]
    config = compose.compose(compose.parse_request(["recipe=demo", *place, TEACHERS, *SAMPLE, teacher, *machine]))
    description = OmegaConf.to_object(config.machine)
    if not refused:
        check_servers(compose.plan(config).stages, description)
        return
    with pytest.raises(
        UserError, match=r"decode\.en-de needs http://models.* class decode on meluxina do not reach"
    ) as error:
        check_servers(compose.plan(config).stages, description)
    assert "machine.resources.decode.online=true" in error.value.hint


def test_a_server_is_not_measured_for_speed(tmp_path: Path) -> None:
    made = plan(tmp_path, TEACHERS, *SAMPLE, ENDPOINT)
    measured = {task.full_name.partition("/")[0] for task in made.task("speed.en-de", "all").upstream()}
    assert measured == {"split", "student.en-de", "control.en-de", "export.en-de"}


def test_given_teachers_need_no_training_and_given_lists_no_teachers(tmp_path: Path) -> None:
    for file in ("model.pt", "dict.txt", "vocabulary.model", "lists"):
        (tmp_path / file).write_text(file, "utf-8")
    teachers = plan(tmp_path, TEACHERS, f"+given_models.members={{a: {{folder: '{tmp_path}'}}}}")
    (teacher,) = teachers.find("teacher")
    assert [task.name for task in teacher.tasks] == ["member-a"]
    assert not list(teacher.tasks[0].upstream())  # held-out sets only for the examples of prompts
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
