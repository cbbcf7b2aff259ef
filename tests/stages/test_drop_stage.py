"""The stage that drops the worst share by a backward model: exact over all shards and tasks, resumable, sampled."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.ids import Origin, Pair
from kd.corpora.rejects import read_rejects
from kd.corpora.scores import ScoreCorpus
from kd.corpora.shards import Corpus, CorpusWriter
from kd.metrics.comet_lists import ListToScore
from kd.pipeline.model import Artifact, Job
from kd.recipe import compose
from kd.recipe.schema import BackwardDropConfig, BackwardModelConfig, ScoreConfig, SelectMetric
from kd.stages import drop as stage
from kd.stages.backward import BackwardScorer
from kd.stages.drop import Drop
from kd.stages.score import Score
from tests.engines.test_scoring import reference

ORIGINS = {"bilingual": Origin("en-de", "made"), "source": Origin("en-de", "news", use="source")}
SHARD = 20


def score_of(place: int) -> float:
    return -((place * 37) % 211) / 10


class Places:
    """A scorer that knows a pair by the number in its source."""

    signature = "places"

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        return [[score_of(int(item.source.split()[-1])) for _ in item.hypotheses] for item in lists]


def job(out: Path, config: Any, inputs: dict[str, list[Path]], **changes: Any) -> Job[Any]:
    out.mkdir(parents=True, exist_ok=True)
    artifacts = {
        role: [Artifact(path, role, role, path.name, "f", "en-de", {}, {}) for path in paths]
        for role, paths in inputs.items()
    }
    values: dict[str, Any] = {
        "name": "all", "stage": "drop.en-de", "config": config, "identity": {}, "axis": "en-de",
        "axis_value": {"source": "en", "target": "de"}, "inputs": artifacts, "files": {}, "out": out,
        "resumable_from": [], "attempts": 1, "threads": 1, "device": "cpu", "machine": {}, "progress": Progress(None),
        **changes,
    }  # fmt: skip
    return Job(**values)


def selected(folder: Path, pairs: int, name: str = "bilingual", first: int = 0) -> list[Path]:
    """Two tasks of selection, with every second shard each."""
    origin, found = ORIGINS[name], [folder / f"{name}-{task}" for task in range(2)]
    for task, place in enumerate(found):
        with CorpusWriter(place, ("en", "de"), None, ("rank",), keep_groups=True, origins=[origin]) as writer:
            for start in range(task * SHARD, pairs, 2 * SHARD):
                writer.begin_shard(f"{start // SHARD:05d}")
                for number in range(start, min(pairs, start + SHARD)):
                    pair = Pair((origin.prefix << 40) + number, f"number {first + number}", f"Nummer {first + number}")
                    writer.add(pair, "3")
    return found


def scored(folder: Path, corpus: list[Path], config: ScoreConfig | None = None) -> list[Path]:
    """Two tasks of scoring, with other shards than those of selection."""
    of = config or ScoreConfig(SelectMetric.model, {}, drop=0.1)
    places = []
    for worker in range(2):
        place = folder / f"scores-{corpus[0].name}-{worker}"
        this = job(place, of, {"corpus": corpus}, identity={"worker": worker, "workers": 2})
        Score().run(this)
        Score().check(this)
        places.append(place)
    return places


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.stages.score._SCORERS", {SelectMetric.backward: lambda spec: Places()})


@pytest.fixture
def texts(tmp_path: Path, places: None) -> dict[str, list[Path]]:
    corpus = selected(tmp_path, 90)
    return {"corpus": corpus, "scores": scored(tmp_path, corpus)}


def kept(folder: Path) -> set[str]:
    return {pair.source for pair in Corpus(folder).read()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def worst(places: range, count: int) -> set[str]:
    return {f"number {place}" for place in sorted(places, key=score_of)[:count]}


def test_the_share_is_that_of_all_shards(tmp_path: Path, texts: dict[str, list[Path]]) -> None:
    this = job(tmp_path / "out", BackwardDropConfig(0.1, 4), texts)
    Drop().run(this)
    summary = Drop().check(this)
    assert summary.counts == {"pairs in": 90, "pairs out": 81}
    assert summary.dropped == {"backward: lowest 0.1": 9}
    assert summary.facts["signature"] == "places"
    everything = {f"number {place}" for place in range(90)}
    assert everything - kept(this.out) == worst(range(90), 9)
    (shard, *_) = Corpus(this.out).shards
    (pair, values) = next(shard.rows("rank", "backward"))
    assert (values[0], float(values[1])) == ("3", score_of(int(pair.source.split()[-1])))
    rejected = [(label, found.source) for label, found in read_rejects(this.out / "rejected.tsv.zst")]
    assert len(rejected) == 4
    assert {source for _, source in rejected} < worst(range(90), 9)
    assert {label for label, _ in rejected} == {"backward"}


def test_source_only_text_is_ranked_with_the_rest(tmp_path: Path, texts: dict[str, list[Path]]) -> None:
    others = selected(tmp_path, 50, "source", first=90)
    other_scores = scored(tmp_path, others)
    both = {**texts, "other_corpus": others, "other_scores": other_scores}
    turned = {"corpus": others, "scores": other_scores, "other_corpus": texts["corpus"],
              "other_scores": texts["scores"]}  # fmt: skip
    left: set[str] = set()
    for name, inputs in (("a", both), ("b", turned)):
        this = job(tmp_path / name, BackwardDropConfig(0.05), inputs)
        Drop().run(this)
        assert Drop().check(this).facts["pairs ranked"] == 140
        left |= kept(this.out)
    assert {f"number {place}" for place in range(140)} - left == worst(range(140), 7)


def test_a_killed_task_goes_on_with_equal_results(
    tmp_path: Path, texts: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job(tmp_path / "whole", BackwardDropConfig(0.1), texts, threads=1)
    Drop().run(whole)
    real, done = stage._drop_shard, []

    def dying(context: None, item: Any, tick: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(item.name)
        real(context, item, tick)

    this = job(tmp_path / "out", BackwardDropConfig(0.1), texts)
    monkeypatch.setattr(stage, "_drop_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        Drop().run(this)
    monkeypatch.setattr(stage, "_drop_shard", lambda *given: done.append(given[1].name) or real(*given))
    Drop().run(this)
    assert done == [f"{number:05d}" for number in range(5)]
    assert contents(this.out) == contents(whole.out)
    Drop().check(this)


def test_a_lost_pair_is_noticed(tmp_path: Path, texts: dict[str, list[Path]]) -> None:
    this = job(tmp_path / "out", BackwardDropConfig(0.1), texts)
    Drop().run(this)
    with pytest.raises(IncompleteArtifact, match=r"9 pairs, but 18 were to be dropped"):
        Drop().check(job(tmp_path / "out", BackwardDropConfig(0.2), texts))


# --- with a model ----------------------------------------------------------------------------------------------------


def test_pairs_have_the_scores_of_the_backward_model(tmp_path: Path, trained, task) -> None:
    """The model translates German into English, so it is a backward model of en-de."""
    place = tmp_path / "selected"
    pairs = [(english, german) for german, english in task.dev[:12]]
    pairs[5] = (pairs[5][0], "null null.")
    with CorpusWriter(place, ("en", "de"), 5, keep_groups=True, origins=[ORIGINS["bilingual"]]) as writer:
        for number, (source, target) in enumerate(pairs):
            writer.add(Pair((ORIGINS["bilingual"].prefix << 40) + number, source, target))
    of = ScoreConfig(SelectMetric.model, {}, backward=BackwardModelConfig(str(trained.folder)), drop=0.1)
    found: dict[int, float] = {}
    for folder in scored(tmp_path, [place], of):
        corpus = ScoreCorpus(folder)
        assert corpus.signatures == {"backward": f"backward|model:{trained.folder.name}|normalised:tokens"}
        found |= {number: score for shard in corpus.shards.values() for number, (score,) in shard.read("backward")}
    expected = reference([trained.folder], [(target, source) for source, target in pairs], task)
    assert [found[number] for number in sorted(found)] == pytest.approx(expected, abs=1e-4)
    this = job(tmp_path / "out", BackwardDropConfig(0.1), {"corpus": [place], "scores": [
        tmp_path / f"scores-selected-{worker}" for worker in range(2)
    ]})  # fmt: skip
    Drop().run(this)
    (worst_place,) = {number for number in range(12) if expected[number] == min(expected)}
    assert [pair.id & 0xFF for pair in Corpus(this.out).read()] == [n for n in range(12) if n != worst_place]


def test_blank_text_is_the_worst(trained) -> None:
    scorer = BackwardScorer(BackwardModelConfig(str(trained.folder)), ("en", "de"), 1, "cpu")
    lists = [ListToScore("one.", ["eins.", " ", "eins."], ""), ListToScore(" ", ["eins."], "")]
    (first, blank, again), (nothing,) = scorer.scores(lists)
    assert first == again > blank == nothing == float("-inf")


# --- in a recipe -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plans(trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("plans")
    for name in ("a", "b"):
        (folder / name).write_text("one\n", "utf-8")
    for source, target in (("de", "en"), ("en", "de")):
        model = folder / f"{source}-{target}"
        shutil.copytree(trained.folder, model, ignore=shutil.ignore_patterns("*checkpoint*"))
        (model / "manifest.json").write_text(f'{{"axis": "{source}-{target}"}}')
    start = ["recipe=files", f"source={folder / 'a'}", f"target={folder / 'b'}", "pairs.source-target.source=en",
             "pairs.source-target.target=de"]  # fmt: skip

    def planned(*overrides: str) -> compose.Plan:
        texts = [text.format(folder=folder, target="{target}", source="{source}") for text in overrides]
        return compose.plan(compose.compose(compose.parse_request([*start, *texts])))

    return planned


def test_the_stages_are_planned_where_a_share_is_dropped(plans: Any) -> None:
    assert {"backward", "drop"}.isdisjoint(each.spec.name for each in plans().stages)
    plan = plans(
        "select.backward.drop=0.05", 'score.backward.model="{folder}/{target}-{source}"', "students.first=true"
    )
    stages = {each.spec.name: each for each in plan.stages}
    assert [each.spec.name for _, each in stages["encode_selected"].inputs["corpus"]] == ["drop"]
    assert [each.spec.name for _, each in stages["encode_first"].inputs["corpus"]] == ["drop_first"]
    assert {path.name for path in stages["backward"].tasks[0].files} >= {"model.pt", "dict.txt"}
    assert stages["backward"].tasks[0].identity["metrics"] == ["backward"]
    assert "score" not in stages
    assert set(stages["select"].tasks) == {item.task for item in stages["drop"].tasks[0].inputs["corpus"]}


def test_source_only_text_is_filtered_too(plans: Any) -> None:
    mono = "+corpus.sources.mono={{use: source, format: plain, source: {folder}/a}}"
    plan = plans("select.backward.drop=0.05", "score.backward.model={folder}/de-en", mono)
    stages = {each.spec.name: each for each in plan.stages}
    assert {each.spec.name for _, each in stages["encode_student"].inputs["corpus"]} == {"drop", "drop_source"}
    for name, other in (("drop", "select_source"), ("drop_source", "select")):
        (task,) = stages[name].tasks
        assert {item.task for item in task.inputs["other_corpus"]} == set(stages[other].tasks)
        assert len(task.inputs["other_scores"]) == 8


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["select.backward.drop=0.05"], r"needs a model of the opposite.*Set score\.backward\.model"),
        (["select.backward.drop=1"], r"select\.backward\.drop is 1\.0.*below 1"),
        (["select.backward.drop=-0.1"], r"select\.backward\.drop is -0\.1.*at least 0"),
        (
            ["select.backward.drop=0.05", "score.backward.model={folder}/none"],
            r"no folder .*/none .*Train a model from de to en first",
        ),
        (
            ["select.backward.drop=0.05", 'score.backward.model="{folder}/{source}-{target}"'],
            r"translates from en, but the backward model must translate from de to en",
        ),
        (
            ["select.backward.drop=0.05", "score.backward.model={folder}/de-en", "chain=given_teachers",
             "+teachers.a.model={folder}/de-en"],
            r"is a teacher, which translates from en to de",
        ),
        (
            ["select.backward.drop=0.05", "score.backward.model={folder}/de-en", "chain.drop.inputs.corpus=split"],
            r"reads scores of other text",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_refused_when_planned(plans: Any, overrides: list[str], told: str) -> None:
    with pytest.raises(UserError) as found:
        plans(*overrides)
    assert re.search(told, f"{found.value.problem} {found.value.hint}")
