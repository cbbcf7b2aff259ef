"""Decoding by shards: what is whole is never decoded again, what is not is decoded again or refused, nothing shifts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.base.world import World
from kd.corpora.ids import Pair
from kd.corpora.nbest import NBestCorpus, read_nbest
from kd.corpora.shards import CorpusWriter
from kd.engines.nan import NaNScores
from kd.models.folder import ModelFolder
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import DecodeConfig, DecodeEngine, DecodeMethod, DecodePrecision, GuardsConfig, LongSources
from kd.stages import decode, decoding
from kd.stages.decode import Decode
from tests.corpora.samples import rewrite

GUARDS = GuardsConfig(
    empty=True, copy=True, copy_words=4, length=True, max_ratio=3.0, ratio_slack=12, repetition=True, repeats=2,
    language=False, language_letters=40, language_probability=0.8,
)  # fmt: skip
CONFIG = DecodeConfig(
    beam=3, nbest=2, max_pieces=30, length_penalty=1.0, batch_tokens=300, workers=1, share=1.0, guards=GUARDS
)
LONG = "eins zwei drei vier " * 20


def artifact(path: Path) -> Artifact:
    return Artifact(path, "", "", path.name, "", None, {}, {})


@pytest.fixture(scope="module")
def corpus(task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of ten pairs; a source that comes twice, a blank one, one that is too long."""
    folder = tmp_path_factory.mktemp("corpus")
    sources = [source for source, _ in dict(task.dev).items()][:30]
    sources[5] = sources[4]
    sources[11] = "  "
    sources[21] = LONG
    with CorpusWriter(folder, ("de", "en"), 10, keep_groups=True) as writer:
        for number, source in enumerate(sources):
            writer.add(Pair(100 + 7 * number, source, f"gold {number}"))
    return folder


@pytest.fixture
def job(corpus: Path, trained, second, tmp_path: Path) -> Job[DecodeConfig]:
    return new_job(CONFIG, corpus, [trained.folder, second], tmp_path / "out")


def new_job(config: DecodeConfig, corpus: Path, teachers: list[Path], out: Path) -> Job[DecodeConfig]:
    out.mkdir(exist_ok=True)
    return Job(
        name="worker-0", stage="decode", config=config, identity={"worker": 0}, axis=None, axis_value={},
        inputs={"corpus": [artifact(corpus)], "teachers": [artifact(teacher) for teacher in teachers]},
        files={}, out=out, resumable_from=[], attempts=1, threads=1, device="cpu", machine={}, progress=Progress(None),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(corpus: Path, trained, second, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decoded") / "out"
    one = new_job(CONFIG, corpus, [trained.folder, second], out)
    Decode().run(one)
    Decode().check(one)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def count_decoding(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sources each call of the translator is given."""
    from kd.engines.fairseq.translate import EnsembleTranslator

    calls: list[int] = []
    original = EnsembleTranslator.translate

    def translate(self: Any, sources: Any, progress: Any = None) -> Any:
        calls.append(len(sources))
        return original(self, sources, progress)

    monkeypatch.setattr(EnsembleTranslator, "translate", translate)
    return calls


def test_every_source_has_its_list(finished: Path, corpus: Path, trained, second) -> None:
    one = new_job(CONFIG, corpus, [trained.folder, second], finished)
    summary = Decode().check(one)
    assert summary.counts["sources"] == summary.counts["lists"] == 29
    assert summary.counts["shards"] == 3
    assert (summary.facts["blank"], summary.facts["cut"]) == (1, 1)
    assert isinstance(summary.facts["guards"], dict)
    by_id = {nbest.id: nbest for shard in NBestCorpus(finished).shards for nbest in shard.read()}
    assert 100 + 7 * 5 not in by_id  # the same source as the pair before: decoded once, under that one's id
    assert [each.text for each in by_id[100 + 7 * 11].hypotheses] == [""]
    assert all(1 <= len(nbest.hypotheses) <= 2 for nbest in by_id.values())
    assert all(list(each.features) == ["F0", "F1"] for nbest in by_id.values() for each in nbest.hypotheses)


def test_shards_that_overflow_are_decoded_again_in_another_precision(
    corpus: Path, trained, second, tmp_path: Path
) -> None:
    import torch

    teachers = [tmp_path / "overflowing", second]
    ModelFolder.open(trained.folder).copy(teachers[0])
    state = torch.load(teachers[0] / "model.pt", weights_only=False)
    state["model"]["decoder.layers.0.fc2.weight"] *= 1e5  # beyond fp16's largest number, 65,504
    torch.save(state, teachers[0] / "model.pt")
    jobs = {}
    for precision, retry in (
        (DecodePrecision.fp32, None),
        (DecodePrecision.fp16, DecodePrecision.fp32),
        (DecodePrecision.fp16, None),
    ):
        config = replace(CONFIG, precision=precision, retry_precision=retry)
        jobs[precision, retry] = new_job(config, corpus, teachers, tmp_path / f"{precision}-{retry}")
    with pytest.raises(NaNScores, match=r"Member 1 computed NaN in fp16.*decode\.retry_precision"):
        Decode().run(jobs[DecodePrecision.fp16, None])
    plain, retried = jobs[DecodePrecision.fp32, None], jobs[DecodePrecision.fp16, DecodePrecision.fp32]
    for each in (plain, retried):
        Decode().run(each)
    assert Decode().check(retried).facts["shards decoded again in fp32 after NaN"] == 3
    assert not any("again" in name for name in Decode().check(plain).facts)
    lists = [[n for s in NBestCorpus(each.out).shards for n in s.read()] for each in (plain, retried)]
    assert lists[0] == lists[1]


@pytest.mark.parametrize("retry", [DecodePrecision.fp32, DecodePrecision.fp16])
def test_a_retry_in_a_precision_that_does_not_help_is_refused(retry: DecodePrecision) -> None:
    with pytest.raises(UserError, match=f"decode.retry_precision is {retry.value}, which does not help"):
        Decode().validate(replace(CONFIG, retry_precision=retry))


def test_long_sources_may_be_skipped_in_their_place(job: Job[DecodeConfig]) -> None:
    config = replace(CONFIG, long_sources=LongSources.skip, max_source_pieces=25)
    skipping = replace(job, config=config)
    Decode().run(skipping)
    summary = Decode().check(skipping)
    assert summary.facts["skipped"] == 1
    assert "cut" not in summary.facts
    assert summary.facts["guards"]["empty"] == 1
    [long] = [n for s in NBestCorpus(job.out).shards for n in s.read() if n.id == 100 + 7 * 21]
    assert [(each.text, each.score) for each in long.hypotheses] == [("", float("-inf"))]


def test_a_limit_above_the_teachers_is_told(job: Job[DecodeConfig], caplog: pytest.LogCaptureFixture) -> None:
    capped = replace(job, config=replace(CONFIG, max_pieces=200))
    Decode().run(capped)
    facts = Decode().check(capped).facts
    assert facts["sources whose output was limited to the teachers' training length"] == 29
    assert "max_pieces is 200, but the models were trained on 40" in caplog.text


def test_members_leave_the_same_kind_of_folder(job: Job[DecodeConfig]) -> None:
    other = replace(job, config=replace(CONFIG, engine=DecodeEngine.members, member_nbest=3))
    Decode().run(other)
    assert Decode().check(other).counts["lists"] == 29


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_it_goes_on(
    job: Job[DecodeConfig], finished: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed while a shard is written, before its record, after it, and before the index."""
    from kd.corpora import nbest

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == 0:
            patch.setattr(nbest.NBestWriter, "add", die)
        elif moment == 1:
            patch.setattr(nbest.NBestWriter, "abort", lambda self: None)
            patch.setattr(nbest, "note_finished", die)
        elif moment == 2:
            original = nbest.NBestShardWriter.close
            patch.setattr(nbest.NBestShardWriter, "close", lambda self: (original(self), die()))
        else:
            patch.setattr(nbest, "write_index", die)
        with pytest.raises(Killed):
            Decode().run(job)
    calls = count_decoding(monkeypatch)
    Decode().run(job)
    Decode().check(job)
    assert len(calls) == {0: 3, 1: 3, 2: 2, 3: 0}[moment]
    assert contents(job.out) == contents(finished)


def test_several_processes_leave_what_one_does(job: Job[DecodeConfig], finished: Path) -> None:
    """What each of them has is a thread of its own, as the one has that decoded alone."""
    several = replace(job, threads=2, world=World(processes=2))
    Decode().run(several)
    summary = Decode().check(several)
    assert contents(job.out) == contents(finished)
    assert summary.facts["devices"] == 2
    assert summary.counts == Decode().check(replace(several, out=finished)).counts


def test_each_process_of_a_job_has_a_gpu_of_its_own(job: Job[DecodeConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GPUs here: what they see, as far as it goes by their environment."""
    taken: list[str] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")

    class Taking:
        def __init__(self, _: Any) -> None:
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])

        def decode(self, *_: Any) -> None:
            """Never called: nothing is decoded here."""

    monkeypatch.setattr(decoding, "Decoder", Taking)
    started: list[tuple[Any, ...]] = []

    class Here:
        def __init__(self, count: int, start: Callable[..., None], *given: Any) -> None:
            started.append((count, start, *given))

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def map(self, *_: object) -> list[None]:
            return []

    monkeypatch.setattr(decode, "Workers", Here)
    with pytest.raises(IncompleteArtifact):
        on_gpus = replace(job, device="cuda", threads=6, world=World(gpus=3))
        Decode().run(on_gpus)
        Decode().check(on_gpus)
    [(count, start, spec, next_gpu)] = started
    assert (count, spec.threads) == (3, 2)
    for _ in range(count):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
        start(spec, next_gpu)
    assert taken == ["4", "5", "6"]


def name_of(folder: Path, shard: int) -> str:
    return NBestCorpus(folder).shards[shard].name


def cut_archive(folder: Path) -> None:
    path = folder / f"{name_of(folder, 1)}.nbest.zst"
    path.write_bytes(path.read_bytes()[:-20])


def lose_a_line(folder: Path) -> None:
    rewrite(folder / f"{name_of(folder, 1)}.nbest.zst", lambda lines: lines[:4] + lines[5:])


def forge_hashes(folder: Path) -> None:
    import hashlib

    index = json.loads((folder / "index.json").read_text("utf-8"))
    for entry in index["shards"]:
        content = (folder / f"{entry['name']}.nbest.zst").read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / "index.json").write_text(json.dumps(index), "utf-8")


def lose_a_list_and_forge(folder: Path) -> None:
    path = folder / f"{name_of(folder, 1)}.nbest.zst"
    number = len(next(read_nbest(path)).hypotheses)
    rewrite(path, lambda lines: lines[number:])
    forge_hashes(folder)


def repeat_an_id_and_forge(folder: Path) -> None:
    rewrite(folder / f"{name_of(folder, 1)}.nbest.zst", lambda lines: [*lines[:-1], lines[0]])
    forge_hashes(folder)


def swap_two_shards(folder: Path) -> None:
    one, other = (folder / f"{name_of(folder, shard)}.nbest.zst" for shard in (0, 1))
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    index = json.loads((folder / "index.json").read_text("utf-8"))
    first, second = index["shards"][:2]
    for key in ("lists", "lines", "bytes", "sha256"):
        first[key], second[key] = second[key], first[key]
    (folder / "index.json").write_text(json.dumps(index), "utf-8")


@pytest.mark.parametrize(
    ("damage", "again", "told"),
    [
        (cut_archive, 1, r"\.nbest\.zst"),
        (lose_a_line, 1, r"\.nbest\.zst"),
        (lose_a_list_and_forge, 1, r"\.nbest\.zst"),
        (repeat_an_id_and_forge, 1, r"nbest\.zst, line \d+"),
        (swap_two_shards, 2, r"\.nbest\.zst, line 1: the list of \d+ is in the place of \d+"),
    ],
)
def test_damage_is_refused_and_mended(
    job: Job[DecodeConfig],
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    again: int,
    told: str,
) -> None:
    shutil.copytree(finished, job.out, dirs_exist_ok=True)
    damage(job.out)
    with pytest.raises(IncompleteArtifact, match=told):
        Decode().check(job)
    calls = count_decoding(monkeypatch)
    Decode().run(job)  # as the next attempt does
    assert len(calls) == again
    Decode().check(job)
    assert contents(job.out) == contents(finished)


def test_a_list_that_is_too_long_is_refused(job: Job[DecodeConfig], finished: Path) -> None:
    stricter = replace(job, out=finished, config=replace(CONFIG, nbest=1))
    with pytest.raises(IncompleteArtifact, match=r"line \d+: the list of \d+ has more than 1"):
        Decode().check(stricter)
    alone = replace(job, out=finished, inputs={**job.inputs, "teachers": job.inputs["teachers"][:1]})
    with pytest.raises(IncompleteArtifact, match=r"line 1: the list of \d+ lacks the scores of a teacher"):
        Decode().check(alone)


def test_more_of_the_corpus_repeats_nothing(
    job: Job[DecodeConfig], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_decoding(monkeypatch)
    part = replace(job, out=job.out / "part", config=replace(CONFIG, share=0.4))
    part.out.mkdir()
    Decode().run(part)
    assert Decode().check(part).counts["shards"] == 2
    whole = replace(job, out=job.out / "whole", resumable_from=[part.out])
    whole.out.mkdir()
    Decode().run(whole)
    assert len(calls) == 3
    assert contents(whole.out) == contents(finished)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nbest": 4}, "decode.nbest is 4 but decode.beam is 3"),
        ({"member_nbest": 0}, "decode.member_nbest is 0"),
        ({"compute_type": "int7"}, "decode.compute_type is 'int7'"),
    ],
)
def test_impossible_settings_are_explained(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Decode().validate(replace(CONFIG, **change))


# --- other ways to n-best lists -------------------------------------------------------------------------------------


def test_samples_are_lists_of_nbest_that_the_seed_determines(corpus: Path, trained, second, tmp_path: Path) -> None:
    def sampled(name: str, **changes: Any) -> list[str]:
        config = replace(CONFIG, method=DecodeMethod.sample, nbest=4, **{"seed": 1, "temperature": 2.0, **changes})
        this = new_job(config, corpus, [trained.folder, second], tmp_path / name)
        Decode().run(this)
        assert Decode().check(this).counts["hypotheses"] > 3 * 28  # all but the blank one have four
        return [h.text for shard in NBestCorpus(this.out).shards for nbest in shard.read() for h in nbest.hypotheses]

    first = sampled("first")
    assert sampled("again", batch_tokens=50) == first  # batches of other sizes
    assert sampled("other", seed=2) != first


def test_a_diverse_beam_has_more_first_words(corpus: Path, trained, second, tmp_path: Path) -> None:
    def first_words(name: str, **changes: Any) -> int:
        config = replace(CONFIG, beam=4, nbest=4, **changes)
        this = new_job(config, corpus, [trained.folder, second], tmp_path / name)
        Decode().run(this)
        Decode().check(this)
        lists = [nbest for shard in NBestCorpus(this.out).shards for nbest in shard.read()]
        return sum(len({h.text.split(" ")[0] for h in nbest.hypotheses}) for nbest in lists)

    diverse = first_words("diverse", method=DecodeMethod.diverse, diversity=5.0)
    assert diverse > 1.5 * first_words("beam")


def test_settings_of_other_methods_are_no_part_of_the_identity() -> None:
    def identity(**changes: Any) -> Mapping[str, Any]:
        stage: Any = SimpleNamespace(config=replace(CONFIG, seed=1, **changes), inputs={"teachers": []})
        stage.input_tasks = lambda role: []
        return next(Decode().tasks(stage)).identity

    assert identity() == identity(groups=2, diversity=1.0, temperature=2.0, sample_top=5)
    sample, diverse = {"method": DecodeMethod.sample}, {"method": DecodeMethod.diverse}
    assert identity(**sample) == identity(**sample, beam=9) != identity(**sample, temperature=2.0)
    assert identity(**diverse) == identity(**diverse, temperature=2.0) != identity(**diverse, beam=9)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": DecodeMethod.sample, "engine": DecodeEngine.members}, "Set decode.engine=ensemble"),
        ({"method": DecodeMethod.diverse, "beam": 3, "groups": 2}, "not a multiple of decode.groups=2"),
    ],
)
def test_methods_that_cannot_work_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Decode().validate(replace(CONFIG, **changes))
