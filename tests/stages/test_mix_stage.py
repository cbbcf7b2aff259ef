"""Mixtures: lists of a fairseq model and of a converted model, joined source by source and scored by both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact
from kd.base.progress import Progress
from kd.corpora.ids import Pair
from kd.corpora.index import Damaged
from kd.corpora.mixtures import origins
from kd.corpora.nbest import Hypothesis, NBestCorpus, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.shards import Corpus, CorpusWriter
from kd.engines import scoring
from kd.engines.converted import convert
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.random_model import write_random_model
from kd.engines.scoring import Scoring, load_scorer
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import DecodePrecision, MixConfig, MixtureMemberConfig
from kd.stages import mix
from kd.stages.mix import Mix
from tests.tiny_converted import save_random_marian
from tests.tiny_model import Task

CONFIG = MixConfig(
    members={"ours": MixtureMemberConfig(teachers={"a": True}), "opus": MixtureMemberConfig(),
             "llm": MixtureMemberConfig()},
    precision=DecodePrecision.fp32, max_pieces=30, batch_tokens=300, workers=1, share=1.0,
)  # fmt: skip
MEMBERS = ["ours", "opus", "llm"]


@pytest.fixture(scope="module")
def corpus(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of four pairs; a source that comes twice and a blank one."""
    folder = tmp_path_factory.mktemp("corpus")
    sources = [source for source, _ in dict(task.dev).items()][:12]
    sources[5], sources[9] = sources[4], "  "
    with CorpusWriter(folder, ("de", "en"), 4, keep_groups=True) as writer:
        for number, source in enumerate(sources):
            writer.add(Pair(100 + 7 * number, source, f"gold {number}"))
    return folder


def write_lists(corpus: Path, folder: Path, texts: dict[int, list[str]], other: str) -> Path:
    """Write lists: those of `texts` by id, `other` for all other sources."""
    for shard in Corpus(corpus).shards:
        with NBestShardWriter(folder, shard.name, pieces=False) as writer:
            for group in shard.groups():
                found = texts.get(group[0].id, [other])
                writer.add(NBestList(group[0].id, [Hypothesis(text, {"F0": (0.0,)}, 0.0) for text in found]))
    write_nbest_index(folder, {})
    return folder


@pytest.fixture(scope="module")
def lists(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of three members; all have `one.` for the source of 100, and two have `two.`."""
    place = tmp_path_factory.mktemp("lists")
    return {
        "ours": write_lists(corpus, place / "ours", {100: ["one.", "two."]}, "ours."),
        "opus": write_lists(corpus, place / "opus", {100: ["three.", "one."]}, "opus."),
        "llm": write_lists(corpus, place / "llm", {100: ["two.", "one.", "one."]}, "ours."),
    }


@pytest.fixture(scope="module")
def converted(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("marian")
    model = save_random_marian(place / "hub", (side for pair in task.train[:500] for side in pair))
    convert(model, place / "converted", compute_type="float32", languages=("de", "en"))
    return place / "converted"


@pytest.fixture(scope="module")
def fairseq_model(task: Task, spec: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fairseq")
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(task.vocabulary_folder / name, folder / name)
    write_random_model(spec.config.model, folder, seed=1, longest=64)
    return folder


def artifact(path: Path, task: str = "worker-0", label: str = "") -> Artifact:
    return Artifact(path, label, "", task, "", None, {}, {})


def new_job(corpus: Path, lists: dict[str, Path], teachers: dict[str, Path], out: Path) -> Job[MixConfig]:
    out.mkdir(exist_ok=True)
    return Job(
        name="worker-0", stage="decode", config=CONFIG, identity={"worker": 0}, axis=None, axis_value={},
        inputs={"corpus": [artifact(corpus)],
                "lists": [artifact(path, label=name) for name, path in lists.items()],
                "teachers": [artifact(path, f"member-{name}") for name, path in teachers.items()]},
        files={}, out=out, resumable_from=[], attempts=1, threads=1, device="cpu", machine={}, progress=Progress(None),
    )  # fmt: skip


@pytest.fixture
def job(corpus: Path, lists: dict[str, Path], converted: Path, fairseq_model: Path, tmp_path: Path) -> Job[MixConfig]:
    return new_job(corpus, lists, {"a": fairseq_model, "opus": converted}, tmp_path / "out")


def read(folder: Path) -> dict[int, NBestList]:
    return {nbest.id: nbest for shard in NBestCorpus(folder).shards for nbest in shard.read()}


def test_equal_texts_are_one_hypothesis_with_all_its_origins(job: Job[MixConfig]) -> None:
    Mix().run(job)
    found = {each.text: each for each in read(job.out)[100].hypotheses}
    assert {text: origins(each) for text, each in found.items()} == {
        "one.": ["ours", "opus", "llm"], "two.": ["ours", "llm"], "three.": ["opus"],
    }  # fmt: skip
    ranks = [found["one."].features[f"{name}.rank"] for name in MEMBERS]
    assert ranks == [(0.0,), (1.0,), (1.0,)]
    assert found["three."].features["ours.rank"] == (-1.0,)
    summary = Mix().check(job)
    assert summary.counts["sources"] == summary.counts["lists"] == 11
    assert summary.facts["members"]["opus"] == {"hypotheses": 12, "from it alone": 11, "scores": True}
    assert summary.facts["members"]["llm"]["scores"] is False
    # 100: 6 of the members' lists (llm has `one.` twice), 3 kept. The ten others: `ours.` of two members, and `opus.`.
    assert (summary.counts["hypotheses given"], summary.counts["hypotheses"]) == (36, 23)
    assert summary.dropped == {"repeated by another member": 13}


def test_every_list_has_the_mean_score_of_the_teachers_that_can_score(
    job: Job[MixConfig], corpus: Path, fairseq_model: Path, converted: Path
) -> None:
    Mix().run(job)
    sources = {pair.id: pair.source for pair in Corpus(corpus).read()}
    settings = Scoring(("de", "en"), 300, 1, "cpu", max_pieces=30)
    scorers = [load_scorer([folder], settings) for folder in (fairseq_model, converted)]
    for pair_id, nbest in read(job.out).items():
        texts = [each.text for each in nbest.hypotheses]
        single = [scorer.score([sources[pair_id]], [texts])[0] for scorer in scorers]
        for place, each in enumerate(nbest.hypotheses):
            own = [each.features["ours.score"][0], each.features["opus.score"][0]]
            assert own == pytest.approx([scores[place] for scores in single], abs=1e-5)
            assert each.score == pytest.approx(sum(own) / 2, abs=1e-12)
            assert "llm.score" not in each.features
        scores = [each.score for each in nbest.hypotheses]
        assert scores == sorted(scores, reverse=True)


def test_without_a_teacher_that_can_score_lists_are_in_the_order_of_ranks(
    corpus: Path, lists: dict[str, Path], tmp_path: Path
) -> None:
    job = new_job(corpus, lists, {}, tmp_path / "out")
    Mix().run(job)
    Mix().check(job)
    # All three are the best of a list: ours has `one.`, then llm `two.`, and opus `three.`, which is read after both.
    assert [each.text for each in read(job.out)[100].hypotheses] == ["one.", "two.", "three."]
    assert {each.score for each in read(job.out)[100].hypotheses} == {0.0}


def test_a_killed_task_scores_only_the_missing_shards(job: Job[MixConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(job, out=job.out.with_name("whole"))
    whole.out.mkdir()
    Mix().run(whole)
    original, joined = mix._Worker.join, []

    def join(self: Any, item: Any, tick: Any) -> None:
        if len(joined) == 2:
            raise KeyboardInterrupt
        joined.append(item.name)
        original(self, item, tick)

    with monkeypatch.context() as patched:
        patched.setattr(mix._Worker, "join", join)
        with pytest.raises(KeyboardInterrupt):
            Mix().run(job)
    (job.out / f"{joined[1]}.nbest.zst").write_bytes(b"")  # recorded, and damaged on the disk
    again: list[int] = []
    score = scoring._PairScorer.score
    monkeypatch.setattr(
        scoring._PairScorer,
        "score",
        lambda self, sources, targets: (again.append(len(sources)), score(self, sources, targets))[1],
    )
    Mix().run(job)
    Mix().check(job)
    assert len(again) == 2, "the damaged shard and the third"
    assert {path.name: path.read_bytes() for path in job.out.glob("*.zst")} == {
        path.name: path.read_bytes() for path in whole.out.glob("*.zst")
    }


def test_lists_of_other_sources_are_refused(job: Job[MixConfig], lists: dict[str, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "shifted"
    shutil.copytree(lists["opus"], wrong)
    shard = NBestCorpus(wrong).shards[1]
    rows = list(shard.read())
    with NBestShardWriter(wrong, shard.name, pieces=False) as writer:
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
            writer.add(row._replace(id=other.id))
    write_nbest_index(wrong, {})
    shifted = replace(job, inputs={**job.inputs, "lists": [
        artifact(wrong if each.label == "opus" else each.path, label=each.label) for each in job.inputs["lists"]
    ]})  # fmt: skip
    with pytest.raises(Damaged, match=r"is in the place of"):
        Mix().run(shifted)


def test_a_list_other_than_its_members_is_incomplete(job: Job[MixConfig], lists: dict[str, Path], corpus: Path) -> None:
    Mix().run(job)
    other = write_lists(corpus, job.out.with_name("other"), {}, "other.")
    changed = replace(job, inputs={**job.inputs, "lists": [
        artifact(other if each.label == "opus" else each.path, label=each.label) for each in job.inputs["lists"]
    ]})  # fmt: skip
    with pytest.raises(IncompleteArtifact, match=r"is not that of its members' lists"):
        Mix().check(changed)
