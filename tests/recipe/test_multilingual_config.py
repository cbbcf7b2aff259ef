"""Multilingual recipes: their plans, and mistakes that are found before anything runs."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.plan import Plan
from kd.recipe import compose

SMALL = {"da_de_nl_sv_en_small": ("da", "de", "nl", "sv"), "fi_hu_en_small": ("fi", "hu")}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files of the names that the small recipes read."""
    for languages in SMALL.values():
        for language in languages:
            for side in ("en", language):
                with gzip.open(tmp_path / f"en-{language}.{side}.gz", "wt", encoding="utf-8") as handle:
                    handle.write(f"one two three {language}\n")
    return tmp_path


def plan(recipe: str, place: Path, *overrides: str) -> Plan:
    arguments = [f"recipe={recipe}", f"store.dir={place}/store", f"run.dir={place}/run", f"corpus.root={place}"]
    return compose.plan(compose.compose(compose.parse_request([*arguments, *overrides])))


def one_to_many(place: Path, *overrides: str) -> Plan:
    """A recipe of one's own that stands on the small one's settings."""
    recipe = place / "mine" / "recipe.yaml"
    recipe.parent.mkdir(exist_ok=True)
    pairs = "pairs: {en-da: {}, en-sv: {}}\ncorpus: {sources: {libreoffice: {source: 'en-{target}.en.gz', "
    recipe.write_text(
        "defaults: [/da_de_nl_sv_en_small/settings@_global_, _self_]\n"
        f"{pairs}target: 'en-{{target}}.{{target}}.gz'}}}}}}\n",
        "utf-8",
    )
    return plan(str(recipe), place, *overrides)


@pytest.mark.parametrize("recipe", SMALL)
def test_one_student_for_all_pairs_and_one_for_each(recipe: str, corpus: Path) -> None:
    made, count = plan(recipe, corpus), len(SMALL[recipe])
    names = [stage.name for stage in made.stages]
    assert {"vocabulary", "encode_multi", "encode_multi_gold", "student", "control", "export", "release_multi"} < {
        *names
    }
    for stage in ("teacher", "decode", "select", "bilingual", "translate", "speed", "evaluate", "release"):
        assert len(made.find(stage)) == count, stage
    (student,), (control,) = made.find("student"), made.find("control")
    assert student.config.distill.stored and not control.config.distill.alpha
    assert replace(student.config, distill=control.config.distill) == control.config
    model = {stage.config.model.width for stage in made.find("bilingual")} | {student.config.model.width}
    assert len(model) == 1
    # The multilingual student is judged on the test set of each pair.
    translated = {task.full_name for task in made.tasks() if task.stage.spec.name == "translate"}
    if recipe == "da_de_nl_sv_en_small":
        (encode,) = made.find("encode_multi")
        assert encode.config.balance.budget == student.config.max_update * student.config.batch.target_tokens
    wanted = {"student", "control", "bilingual", "student-int8", "teacher-ensemble"}
    assert {f"translate.{lang}-en/{name}" for lang in SMALL[recipe] for name in wanted} < translated


@pytest.mark.parametrize("recipe", ["da_de_nl_sv_en", "fi_hu_en"])
def test_large_recipes_are_planned_for_their_machine(recipe: str, tmp_path: Path) -> None:
    made = plan(recipe, tmp_path, "machine=meluxina", "launcher=slurm", "machine.account=p200000")
    pairs = len(made.find("teacher"))
    assert [len(stage.tasks) for stage in made.find("teacher")] == [4] * pairs
    (student,), (encode,) = made.find("student"), made.find("encode_multi")
    assert encode.config.balance.budget == student.config.max_update * student.config.batch.target_tokens


def test_shared_sentences_are_joined_if_enabled(corpus: Path) -> None:
    def source_of_encode(*overrides: str) -> set[str]:
        (encode,) = plan("fi_hu_en_small", corpus, *overrides).find("encode_multi")
        return {stage.name for _, stage in encode.inputs["corpus"]}

    assert source_of_encode() == {"select.fi-en", "select.hu-en"}
    assert source_of_encode("chain.join.enabled=true") == {"join"}


def test_several_targets_need_tags(corpus: Path) -> None:
    with pytest.raises(UserError, match=r"several target languages \(da, sv\).*vocabulary\.tags to true"):
        one_to_many(corpus)
    made = one_to_many(corpus, "vocabulary.tags=true")
    tagged = {stage.name for stage in made.stages if stage.kind.name == "encode" and stage.config.tags}
    assert tagged == {"encode_multi", "encode_multi_gold"}  # teachers and bilingual students are not told
    further = ["vocabulary.tags=true", "students.finetuned=true", "students.in_domain=true"]
    made = one_to_many(corpus, *further, "+in_domain.libreoffice=true")
    for stage in (*made.find("finetuned"), *made.find("in_domain")):  # which go on from the tagged student
        ((_, data),) = stage.inputs["data"]
        assert data.config.tags and data.axis == stage.axis
    assert not any(data.config.tags for stage in made.find("teacher") for _, data in stage.inputs["data"])
    with pytest.raises(UserError, match=r"needs tags, but its vocabulary has none.*vocabulary\.tags=true"):
        one_to_many(corpus, "chain.encode_multi.changes.tags=true", "chain.encode_multi_gold.changes.tags=true")
    with pytest.raises(UserError, match=r"vocabulary means several|vocabulary\.over"):
        one_to_many(corpus, "vocabulary.tags=true", "chain.vocabulary.over=pairs")


def test_weights_name_the_language_pairs(corpus: Path) -> None:
    given = ["encode.balance.method=weights", "chain.join.enabled=true", "+encode.balance.weights.fi-en=1"]
    with pytest.raises(UserError, match="weights has fi-en, hu-fi, but the language pairs are fi-en, hu-en"):
        plan("fi_hu_en_small", corpus, *given, "+encode.balance.weights.hu-fi=2")
    made = plan("fi_hu_en_small", corpus, *given, "+encode.balance.weights.hu-en=2")
    (encode,) = made.find("encode_multi")
    assert encode.tasks[0].identity["balance"] == {"method": "weights", "weights": {"fi-en": 1, "hu-en": 2}}


def test_teachers_of_other_runs_replace_the_training(corpus: Path) -> None:
    for language in SMALL["fi_hu_en_small"]:
        folder = corpus / f"runs/bilingual.{language}-en/teacher.{language}-en/member-1"
        folder.mkdir(parents=True)
        for name in ("model.pt", "dict.txt", "vocabulary.model"):
            (folder / name).write_text(f"{name} {language}", "utf-8")
    members = "{a: {folder: 'runs/bilingual.{source}-{target}/teacher.{source}-{target}/member-1'}}"
    made = plan("fi_hu_en_small", corpus, "chain=multilingual_given_teachers", f"given_models.root={corpus}",
                f"+given_models.members={members}")  # fmt: skip
    teachers = [task for stage in made.find("teacher") for task in stage.tasks]
    assert [task.full_name for task in teachers] == ["teacher.fi-en/member-a", "teacher.hu-en/member-a"]
    assert len({task.fingerprint for task in teachers}) == 2  # each pair has its own files


def test_settings_that_are_off_change_no_fingerprint(corpus: Path) -> None:
    """A recipe without tags and shares has the identities that it had before there were any."""
    made = plan("fi_hu_en_small", corpus, "shard.share=1")
    (vocabulary,), (encode, *_), (shard, *_) = (made.find(name) for name in ("vocabulary", "encode", "shard"))
    assert "tags" not in vocabulary.tasks[0].identity and "tags" not in encode.tasks[0].identity
    assert "share" not in shard.tasks[0].identity


def test_a_student_of_several_pairs_learns_the_distributions_of_each_pairs_teachers(corpus: Path) -> None:
    words = ["student.distill.alpha=0.5", "student.distill.top=8", "student.distill.stored=true", "soften.workers=1"]
    made = plan("fi_hu_en_small", corpus, *words)
    [soften] = made.find("soften_multi")
    read = {role: [item.task.full_name for item in items] for role, items in soften.tasks[0].inputs.items()}
    assert read["data"] == ["encode_multi/all"]
    assert {name.partition("/")[0] for name in read["teachers"]} == {"teacher.fi-en", "teacher.hu-en"}
    [student] = made.find("student")
    assert [item.task for item in student.tasks[0].inputs["distributions"]] == soften.tasks
    [first, second] = made.find("bilingual")
    assert [item.task.stage.name for item in first.tasks[0].inputs["distributions"]] == ["soften.fi-en"]
    assert [item.task.stage.name for item in second.tasks[0].inputs["distributions"]] == ["soften.hu-en"]
    one = plan("fi_hu_en_small", corpus, *words, "soften.members=1").find("soften_multi")[0].tasks[0]
    assert [item.task.full_name for item in one.inputs["teachers"]] == [
        "teacher.fi-en/member-1",
        "teacher.hu-en/member-1",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "student.distill.stored=false",
            r"learns token distributions in each update, {pairs}. "
            r"Set student.distill.stored=true student.distill.top=8",
        ),
        ("student.start.layers=true", r"starts from layers of a teacher, {pairs}. Set student.start.layers=false"),
    ],
)
def test_a_student_of_several_pairs_neither_asks_teachers_in_each_update_nor_starts_from_one(
    corpus: Path, override: str, said: str
) -> None:
    pairs = r"but its teachers are of several language pairs \(fi-en, hu-en\)"
    with pytest.raises(UserError, match=said.format(pairs=pairs)):
        plan("fi_hu_en_small", corpus, override)
