"""The stage that scores n-best lists by neural models: by pair id, sharded, resumable; selection reads its scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from metrics.tiny_comet import make_checkpoint

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.finished import note_finished
from kd.corpora.index import Damaged
from kd.corpora.nbest import NBestCorpus
from kd.corpora.scores import ScoreCorpus, finish_scores, resume_scores, write_score_index, write_scores
from kd.corpora.shards import Corpus
from kd.corpora.writing import LineWriter
from kd.metrics.comet_lists import ListToScore
from kd.pipeline.model import Artifact, Job
from kd.recipe import compose
from kd.recipe.schema import ScoreConfig, ScorerConfig, SelectMetric
from kd.stages import score as stage
from kd.stages.score import Score
from kd.stages.select import Select
from tests.stages.test_select_stage import SHARD, make, settings, translations
from tests.stages.test_select_stage import job as select_job


class Lengths:
    """A scorer that prefers long hypotheses and knows the pair by its target."""

    signature = "lengths"

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        return [[len(text) + len(item.target) / 1000 for text in item.hypotheses] for item in lists]


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_SCORERS", dict.fromkeys(stage._SCORERS, lambda spec: Lengths()))


def config(*metrics: str, **changes: Any) -> ScoreConfig:
    values = {"select_metric": SelectMetric.bleu, "select_mix": {}, "metrics": dict.fromkeys(metrics, True)}
    return ScoreConfig(**{**values, **changes})


def job(out: Path, corpus: Path, lists: Path | None, of: ScoreConfig, **changes: Any) -> Job[ScoreConfig]:
    out.mkdir(exist_ok=True)
    folders = {"corpus": corpus} | ({"lists": lists} if lists else {})
    inputs = {role: [Artifact(path, role, role, "all", "f", "en-de", {}, {})] for role, path in folders.items()}
    values: dict[str, Any] = {
        "name": "worker-0", "stage": "score.en-de", "config": of, "identity": {"worker": 0, "workers": 2},
        "axis": "en-de", "axis_value": {"source": "en", "target": "de"}, "inputs": inputs, "files": {}, "out": out,
        "resumable_from": [], "attempts": 1, "threads": 1, "device": "cpu", "machine": {}, "progress": Progress(None),
        **changes,
    }  # fmt: skip
    return Job(**values)


def test_every_pair_has_a_score_for_each_hypothesis_under_its_id(tmp_path: Path, lengths: None) -> None:
    corpus, lists = make(tmp_path, 3)
    this = job(tmp_path / "scores", corpus, lists, config("qe", "comet"))
    Score().run(this)
    summary = Score().check(this)
    assert summary.counts == {"pairs": 3 * SHARD, "scores": 2 * 3 * 3 * SHARD}
    assert summary.facts["signatures"] == {"comet": "lengths", "qe": "lengths"}
    shards = {shard.name: shard for shard in Corpus(corpus).shards}
    for shard in NBestCorpus(lists).shards:
        rows = ScoreCorpus(this.out).shards[shard.name].read("comet")
        for group, nbest in shard.beside(shards[shard.name]):
            for pair in group:
                expected = [len(h.text) + len(pair.target) / 1000 for h in nbest.hypotheses]
                assert next(rows) == (pair.id, pytest.approx(expected, rel=1e-8))


def test_an_interrupted_task_keeps_its_finished_shards(
    tmp_path: Path, lengths: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, lists = make(tmp_path, 3)
    this = job(tmp_path / "scores", corpus, lists, config("qe"))
    real, done = stage.write_scores, []

    def dying(folder: Path, name: str, *rest: Any) -> dict[str, Any]:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(name)
        return real(folder, name, *rest)

    monkeypatch.setattr(stage, "write_scores", dying)
    with pytest.raises(KeyboardInterrupt):
        Score().run(this)
    monkeypatch.setattr(stage, "write_scores", lambda *given: done.append(given[1]) or real(*given))
    Score().run(this)
    Score().check(this)
    assert done == ["00000", "00001", "00002"]
    grown = job(tmp_path / "again", corpus, lists, config("qe"), resumable_from=[this.out])
    Score().run(grown)
    assert len(done) == 3
    assert Score().check(grown).counts["pairs"] == 3 * SHARD


def test_missing_and_changed_scores_are_found(tmp_path: Path, lengths: None) -> None:
    corpus, lists = make(tmp_path, 2)
    this = job(tmp_path / "scores", corpus, lists, config("qe"))
    Score().run(this)
    with pytest.raises(IncompleteArtifact, match="does not have the expected scores"):
        Score().check(job(tmp_path / "scores", corpus, make(tmp_path, 3)[1], config("qe")))
    file = this.out / "00001.scores.zst"
    file.write_bytes((this.out / "00000.scores.zst").read_bytes())
    with pytest.raises(IncompleteArtifact, match=r"00001\.scores\.zst was changed"):
        Score().check(this)


def test_a_shard_is_one_file_whatever_the_number_of_metrics(tmp_path: Path, lengths: None) -> None:
    """10,000 shards of a language pair make about one file each and stage, so that inodes suffice."""
    corpus, lists = make(tmp_path, 3)
    this = job(tmp_path / "scores", corpus, lists, config("qe", "comet", "mbr_comet"))
    Score().run(this)
    assert Score().check(this).counts["scores"] == 3 * 3 * 3 * SHARD
    assert sorted(file.name for file in this.out.iterdir()) == [
        "00000.scores.zst", "00001.scores.zst", "00002.scores.zst", "index.json", "shards.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [("1\t2", "is not an id"), ("1\t2 x\t3 4", "is not an id"), ("x\t1 2\t3 4", "is not an id"), (None, "ends after")],
)
def test_lines_without_an_id_and_all_columns_are_found(tmp_path: Path, line: str | None, told: str) -> None:
    rows: list[tuple[int, dict[str, list[float]]]] = [(7, {"comet": [0.5, 1.0], "qe": [0.25, -1.0]})]
    entry = write_scores(tmp_path, "00000", iter(rows), ["comet", "qe"])
    finish_scores(tmp_path, entry, "made from")
    write_score_index(tmp_path, {"comet": "a", "qe": "b"})
    shard = ScoreCorpus(tmp_path).shards["00000"]
    assert [list(shard.read(metric)) for metric in ("comet", "qe")] == [[(7, [0.5, 1.0])], [(7, [0.25, -1.0])]]
    with LineWriter(shard.path) as file:
        for text in filter(None, [line]):
            file.write(text)
    with pytest.raises(Damaged, match=told):
        list(shard.read("comet"))
    with pytest.raises(Damaged, match="no scores of mbr_comet"):
        list(shard.read("mbr_comet"))


def test_a_record_of_other_files_is_not_resumed(tmp_path: Path) -> None:
    """Version 1 had a file per metric."""
    note_finished(tmp_path, {"name": "00000", "lines": 1, "files": {"qe": {}}, "made_from": "same"})
    assert resume_scores(tmp_path, [], {"00000": "same"}) == set()


def test_pairs_of_a_corpus_have_one_score_each(tmp_path: Path, lengths: None) -> None:
    corpus, _ = make(tmp_path, 1)
    this = job(tmp_path / "scores", corpus, None, config("qe"))
    Score().run(this)
    assert Score().check(this).counts == {"pairs": 2 * SHARD, "scores": 2 * SHARD}  # shards 0 and 2 of 3
    first = next(Corpus(corpus).read())
    row = next(ScoreCorpus(this.out).shards["00000"].read("qe"))
    assert row == (first.id, [pytest.approx(len(first.target) * 1.001)])


@pytest.mark.parametrize("metric", ["qe", "mix"])
def test_selection_reads_the_scores_without_gold(tmp_path: Path, lengths: None, metric: str) -> None:
    corpus, lists = make(tmp_path, 3)
    scores = job(tmp_path / "scores", corpus, lists, config("qe"))
    Score().run(scores)
    of = settings(metric=metric, **({"mix": {"qe": 1.0}} if metric == "mix" else {}))
    this = select_job(tmp_path, corpus, lists, of)
    this.inputs["scores"] = [Artifact(scores.out, "scores", "score", "worker-0", "f", "en-de", {}, {})]  # type: ignore[index]
    Select().run(this)
    summary = Select().check(this)
    assert "lengths" in summary.facts["signature"]
    targets = {pair.id: pair.target for pair in Corpus(this.out).read()}
    for group in Corpus(corpus).groups():
        place = group[0].id & ((1 << 40) - 1)
        longest = max(translations(place), key=len)
        assert all(targets[pair.id] == longest for pair in group)


# --- in a recipe ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = ["one two three four five", "eins zwei drei vier"] * 20
    return make_checkpoint(tmp_path_factory.mktemp("qe"), text, "referenceless_regression_metric")


def planned(*overrides: str) -> compose.Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=files", "source=a", "target=b", *overrides])))


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n", "utf-8")


def test_the_stage_is_planned_where_selection_needs_it(two_files: None, model: Path) -> None:
    stages = {each.spec.name: each for each in planned().stages}
    assert "score" not in stages
    plan = planned("select.metric=qe", f"score.qe.model={model}", "students.first=true", "decode.workers=2")
    stages = {each.spec.name: each for each in plan.stages}
    assert [task.name for task in stages["score"].tasks] == ["worker-0", "worker-1"]
    for number, task in enumerate(stages["select"].tasks):
        assert [item.task for item in task.inputs["scores"]] == [stages["score"].tasks[number]]
    assert set(stages["score"].tasks[0].files) == {model / "checkpoints" / "model.ckpt", model / "hparams.yaml"}
    mixed = planned("select=mix", "+select.mix.qe=2", f"score.qe.model={model}")
    assert "score" in {each.spec.name for each in mixed.stages}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["select.metric=qe"], r"qe needs a model.*Set score\.qe\.model"),
        (["select.metric=mbr_comet"], r"mbr_comet needs a model.*Set score\.comet\.model"),
        (["select.metric=qe", "score.qe.model=./none"], r"no COMET model at .*/none\."),
        (["select.metric=comet", "score.comet.model={model}"], r"is reference-free.*select\.metric=qe"),
        (["+score.metrics.blue=true"], r"no metric \(score\.metrics\).*blue"),
        (["select.metric=qe", "chain.score.enabled=false", "score.qe.model={model}"], r"score\.metrics\.qe=true"),
        (["+score.metrics.mbr_comet=true", "score.comet.model={model}"], "mbr_comet needs references"),
    ],
)
def test_impossible_scores_are_refused_when_planned(
    two_files: None, model: Path, overrides: list[str], told: str
) -> None:
    with pytest.raises(UserError) as found:
        planned(*(text.format(model=model) for text in overrides))
    assert re.search(told, f"{found.value.problem} {found.value.hint}")


def test_a_real_model_scores_in_a_task(tmp_path: Path, model: Path) -> None:
    corpus, lists = make(tmp_path, 1)
    of = config("qe", qe=ScorerConfig(str(model), 8))
    this = job(tmp_path / "scores", corpus, lists, of, files={})
    Score().run(this)
    assert Score().check(this).counts == {"pairs": SHARD, "scores": 3 * SHARD}
    changed = job(tmp_path / "scores", corpus, lists, of, files={model / "hparams.yaml": "0"})
    with pytest.raises(UserError, match="has changed since"):
        Score().run(changed)
