"""Decoding with a teacher behind a server: shards, resuming, counts and prices in the manifest, few-shot examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import TransientError
from kd.base.progress import Progress, read
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.corpora.nbest import NBestCorpus
from kd.corpora.shards import CorpusWriter
from kd.engines.endpoint.journal import Journal
from kd.pipeline.fingerprint import canonical
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import (
    DecodeConfig,
    DecodeMethod,
    GivenModelConfig,
    GivenModelsConfig,
    GuardsConfig,
    TeacherEngine,
)
from kd.stages.asking import JOURNAL
from kd.stages.decode import Decode
from kd.stages.given_models import GivenModels
from tests.chat_servers import ChatServer

KEY = "sk-secret-456"
GUARDS = GuardsConfig(
    empty=True, copy=True, copy_words=4, length=True, max_ratio=3.0, ratio_slack=12, repetition=True, repeats=2,
    language=False, language_letters=40, language_probability=0.8,
)  # fmt: skip
CONFIG = DecodeConfig(
    method=DecodeMethod.sample, seed=1, beam=1, nbest=2, max_pieces=30, length_penalty=1.0, batch_tokens=300,
    workers=1, share=1.0, guards=GUARDS,
)  # fmt: skip


@pytest.fixture
def teacher(chat: ChatServer) -> GivenModelConfig:
    prompt = "{source_language} to {target_language}\n{examples}Source: {source}\n"
    return GivenModelConfig(
        engine=TeacherEngine.endpoint, model="tiny", url=chat.url, prompt=prompt, example="{source} = {target}\n",
        examples=2, retries=0, concurrency=1, input_price=2.0, output_price=10.0,
    )  # fmt: skip


def job_of(kind: Any, config: Any, out: Path, inputs: dict[str, list[Artifact]], name: str, **more: Any) -> Job[Any]:
    out.mkdir(exist_ok=True, parents=True)
    return Job(
        name=name, stage=kind.name, config=config, identity={"worker": 0}, axis="de-en",
        axis_value={"source": "de", "target": "en"}, inputs=inputs, files={}, out=out, resumable_from=[], attempts=1,
        threads=1, device="cpu", machine={}, progress=Progress(out.parent / "progress"), **more,
    )  # fmt: skip


def artifact(path: Path, task: str = "", settings: Any = None) -> Artifact:
    return Artifact(path, "", "teacher", task, "", None, settings or {}, {})


@pytest.fixture
def described(teacher: GivenModelConfig, tmp_path: Path) -> Artifact:
    """The teacher as the stage `given_models` publishes it."""
    dev = [Pair(number, f"dev {number}", f"out {number}") for number in range(4)]
    write_heldout(tmp_path / "split", "de-en", {"dev": dev, "test": dev})
    config = GivenModelsConfig(members={"llm": teacher})
    job = job_of(
        GivenModels(), config, tmp_path / "teacher", {"held_out": [artifact(tmp_path / "split")]}, "member-llm"
    )
    GivenModels().run(job)
    summary = GivenModels().check(job)
    assert summary.counts == {"examples": 2}
    return artifact(job.out, "member-llm", canonical(config))


@pytest.fixture
def corpus(tmp_path: Path) -> Artifact:
    """Two shards of five pairs; one blank source, one that comes twice."""
    sources = ["eins", "eins", "  ", "drei", "vier", "acht", "neun", "zehn", "elf", "zwölf"]
    with CorpusWriter(tmp_path / "corpus", ("de", "en"), 5, keep_groups=True) as writer:
        for number, source in enumerate(sources):
            writer.add(Pair(100 + number, source, f"gold {number}"))
    return artifact(tmp_path / "corpus")


@pytest.fixture
def job(described: Artifact, corpus: Artifact, tmp_path: Path) -> Job[DecodeConfig]:
    return job_of(Decode(), CONFIG, tmp_path / "out", {"corpus": [corpus], "teachers": [described]}, "worker-0")


def test_lists_counts_tokens_and_price_are_written(
    chat: ChatServer, job: Job[DecodeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat.key = KEY
    chat.answer = lambda source, _: [f'"{source} a"', "Sorry, I cannot translate this." if source == "elf" else "b"]
    Decode().run(job)
    summary = Decode().check(job)
    assert (summary.counts["lists"], summary.counts["hypotheses"]) == (9, 16)  # blank: one; elf: one
    facts = summary.facts
    assert facts["requests"] == len(chat.asked) == 8
    assert facts["answers with quotes removed"] == 8
    assert facts["answers left out: refusal"] == 1
    assert facts["prompt tokens"] == sum(len(each["messages"][0]["content"]) for each in chat.asked)
    assert facts["price"] == pytest.approx((2 * facts["prompt tokens"] + 10 * facts["completion tokens"]) / 1e6)
    assert facts["currency"] == "USD"
    prompt = "German to English\ndev 0 = out 0\ndev 2 = out 2\nSource: eins\n"
    assert chat.asked[0]["messages"][0]["content"] == prompt
    lists = NBestCorpus(job.out)
    assert [each.text for each in next(iter(lists.shards[0].read())).hypotheses] == ["eins a", "b"]
    assert "all are 0" in lists.facts["scores"]
    progress = read(job.out.parent / "progress")
    assert progress is not None
    assert set(progress.notes) == {"tokens", "price"}
    written = b"".join(path.read_bytes() for path in job.out.parent.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert not list(job.out.glob(f"*{JOURNAL}"))


def test_a_task_that_was_stopped_asks_for_the_rest_alone(chat: ChatServer, job: Job[DecodeConfig]) -> None:
    chat.answer = lambda source, _: (503, {}) if source == "zwölf" else [f"{source} a", "b"]
    with pytest.raises(TransientError, match="still answers 503"):
        Decode().run(job)
    assert Journal(job.out / f"00001{JOURNAL}").usage.requests == 4
    asked = len(chat.asked)
    chat.answer = lambda source, _: [f"{source} a", "b"]
    Decode().run(job)
    assert ["zwölf" in each["messages"][0]["content"] for each in chat.asked[asked:]] == [True]
    assert Decode().check(job).facts["requests"] == 8


def test_the_address_of_now_is_asked(chat: ChatServer, described: Artifact, job: Job[DecodeConfig]) -> None:
    description = json.loads((described.path / "model.json").read_text("utf-8"))
    description["endpoint"]["settings"]["url"] = "http://127.0.0.1:1/v1"  # of the day when the teacher was described
    (described.path / "model.json").write_text(json.dumps(description), "utf-8")
    chat.answer = lambda source, _: [f"{source} a", "b"]
    Decode().run(job)
    assert len(chat.asked) == 8
