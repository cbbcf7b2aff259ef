"""Recipes are found, composed and planned; a mistake in a config is one sentence before anything runs."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from kd.base import resources
from kd.base.errors import UserError
from kd.cli import _parser, main
from kd.pipeline.run import Run
from kd.recipe import compose
from kd.recipe.schema import TeacherEngine

FILES = ("recipe=files", "source=a.en", "target=a.de")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, with two small files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.en").write_text("one\ntwo\n", "utf-8")
    (tmp_path / "a.de").write_text("eins\nzwei\n", "utf-8")
    return tmp_path


def planned(*arguments: str) -> list[str]:
    """The stages of a plan."""
    return [stage.name for stage in compose.plan(compose.compose(compose.parse_request(arguments))).stages]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["recipe=demoo"], "demo"),
        (["recipe=./nowhere"], "nowhere"),
        ([], "recipe=NAME"),
        (["recipe=demo", "selct.metric=chrf"], "selct"),
        (["recipe=demo", "select.metrik=chrf"], "mean select.metric"),
        (["recipe=demo", "+teacher.max_updates=3"], "mean teacher.max_update"),
        (["recipe=demo", "+teacher.widht=3"], "teacher.widht"),
        (["recipe=demo", "teacher.model.width=wide"], "teacher.model.width"),
        (["recipe=demo", "clean.filters.ratio.most={a: 1}"], "clean.filters.ratio.most"),
        (["recipe=demo", "clean.filters.ratio.most=much"], "Set it to a number. Its default is 3.0"),
        (["recipe=demo", "clean.filters.ratio.moost=2"], "mean clean.filters.ratio.most"),
        (["recipe=demo", "+clean.filters.ratio.slak=2"], "mean slack"),
        (["recipe=demo", "+clean.filters.numbrs={}"], "mean numbers"),
        (["recipe=demo", "+clean.filters.mine={kind: lenght}"], "mean length"),
        (["recipe=demo", "+clean.filters.mine={kind: score, least: 1}"], "clean.filters.mine: column"),
        (["recipe=demo", "clean.filters.numbers=true"], "clean.filters.numbers"),
        (["recipe=demo", "clean.filters.length.min_words=60"], "clean.filters.length: min_words"),
        (["recipe=demo", "clean.filters.normalise.quotes=curly"], "clean.filters.normalise.quotes"),
        (["recipe=demo", "clean.duplicates.by=id"], "clean.duplicates.by"),
        (["recipe=demo", "clean=strikt"], "mean strict"),
        (["recipe=demo", "split.dev=-5"], "split.dev is -5"),
        (["recipe=demo", "shard.lines=0"], "shard.lines is 0"),
        (["recipe=demo", "vocabulary.size=-5"], "vocabulary.size is -5"),
        (["recipe=demo", "student.checkpoint.every=20"], "To change all of them, type checkpoint.every=20"),
        (["recipe=demo", "select.guards.copy=false"], "To change all of them, type guards.copy=false"),
        (["recipe=demo", "teacher.optimizer.warmup_updates=9000"], "teacher: optimizer.warmup_updates"),
        (["recipe=demo", "+pairs={en-fr: {}}", "+corpus.sources.home_assistant.pairs={en-de: true}"], "read for en-fr"),
        (["recipe=files", "source=a.en", "target=a.de", "+pairs={en-de: {}}"], "'~pairs.source-target'"),
        ([*FILES, "pairs={en-de: {}}"], "pairs.source-target.source=en pairs.source-target.target=de"),
        (["recipe=demo", "device=cuda"], "mean machine.device=cuda"),
        (["recipe=demo", "select.mix.bleu=1"], "+select.mix.bleu=1"),
        (["recipe=demo", "search.width=101"], "search.width=[101]"),
        (["recipe=demo", "seed=two"], "valid: two. Set it to a whole number"),
        (["recipe=demo", "+chain.control.changes.members=two"], "control.changes.members is not valid: two. Set it to"),
        (["recipe=demo", "student.model={width: wide}"], "student.model.width is not valid: wide. Set it to a whole"),
        (["recipe=demo", "search.width={a: 1}"], "Write it as a list"),
        (["recipe=demo", "student.model=3"], "`kd settings student.model` lists them"),
        (["recipe=demo", "pairs=3"], "valid: 3. It takes a mapping"),
        (["recipe=demo", "seed=null"], "It cannot be null"),
        (["recipe=demo", "chain.control.enabled=maybe"], "Set it to true or false"),
        (["recipe=demo", "report.title=[a]"], "Set it to a text"),
        (["recipe=demo", "+search.changes.max_update=9"], "Leave out the + to change it: search.changes.max_update=9"),
        (["recipe=demo", "seed=1,2"], "add -m"),
        (["recipe=demo", "pairs={en-de"], "not closed. Close them, and quote the argument"),
        (["recipe=demo", "run.dir='a"], "not closed. Close them, and quote the argument"),
        (["recipe=demo", "run.dir=What? (a)"], "'run.dir=\"What? (a)\"'"),
        (["recipe=demo", "teacher.precision=fp8"], "teacher.precision is not valid: fp8. Choose one of: fp32, fp16"),
        (["recipe=demo", "teacher.model=null"], "teacher.model"),
        (["recipe=demo", "teacher=null"], "teacher"),
        (["recipe=demo", "teacher=[tiny_3_3]"], "teacher"),
        (["recipe=demo", "pairs=[en-de]"], "pairs"),
        (["recipe=demo", "pairs=null"], "pairs"),
        (["recipe=demo", "pairs.en-de=null"], "pairs.en-de"),
        (["recipe=demo", "chain.control=null"], "chain.control"),
        (["recipe=demo", "chain.control.inputs=null"], "chain.control.inputs"),
        (["recipe=demo", "chain.control.inputs=[encode]"], "chain.control.inputs"),
        (["recipe=demo", "chain.control.settings=[1]"], "chain.control.settings"),
        (["recipe=demo", "chain.control.inputs.data=[encode]"], "chain.control.inputs.data"),
        (["recipe=demo", "chain.control.kind=trane"], "train"),
        (["recipe=demo", "corpus.sources.home_assistant=null"], "corpus.sources.home_assistant"),
        (["recipe=demo", "corpus.sources=null"], "corpus.sources"),
        (["recipe=demo", "evaluate.main_set=held-out"], "mean held_out"),
        (["recipe=demo", "evaluate.worst=-1"], "evaluate.worst is -1"),
        (["recipe=demo", "split.test=0"], "no test set of en-de to score on"),
        (["recipe=en_de_general", "evaluate.main_set=genral"], "mean general"),
        (["recipe=bilingual"], "Add for instance pair=da-en; there are: da-en, de-en"),
        (["recipe=bilingual", "pair=fi-fi"], "mean fi-en"),
        (["recipe=demo", "~corpus.sources.home_assistant"], "corpus.sources"),
        (["recipe=demo", "teacher=huge"], "choice of teacher called huge"),
        (["recipe=demo", "report.title=${nowhere}"], "nowhere"),
        (["recipe=demo", "teacher.seed=["], "["),
        (["recipe=demo", "no-equals"], "no-equals"),
        (["recipe=demo", "stages=[selekt]"], "select"),
        (["recipe=demo", "upto=selekt"], "select"),
        (["recipe=demo", "stages=[]"], "stages"),
        (["recipe=demo", "stages=[select]", "upto=select"], "exclude"),
        (["recipe=demo", "select.metric=blue"], "bleu"),
        (["recipe=demo", "decode.nbest=9"], "decode.nbest"),
        (["recipe=demo", "decode.share=0"], "decode.share"),
        (["recipe=demo", "teacher.model.heads=3"], "heads"),
        (["recipe=demo", "checkpoint.average=9"], "checkpoint"),
        (["recipe=demo", "teacher.members=0"], "members"),
        (["recipe=demo", "export.formats={int7: true}"], "int7"),
        (["recipe=demo", "launcher.kind=slrum"], "Did you mean slurm"),
        (["recipe=demo", "launcher.processes=0"], "launcher.processes"),
        (["recipe=files"], "source"),
        (["recipe=files", "source=a.en", "target=missing.de"], "missing.de"),
        (["recipe=multi30k_en_de"], "corpus.root"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    arguments: Sequence[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> int:
        raise AssertionError("nothing was wrong with it, and it was run")

    monkeypatch.setattr("kd.launch.local.LocalLauncher.launch", run)
    assert main(["run", *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert named in told
    assert told.startswith("kd: ")
    assert "\n" not in told
    assert "Traceback" not in told
    assert "$" not in told.replace("${nowhere}", "")  # a placeholder that was not filled in


@pytest.mark.parametrize("key", ["store.dir", "run.dir"])
def test_a_folder_that_cannot_be_written_to_is_named(
    key: str, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    # Below a file: not even root can write there.
    assert main(["run", *FILES, f"{key}={elsewhere}/a.en/below"]) == 2
    assert key in capsys.readouterr().err


def test_status_without_a_run_prints_a_message_and_creates_nothing(
    capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    before = set(elsewhere.iterdir())
    assert main(["report", *FILES]) == 2
    assert "files has not been run in" in capsys.readouterr().err
    assert main(["status", *FILES]) == 0
    assert "the recipe has not been run here" in capsys.readouterr().out
    assert set(elsewhere.iterdir()) - before <= {elsewhere / "store"}  # hashes of the files are kept there


def test_status_shows_the_requested_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *FILES, "upto=clean"]) == 0
    assert "0 of 2 tasks done, 2 missing" in capsys.readouterr().out
    assert main(["status", *FILES, "stages=[split]"]) == 0
    assert "0 of 1 tasks done, 1 missing" in capsys.readouterr().out
    for command in ("run", "status", "plan"):
        assert main([command, *FILES, "stages=[split]", "upto=clean"]) == 2
        assert "stages= and upto= exclude each other." in capsys.readouterr().err


def test_a_report_without_a_run_names_the_command_to_type(capsys: pytest.CaptureFixture[str], elsewhere: Path) -> None:
    (elsewhere / "runs" / "files").mkdir(parents=True)
    assert main(["report", *FILES]) == 2
    assert "which is missing. `kd run recipe=files` makes it" in capsys.readouterr().err
    assert main(["run", *FILES, "stages=[select]"]) == 2
    assert "`kd run recipe=files upto=select.source-target` makes it" in capsys.readouterr().err


def commands(name: str, folder: Path) -> list[list[str]]:
    """What is typed to plan a recipe: where there are several language pairs to choose from, each of them."""
    typed = [f"recipe={name}", *(FILES[1:] if name == "files" else [f"corpus.root={folder}"])]
    try:
        compose.compose(compose.parse_request(typed))
    except UserError as error:
        [(choice, names)] = re.findall(r"^No (\w+) was chosen.*there are: (.*)\.$", str(error))
        return [[*typed, f"{choice}={each}"] for each in names.split(", ")]
    return [typed]


@pytest.mark.parametrize("name", sorted(compose.recipes()))
def test_every_recipe_that_comes_with_kd_is_planned(name: str, elsewhere: Path) -> None:
    for typed in commands(name, elsewhere)[:1]:  # other pairs differ by nothing but the pair
        config = compose.compose(compose.parse_request(typed))
        for source, pair in itertools.product(config.corpus.sources.values(), config.pairs):
            left, _, right = pair.partition("-")
            for path in (source.source, source.target):
                if path and name != "files":  # as empty files: a plan looks at their content alone
                    file = elsewhere / re.sub(r"\*", "x", path.format(source=left, target=right))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.touch()
        for teacher in config.teachers.values():
            if teacher.engine is TeacherEngine.ctranslate2:
                (elsewhere / teacher.model).mkdir(parents=True)
                (elsewhere / teacher.model / "config.json").touch()
        tasks = {task.full_name for task in compose.plan(config).tasks()}
        assert "report/all" in tasks
        for pair in config.pairs:
            member = f"member-{next(iter(config.teachers), '1')}"
            assert {f"teacher.{pair}/{member}", f"decode.{pair}/worker-0", f"evaluate.{pair}/all"} <= tasks
        assert any(task.startswith("student") for task in tasks)
        assert (elsewhere / "outputs").exists() is False


def test_each_pair_of_the_bilingual_recipe_is_a_run_of_its_own(elsewhere: Path) -> None:
    typed = commands("bilingual", elsewhere)
    # The talk's pairs.
    pairs = ["da-en", "nl-en", "de-en", "fi-en", "hu-en", "sv-en", "en-de", "en-fi", "en-hu"]
    assert sorted(words[-1] for words in typed) == sorted(f"pair={pair}" for pair in pairs)
    for pair in pairs:
        assert yaml.safe_load((resources.folder("conf") / "pair" / f"{pair}.yaml").read_text("utf-8")) == {
            "pairs": {pair: {}},
            "run": {"dir": f"runs/${{recipe}}.{pair}"},
        }
    config = compose.compose(compose.parse_request(typed[0]))
    assert config.run.dir == str(elsewhere / "runs" / f"bilingual.{next(iter(config.pairs))}")
    assert (config.teacher.members, config.checkpoint.every) == (4, 10_000)
    shape = config.student.model
    assert (shape.encoder_layers, shape.decoder_layers, shape.width) == (12, 1, 512)


def test_recipes_and_groups_of_the_working_directory_are_found(elsewhere: Path) -> None:
    (elsewhere / "recipes" / "mine").mkdir(parents=True)
    (elsewhere / "recipes" / "mine" / "recipe.yaml").write_text(
        "defaults: [files/recipe@_global_, override /student: mine, _self_]\nseed: 7\n", "utf-8"
    )
    (elsewhere / "conf" / "student").mkdir(parents=True)
    (elsewhere / "conf" / "student" / "mine.yaml").write_text(
        "defaults: [tiny_4_2, _self_]\nmodel: {encoder_layers: 9}\n", "utf-8"
    )
    config = compose.compose(compose.parse_request(["recipe=mine", *FILES[1:]]))
    assert config.student.model.encoder_layers == 9
    assert config.student.model.width == 128
    assert config.seed == 7
    assert config.vocabulary.size == 8000


def test_a_recipe_of_the_working_directory_is_found_by_name(elsewhere: Path) -> None:
    (elsewhere / "mine").mkdir()
    content = "defaults: [/files/recipe@_global_, _self_]\nsource: a.en\ntarget: a.de\n"
    (elsewhere / "mine" / "recipe.yaml").write_text(content, "utf-8")
    assert planned("recipe=mine") == planned("recipe=./mine") == planned(*FILES)


def test_invalid_yaml_is_one_sentence_with_its_line(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "mine").mkdir()
    for content in ("defaults: [/base, _self_]\npairs: {en-de: {\n", "defaults:\n\t- /base\n"):
        (elsewhere / "mine" / "recipe.yaml").write_text(content, "utf-8")
        assert main(["run", "recipe=./mine"]) == 2
        said = capsys.readouterr().err
        assert "recipe.yaml, line " in said and "not valid YAML" in said and "Traceback" not in said
    (elsewhere / "mine" / "recipe.yaml").write_text("defaults: [/base, _self_]  # für\n", "latin-1")
    assert main(["run", "recipe=./mine"]) == 2 and "is not UTF-8" in capsys.readouterr().err


def test_one_student_may_override_a_shared_setting(elsewhere: Path) -> None:
    (elsewhere / "mine").mkdir()
    content = "defaults: [/demo/recipe@_global_, _self_]\nstudent: {checkpoint: {every: 20}}\n"
    (elsewhere / "mine" / "recipe.yaml").write_text(content, "utf-8")
    config = compose.resolve(compose.compose(compose.parse_request(["recipe=./mine"])))
    assert config["student"]["checkpoint"]["every"] == 20
    assert config["teacher"]["checkpoint"]["every"] == config["checkpoint"]["every"] != 20


def test_hydra_writes_no_files(elsewhere: Path) -> None:
    planned(*FILES)
    assert not (elsewhere / "outputs").exists()


def test_a_sweep_is_every_combination_each_with_a_run_of_its_own() -> None:
    request = compose.parse_request([*FILES, "select.metric=bleu,chrf", "seed=1,2", "decode.beam=4"])
    found = compose.sweep(request)
    assert [item.overrides[2:4] for item in found] == [
        ("select.metric=bleu", "seed=1"),
        ("select.metric=bleu", "seed=2"),
        ("select.metric=chrf", "seed=1"),
        ("select.metric=chrf", "seed=2"),
    ]
    runs = {compose.compose(item).run.dir for item in found}
    assert len(runs) == 4


def test_a_pair_takes_its_languages_from_its_name_or_from_its_keys() -> None:
    plan = compose.plan(compose.compose(compose.parse_request([*FILES, "pairs.source-target.target=de-AT"])))
    (stage,) = plan.find("collect")
    assert stage.axis_value == {"source": "source", "target": "de-AT"}


def test_paths_and_launchers_change_no_fingerprint(elsewhere: Path) -> None:
    def fingerprints(*overrides: str) -> dict[str, str]:
        plan = compose.plan(compose.compose(compose.parse_request([*FILES[:1], *overrides])))
        return {task.full_name: task.fingerprint for task in plan.tasks()}

    (elsewhere / "moved").mkdir()
    for name in ("a.en", "a.de"):
        (elsewhere / "moved" / name).write_bytes((elsewhere / name).read_bytes())
    here = fingerprints("source=a.en", "target=a.de")
    there = fingerprints(
        "source=moved/a.en", "target=moved/a.de", "store.dir=other", "run.dir=another", "launcher.processes=1",
        "machine=localhost_gpu", "tracking.refresh=1", "teacher.log_every=7",
    )  # fmt: skip
    assert here == there
    (elsewhere / "a.de").write_text("eins\ndrei\n", "utf-8")
    changed = fingerprints("source=a.en", "target=a.de")
    assert all(changed[name] != here[name] for name in here)


def test_a_longer_training_keeps_its_lineage_and_changes_later_stages() -> None:
    def tasks(*overrides: str) -> dict[str, tuple[str, str]]:
        plan = compose.plan(compose.compose(compose.parse_request([*FILES, *overrides])))
        return {task.full_name: (task.lineage, task.fingerprint) for task in plan.tasks()}

    short, long = tasks(), tasks("teacher.max_update=9000")
    member, worker = "teacher.source-target/member-1", "decode.source-target/worker-0"
    assert short[member][0] == long[member][0]
    assert short[member][1] != long[member][1]
    assert short[worker][0] != long[worker][0]
    assert short["control.source-target/member-1"] == long["control.source-target/member-1"]


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean select"):
        compose.plan(compose.compose(compose.parse_request(FILES))).find("selct")


def readme_commands() -> list[list[str]]:
    """Every `kd …` of the READMEs and of docs/, without what stands behind #; some go on in the next line."""
    root = Path(__file__).parents[2]
    found = []
    readmes = ("README.md", "recipes/*/README.md", "containers/README.md", "conf/machine/README.md", "docs/**/*.md")
    for path in sorted(path for readme in readmes for path in root.glob(readme)):
        for line in path.read_text("utf-8").replace("\\\n", " ").split("\n"):
            if line.startswith("    kd "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


@pytest.mark.parametrize("arguments", readme_commands(), ids=" ".join)
def test_the_commands_of_the_readmes_can_be_typed(arguments: list[str], elsewhere: Path) -> None:
    for name in ("corpus.en", "corpus.de"):
        (elsewhere / name).write_text("a\n", "utf-8")
    if arguments[0] not in ("run", "status", "report", "clean", "cancel", "plan", "scaling"):  # ordinary options
        end = next((place for place, word in enumerate(arguments) if word in ("--", "<", ">")), len(arguments))
        assert _parser().parse_args(arguments[:end]).name == arguments[0]
        return
    words = [word.replace("FOLDER", str(elsewhere)) for word in arguments[1:]]
    options = {"-m", "--cfg", "--remove", "--probe", "--markdown", "--json", "--weak"}
    assert {word for word in words if word.startswith("-")} <= options
    words = [word for word in words if word not in ("machine=NAME", "machine=SITE", "machine=…")]  # the reader's own
    own_recipes = ("recipe=NAME", "recipe=mine", "recipe=./mine", "recipe=./with_borrowed")
    words = ["recipe=demo" if word in own_recipes else word for word in words]
    own = ("assume.", *(("devices=", "nodes=", "stage=", "updates=") if arguments[0] == "scaling" else ()))
    request = compose.parse_request([word for word in words if "=" in word and not word.startswith(own)])
    for item in compose.sweep(request):
        compose.compose(item)


MULTILINGUAL = """
defaults: [/base, _self_]
pairs: {da-en: {}, de-en: {}}
corpus: {sources: {files: {format: plain, source: a.en, target: a.de}}}
chain:
  vocabulary_multi: {kind: vocabulary, inputs: {corpora: {shard: shard}}, settings: "${vocabulary}"}
  encode_multi:
    {kind: encode, inputs: {corpus: select, held_out: split, vocabulary: vocabulary_multi}, settings: "${encode}"}
  student_multi: {kind: train, inputs: {data: encode_multi}, settings: "${student}"}
  shorter:
    kind: train
    inputs: {data: encode_multi}
    settings: ${student}
    changes: {max_update: 500, checkpoint: {average: 2}}
  export_multi: {kind: export, inputs: {models: {multi: student_multi}}, settings: "${export}"}
  translate: {inputs: {systems: {multi: student_multi, export_multi: export_multi}}}
"""


def test_a_student_of_several_pairs_and_one_with_changed_settings_are_lines_of_a_recipe(elsewhere: Path) -> None:
    (elsewhere / "multi.yaml").write_text(MULTILINGUAL, "utf-8")
    config = compose.compose(compose.parse_request(["recipe=./multi.yaml"]))
    plan = compose.plan(config)
    (encode,) = plan.find("encode_multi")
    assert {stage.axis for _, stage in encode.inputs["corpus"]} == {"da-en", "de-en"}
    for stage in plan.find("translate"):
        assert {"teacher-ensemble", "student", "multi", "multi-int8"} <= {task.name for task in stage.tasks}
    (student,), (shorter,) = plan.find("student_multi"), plan.find("shorter")
    assert shorter.config.max_update == 500
    assert (shorter.config.checkpoint.average, shorter.config.checkpoint.keep) == (2, config.checkpoint.keep)
    assert shorter.config.model == student.config.model
    assert student.config.max_update == config.student.max_update
    with pytest.raises(UserError, match=r"chain\.shorter\.changes\.max_updates"):
        wrong = compose.parse_request(["recipe=./multi.yaml", "+chain.shorter.changes.max_updates=1"])
        compose.plan(compose.compose(wrong))


def test_paths_of_external_scores_are_relative_to_the_working_directory(elsewhere: Path) -> None:
    scores = ("select.metric=external", "select.scores='comet/{shard}.txt'")
    stages = compose.plan(compose.compose(compose.parse_request([*FILES, *scores]))).stages
    (select,) = (stage for stage in stages if stage.kind.name == "select")
    assert select.config.scores == f"{elsewhere}/comet/{{shard}}.txt"  # a task of Slurm's stands elsewhere


def test_a_frozen_plan_reads_no_raw_file_and_no_working_directory(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "catalogues").mkdir()
    (elsewhere / "catalogues" / "source.json").write_text("{}", "utf-8")
    (elsewhere / "mine.yaml").write_text(
        "defaults: [files/recipe@_global_, /student@chain.inline.settings: tiny_4_2, _self_]\n"
        "corpus: {sources: {strings: {format: catalogue, root: catalogues, files: '{language}.json'}}}\n"
        "chain: {inline: {kind: train, over: pairs, inputs: {data: encode}}}\n",
        "utf-8",
    )
    config = compose.compose(compose.parse_request(["recipe=./mine.yaml", *FILES[1:]]))
    plan = compose.plan(config)
    run = Run(elsewhere / "run")
    record = run.frozen(run.freeze(compose.resolve(config), plan))
    (elsewhere / "catalogues" / "target.json").write_text("{}", "utf-8")  # while its tasks are queued
    (elsewhere / "a.en").unlink()
    (elsewhere / "other").mkdir()
    monkeypatch.chdir(elsewhere / "other")
    again = compose.plan(compose.thaw(record["config"]), record["files"])
    assert {task.full_name: task.fingerprint for task in again.tasks()} == record["fingerprints"]
    files = again.task("collect.source-target", "strings").files
    assert list(files) == [elsewhere / "catalogues" / "source.json"], "absolute, and as of planning"
