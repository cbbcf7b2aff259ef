"""The stage evaluate: its files say what `kd evaluate` says, and what cannot be judged is told before anything runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics.tiny_comet import make_checkpoint
from sacrebleu import corpus_bleu, sentence_chrf
from sacrebleu.metrics.bleu import BLEU

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.base.records import plain, record
from kd.base.resources import folder
from kd.cli import main
from kd.corpora.heldout import heldout_path, write_heldout
from kd.corpora.ids import Origin, Pair
from kd.corpora.robustness import suite, write_cases
from kd.corpora.shards import CorpusWriter
from kd.models.systems import System, SystemRole
from kd.pipeline.model import Artifact, Job, Summary
from kd.recipe import compose
from kd.recipe.schema import CometConfig, EvaluateConfig, GuardsConfig, HeldOut
from kd.stages.evaluate import Evaluate
from kd.stages.outputs import HYPOTHESES, ROBUSTNESS, ROBUSTNESS_CASES, SCORES, WEAKNESSES

TEST = [
    ("The committee adopted the rules.", "Der Ausschuss nahm die Regeln an."),
    ("Article 12", "Artikel 12"),
    ("Members vote on each of the rules.", "Die Mitglieder stimmen über jede der Regeln ab."),
    ("Yes", "Ja"),
]
OUTPUTS = {
    "control": ["Der Ausschuss nahm Regeln an.", "Article 12", "Mitglieder stimmen ab.", "Ja"],
    "student": ["Der Ausschuss hat die Regeln.", "Artikel 13", "", "Ja"],
    "teacher-ensemble": ["Der Ausschuss nahm die Regeln an.", "Artikel 12", "Die Mitglieder stimmen ab.", "Ja"],
}
TRAINING = ["Der Ausschuss nahm Regeln an.", "die Regeln", "die Mitglieder", "die Regeln"]
CONFIG = EvaluateConfig(
    metrics={"bleu": True, "chrf": True, "ter": False},
    baseline="control",
    further_baselines={"teacher-ensemble": True, "teacher-1": True},
    bootstrap=100,
    seed=3,
    guards=GuardsConfig(**yaml.safe_load((folder("conf") / "guards" / "default.yaml").read_text("utf-8"))),
    worst=1,
)
SYSTEMS = {
    "control": System(SystemRole.control, "control"),
    "student": System(SystemRole.student, "student"),
    "teacher-ensemble": System(SystemRole.teacher, "teacher", ensemble=True),
}


def subject(name: str) -> dict[str, Any]:
    return dict(plain(SYSTEMS[name]))


def evaluated(
    folder: Path,
    config: EvaluateConfig,
    target: str = "de",
    origins: Sequence[Origin] = (),
    leakage: dict[str, Any] | None = None,
) -> tuple[Path, Summary]:
    pairs = [Pair(i, *texts) for i, texts in enumerate(TEST)]
    if origins:  # of the first the first half
        halves = [list(origin.number(TEST[2 * i : 2 * i + 2])) for i, origin in enumerate(origins)]
        pairs = [pair for half in halves for pair in half]
    drawn = {"test": {"by": "source"}} if origins else None
    write_heldout(folder / "split", f"en-{target}", {config.set.value: pairs}, drawn=drawn, origins=origins)
    translations = []
    for name, lines in OUTPUTS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / HYPOTHESES).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        translations.append(
            Artifact(
                folder / name, "translate", f"translate.en-{target}", name, "f", f"en-{target}", {}, {}, subject(name)
            )
        )
    out = folder / "out"
    out.mkdir()
    held_out = Artifact(folder / "split", "split", "split", "all", "f", None, {}, {})
    corpora = []
    if leakage:
        with CorpusWriter(folder / "shard", ("en", target), 100) as writer:
            for number, text in enumerate(TRAINING):
                writer.add(Pair(number, f"source {number}", text))
        facts = {"facts": {"leakage": leakage}}
        corpora = [Artifact(folder / "shard", "shard", "shard", "all", "f", None, {}, facts)]
    job: Job[EvaluateConfig] = Job(
        "all", f"evaluate.en-{target}", config, {}, f"en-{target}", {"source": "en", "target": target},
        {"held_out": [held_out], "translations": translations, "corpora": corpora}, {}, out, [], 1, 1, "cpu", {},
        Progress(None),
    )  # fmt: skip
    Evaluate().run(job)
    return out, Evaluate().check(job)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_scores_are_those_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, summary = evaluated(tmp_path, CONFIG)
    assert summary.counts == {"segments": 4, "systems": 3}
    content = read(out / SCORES)
    assert list(content["significance"]) == ["control", "teacher-ensemble"]  # there is no teacher-1
    assert [record(System, each, "system") for each in content["systems"]] == list(SYSTEMS.values())
    for baseline, rows in content["significance"].items():
        arguments = ["--reference", str(heldout_path(tmp_path / "split", "en-de", "test", "target")), "--hypothesis"]
        arguments += [f"{name}={tmp_path / name / HYPOTHESES}" for name in OUTPUTS]
        arguments += ["--baseline", baseline, "--resamples", "100", "--seed", "3", "--language", "de", "--json", "-"]
        assert main(["evaluate", *arguments]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [(row["system"], row["metric"], row["value"], row["interval"], row["p_value"]) for row in rows] == [
            (row["system"], row["metric"], row["score"], row["ci"], row["p_value"]) for row in told
        ]
        for row in told:
            (plain,) = [item for item in content["scores"][row["system"]] if item["metric"] == row["metric"]]
            assert plain["value"] == row["score"]
            assert "bs:" not in plain["signature"]


def test_weaknesses_are_counted_and_the_worst_is_against_the_teachers(tmp_path: Path) -> None:
    content = read(evaluated(tmp_path, CONFIG)[0] / WEAKNESSES)
    student, control = content["systems"]["student"], content["systems"]["control"]
    assert (student["empty"], control["copied"]) == (1, 1)
    others = {"unknown": 0, "limit": 0, "copy": 0, "length": 0, "repetition": 0, "language": 0}
    assert student["guards"] == {"empty": 1, **others}
    assert student["numbers"] == {"expected": 1, "kept": 0, "segments": 1}
    assert content["baseline"] == "teacher-ensemble"
    assert [(item["system"], item["segment"]) for item in content["worst"]] == [("control", 2), ("student", 3)]


def test_words_are_counted_by_their_frequency_in_the_training_text(tmp_path: Path) -> None:
    guard = {"mode": "remove", "sets": {}}
    content = read(evaluated(tmp_path, CONFIG, leakage=guard)[0] / WEAKNESSES)
    found = content["systems"]["teacher-ensemble"]["words"]
    assert found["counted_in"] == "the training text"
    in_buckets = {(bucket["least"], bucket["most"]): bucket["words"] for bucket in found["frequencies"]}
    # 0: Artikel 12 Die stimmen über jede der ab Ja; 1: Der Ausschuss nahm an . Mitglieder .; 3: die Regeln Regeln
    assert in_buckets == {(0, 0): 9, (1, 1): 7, (2, 4): 3}


def test_the_robustness_of_systems_that_translated_the_suite_is_counted(tmp_path: Path) -> None:
    assert not (evaluated(tmp_path, replace(CONFIG, bootstrap=0))[0] / ROBUSTNESS).exists()
    cases = suite([source for source, _ in TEST], "en", 2, 1)
    again = tmp_path / "again"
    for name, output in {"student": "", "control": "{name} 🙂"}.items():
        (again / name).mkdir(parents=True)
        write_cases(again / name / ROBUSTNESS_CASES, (replace(case, output=output) for case in cases))
    found = read(evaluated(again, replace(CONFIG, bootstrap=0))[0] / ROBUSTNESS)["systems"]
    assert set(found) == {"student", "control"}
    inputs = found["student"]["checks"]["copying"]["inputs"]
    assert found["student"]["checks"]["copying"] == {"inputs": inputs, "failed": inputs}
    assert found["student"]["checks"]["sound"] == {"inputs": len(cases), "failed": len(cases)}
    kept = sum(case.keep in (["{name}"], ["🙂"]) for case in cases)
    assert found["control"]["checks"]["copying"] == {"inputs": inputs, "failed": inputs - kept}


def test_every_segment_has_a_score_for_the_browser(tmp_path: Path) -> None:
    scored = read(evaluated(tmp_path, CONFIG)[0] / WEAKNESSES)["segments"]
    assert scored["metric"] == "chrF2"
    chrf = sentence_chrf(OUTPUTS["student"][2], [TEST[2][1]]).score
    assert scored["scores"]["student"][2] == pytest.approx(chrf) and len(scored["scores"]["control"]) == 4


TWO_SETS = [Origin("en-de", "news", "test"), Origin("en-de", "law", "train")]  # one given, one drawn


def test_each_test_set_has_its_scores_and_the_guards_verdict(tmp_path: Path) -> None:
    leakage = {"mode": "remove", "sets": {"en-de test (news)": {"both": 2, "source": 0, "target": 1}}}
    out, summary = evaluated(tmp_path, CONFIG, origins=TWO_SETS, leakage=leakage)
    content = read(out / SCORES)
    assert list(content["sets"]) == ["news", "held_out"]
    assert content["set"] == "news"
    assert content["scores"] == content["sets"]["news"]["scores"]
    assert {name: each["leakage"] for name, each in content["sets"].items()} == {
        "news": {"verdict": "removed 3", "pairs": 3},
        "held_out": {"verdict": "clean", "pairs": 0},
    }
    for name, rows in {"news": slice(0, 2), "held_out": slice(2, 4)}.items():
        # sacreBLEU's own function on the set alone.
        expected = corpus_bleu(OUTPUTS["student"][rows], [[pair[1] for pair in TEST[rows]]]).score
        assert content["sets"][name]["scores"]["student"][0]["value"] == expected
        assert content["sets"][name]["segments"] == 2
    assert summary.counts["segments"] == 2
    assert read(out / WEAKNESSES)["systems"]["student"]["segments"] == 4


def test_which_set_is_the_main_one_is_a_choice_and_off_is_said(tmp_path: Path) -> None:
    config = replace(CONFIG, main_set="held_out", bootstrap=0)
    out, _ = evaluated(tmp_path, config, origins=TWO_SETS, leakage={"mode": "off", "sets": {}})
    content = read(out / SCORES)
    assert (content["set"], content["leakage"]["verdict"]) == ("held_out", "OFF")
    (tmp_path / "second").mkdir()
    with pytest.raises(UserError, match=r"evaluate\.main_set.*held_uot.*Did you mean held_out"):
        evaluated(tmp_path / "second", replace(config, main_set="held_uot"), origins=TWO_SETS)


def test_dev_is_scored_where_something_is_chosen(tmp_path: Path) -> None:
    out, _ = evaluated(tmp_path, replace(CONFIG, set=HeldOut.dev, bootstrap=0))  # there is no test set
    content = read(out / SCORES)
    expected = corpus_bleu(OUTPUTS["student"], [[pair[1] for pair in TEST]]).score
    assert (content["segments"], content["scores"]["student"][0]["value"]) == (4, expected)


def test_comet_stands_beside_the_others(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", [text for pair in TEST for text in pair] * 20)
    comet = CometConfig(model=str(model), cache=str(tmp_path / "cache"))
    out, _ = evaluated(tmp_path, replace(CONFIG, metrics={"bleu": True, "comet": True}, comet=comet))
    content = read(out / SCORES)
    assert [item["metric"] for item in content["scores"]["student"]] == ["BLEU", "COMET"]
    rows = [row for row in content["significance"]["control"] if row["metric"] == "COMET"]
    assert [row["system"] for row in rows] == ["control", "student", "teacher-ensemble"]
    assert rows[0]["p_value"] is None and 0 < rows[1]["p_value"] <= 1
    assert (tmp_path / "cache" / "comet.sqlite").is_file()


@pytest.mark.parametrize("target", ["zh", "zh_CN"])
def test_the_tokeniser_follows_the_target_language(tmp_path: Path, target: str) -> None:
    out, _ = evaluated(tmp_path, replace(CONFIG, baseline=None), target=target)
    content = read(out / SCORES)
    assert "tok:zh" in content["scores"]["student"][0]["signature"]
    assert content["significance"] == {}


def test_an_empty_test_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TEST", [])
    with pytest.raises(UserError, match="no test set of en-de to score on"):
        evaluated(tmp_path, CONFIG)


def test_a_lost_score_is_noticed(tmp_path: Path) -> None:
    out, _ = evaluated(tmp_path, CONFIG)
    content = read(out / SCORES)
    del content["scores"]["student"]
    (out / SCORES).write_text(json.dumps(content), "utf-8")
    artifacts = [Artifact(tmp_path, "translate", "s", name, "f", None, {}, {}, subject(name)) for name in OUTPUTS]
    job: Job[EvaluateConfig] = Job(
        "all", "evaluate", CONFIG, {}, "en-de", {}, {"translations": artifacts}, {}, out, [], 1, 1, "cpu", {},
        Progress(None),
    )  # fmt: skip
    with pytest.raises(IncompleteArtifact, match="lacks scores of student"):
        Evaluate().check(job)


# --- what is told before anything runs -------------------------------------------------------------------------------


def planned(*overrides: str) -> compose.Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=files", "source=a", "target=b", *overrides])))


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n", "utf-8")


def test_a_tokeniser_that_is_not_installed_is_refused_when_the_run_is_planned(
    two_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(BLEU):
        def __init__(self, trg_lang: str = "", **others: Any) -> None:
            if trg_lang == "ja":
                raise ImportError("Japanese tokenization requires extra dependencies")
            super().__init__(trg_lang=trg_lang, **others)

    monkeypatch.setattr("kd.metrics.corpus.BLEU", Missing)
    with pytest.raises(UserError, match="tokeniser for ja cannot be used here") as error:
        planned("pairs.source-target.target=jpn_Jpan")
    assert error.value.hint.startswith("Install the extra ja, `pip install 'kd[ja]'`")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["evaluate.baseline=contrl"], "evaluate.baseline.*contrl.*Did you mean control"),
        (
            ["+evaluate.further_baselines.teacher-ensembel=true"],
            "further_baselines.*ensembel.*mean teacher-ensemble",
        ),
        (["+evaluate.given.student=b"], "evaluate.given.student has the same name as a system"),
        (["+evaluate.given.opus=none.txt"], r"none\.txt does not exist.*Correct evaluate\.given\.opus"),
        (["evaluate.metrics.blue=true"], "no metric 'blue'"),
        (["evaluate.metrics.comet=true"], r"evaluate\.comet\.model"),
        (["evaluate.metrics.comet=true", "evaluate.comet.model=./none"], r"no COMET model at .*/none\."),
        (["evaluate.tokenize=moses"], "no tokeniser 'moses'"),
        (["evaluate.bootstrap=1"], "at least 2, got 1"),
        (["evaluate.seed=0"], "seed of the resampling"),
        (["evaluate.set=dev"], "evaluate.source-target scores dev, but translate.source-target translates test"),
    ],
)
@pytest.mark.usefixtures("two_files")
def test_mistakes_are_told_when_the_recipe_is_planned(overrides: Sequence[str], told: str) -> None:
    prefix = [f"+{item}" if "blue" in item or "metrics.comet" in item else item for item in overrides]
    with pytest.raises(UserError, match=told):
        planned(*prefix)


@pytest.mark.usefixtures("two_files")
def test_a_comet_checkpoint_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "model" / "checkpoints").mkdir(parents=True)
    checkpoint = tmp_path / "model" / "checkpoints" / "model.ckpt"
    (tmp_path / "model" / "hparams.yaml").write_text("class_identifier: regression_metric\n")

    def fingerprint(model: str = "model") -> str:
        plan = planned("+evaluate.metrics.comet=true", f"evaluate.comet.model={model}", "evaluate.comet.batch=3")
        return plan.task("evaluate.source-target", "all").fingerprint

    checkpoint.write_bytes(b"one")
    first = fingerprint()
    assert fingerprint() == first
    (tmp_path / "moved").mkdir()
    (tmp_path / "model").rename(tmp_path / "moved" / "model")
    assert fingerprint("moved/model") == first
    (tmp_path / "moved" / "model" / "checkpoints" / "model.ckpt").write_bytes(b"another")
    assert fingerprint("./moved/model") != first
    assert fingerprint("Unbabel/wmt22-comet-da") != fingerprint("Unbabel/wmt20-comet-da")


@pytest.mark.usefixtures("two_files")
def test_dev_is_judged_apart_and_others_output_is_of_the_test_sets_alone() -> None:
    settings = ["evaluate.set=dev", "evaluate.translate.set=dev", "evaluate.speed.set=dev"]
    both = planned("+evaluate.given.elsewhere=a"), planned(*settings, "+evaluate.given.elsewhere=a")
    test, dev = ({task.full_name: task.fingerprint for task in plan.tasks()} for plan in both)
    assert set(test) - set(dev) == {"translate.source-target/elsewhere"}
    changed = {name.partition(".")[0] for name, fingerprint in dev.items() if test[name] != fingerprint}
    assert changed == {"translate", "speed", "evaluate", "release", "report/all"}


@pytest.mark.usefixtures("two_files")
def test_no_baseline_is_a_choice() -> None:
    assert planned("evaluate.baseline=null", "chain.control.enabled=false").find("evaluate")
    with pytest.raises(UserError, match=r"To compare with no system, set evaluate\.baseline=null"):
        planned("chain.control.enabled=false")
