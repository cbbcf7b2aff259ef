"""Text without translations, stage by stage: read, cleaned, held out, kept to its share, selected and joined."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from omegaconf import OmegaConf

from kd.base.errors import UserError
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin
from kd.corpora.nbest import Hypothesis, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.rejects import read_rejects
from kd.corpora.shards import Corpus, CorpusWriter
from kd.pipeline.execute import execute
from kd.pipeline.model import Artifact, Job, StageSpec
from kd.pipeline.plan import Plan, build
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.schema import CleanConfig, CorpusConfig, DuplicatesConfig, OnGuard, SameBy, ShardConfig
from kd.stages.clean import Clean
from kd.stages.collect import CollectSource
from kd.stages.encode import Encode
from kd.stages.select import Select
from kd.stages.shard import Shard
from tests.stages.test_encode_stage import CONFIG, PAIRS, inputs
from tests.stages.test_encode_stage import job as encode_job
from tests.stages.test_select_stage import settings

__all__ = ["inputs"]  # a fixture: corpus, dev set and vocabulary


def job(out: Path, config: Any, inputs: Mapping[str, Path]) -> Job[Any]:
    out.mkdir(parents=True)
    artifacts = {role: [Artifact(path, "all", role, "all", "f", "en-de", {}, {})] for role, path in inputs.items()}
    languages = {"source": "en", "target": "de"}
    return Job("all", out.name, config, {}, "en-de", languages, artifacts, {}, out, [], 1, 1, "cpu", {}, Progress(None))


def write(folder: Path, rows: Sequence[tuple[str, str]], use: str = "source", pair: str = "en-de") -> Path:
    origin, left, right = Origin(pair, f"of {use}", use), *pair.split("-")
    with CorpusWriter(folder, (left, right), 50, keep_groups=True, origins=[origin]) as writer:
        for each in origin.number(rows):
            writer.add(each)
    return folder


def read(folder: Path) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in Corpus(folder).read()]


# --- reading ---------------------------------------------------------------------------------------------------------


def collect(folder: Path, source: Mapping[str, Any], **changes: Any) -> Path:
    """Collect one corpus with `use: source` from files in a folder."""
    given = {"root": str(folder), "cache": str(folder / "cache"), "sources": {"it": {"use": "source", **source}}}
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CorpusConfig), {**given, **changes}))
    assert isinstance(config, CorpusConfig)
    CollectSource().validate(config)
    entry = StageSpec("collect_source", CollectSource(), config, {}, over="pairs")
    store = Store(folder / "store")
    languages = {"en-de": {"source": "en", "target": "de"}}
    (task,) = build({"collect_source": entry}, {"pairs": languages}, store.file_hashes()).tasks()
    execute(task, store, threads=1, device="cpu", machine={})
    return store.paths(task).final


SENTENCES = ["One sentence.", "Another, with a tab's place.", "A third."]
AS_READ = [(text, "") for text in SENTENCES]


def test_formats_read_one_side_and_no_target(tmp_path: Path) -> None:
    (tmp_path / "mono.en").write_text("\n".join(SENTENCES), "utf-8")
    (tmp_path / "mono.de").write_text("only one line, and not read", "utf-8")
    (tmp_path / "scores").write_text("1\n2\n3\n", "utf-8")
    (tmp_path / "third.tsv").write_text("".join(f"x\t{n}\t{text}\n" for n, text in enumerate(SENTENCES)), "utf-8")
    records = [json.dumps({"text": text, "number": n}) for n, text in enumerate(SENTENCES)]
    (tmp_path / "mono.jsonl").write_text("\n".join(records), "utf-8")
    plain = {"format": "plain", "source": "mono.{source}"}
    for source in (
        plain,
        {**plain, "format": "auto", "target": "mono.{target}"},
        {**plain, "scores": {"fluency": "scores"}},
        {"format": "tsv", "source": "third.tsv", "columns": {"source": 3, "number": 2}},
        {"format": "jsonl", "source": "mono.jsonl", "fields": {"source": "text", "number": "number"}},
    ):
        folder = collect(tmp_path, source)
        assert read(folder) == AS_READ
        assert [origin.use for origin in Corpus(folder).origins.values()] == ["source"]


def test_the_source_side_of_a_translation_memory_is_used(tmp_path: Path) -> None:
    sides = '<tuv xml:lang="en"><seg>good night</seg></tuv><tuv xml:lang="de"><seg>gute Nacht</seg></tuv>'
    (tmp_path / "a.tmx").write_text(f'<tmx version="1.4"><body><tu>{sides}</tu></body></tmx>', "utf-8")
    assert read(collect(tmp_path, {"format": "tmx", "source": "a.tmx"})) == [("good night", "")]


def test_broken_rows_follow_on_error_as_for_pairs(tmp_path: Path) -> None:
    (tmp_path / "mono.en").write_bytes(b"One sentence.\n\xff\xfe broken\nA third.\n")
    source = {"format": "plain", "source": "mono.en"}
    with pytest.raises(UserError, match=r"mono.en, line 2"):
        collect(tmp_path, source)
    assert read(collect(tmp_path, source, on_error="skip")) == [("One sentence.", ""), ("A third.", "")]
    assert read(collect(tmp_path, source, on_error="keep")) == [("One sentence.", "")]


# --- cleaning --------------------------------------------------------------------------------------------------------


def test_cleaning_uses_the_filters_of_one_side_and_removes_repetitions_of_both_corpora(tmp_path: Path) -> None:
    english = "This is a plain English sentence about the weather in spring."
    german = "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter im Frühling."
    rows = [
        english,
        "  Spaces   here ",
        "",
        german,
        "far too many words " * 9,
        english,
        "Known already.",
        "Привет, мир",
    ]
    mono = write(tmp_path / "mono", [(text, "") for text in rows])
    seen = write(tmp_path / "seen", [("Known already.", "Schon bekannt.")], use="train")
    kinds = ("normalise", "empty", "scripts", "language", "ratio", "copies", "numbers", "repetition")
    filters: dict[str, Any] = {**{kind: {} for kind in kinds}, "length": {"max_words": 20}}
    filters["bicleaner"] = {"kind": "score", "column": "bicleaner", "least": 0.5}  # of pairs: this corpus has none
    for by in SameBy:
        config = CleanConfig(filters, DuplicatesConfig(True, by, False), 10)
        this = job(tmp_path / f"clean-{by.value}", config, {"corpus": mono, "seen": seen})
        Clean().run(this)
        summary = Clean().check(this)
        assert read(this.out) == [(english, ""), ("Spaces here", "")]
        dropped = {name: count for name, count in summary.dropped.items() if count}
        assert dropped == {"empty": 1, "length": 1, "scripts": 1, "language": 1, "duplicates": 2}
        assert summary.facts["need both sides"] == ["ratio", "copies", "repetition", "numbers"]
        assert "ratio" not in summary.dropped
    assert {label for label, _ in read_rejects(tmp_path / "clean-pair" / "rejected.tsv.zst")} == set(dropped)


# --- holding out, and the share --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["source", "target"])
@pytest.mark.parametrize("leakage", ["remove", "off"])
def test_no_source_of_a_drawn_set_is_left_however_short(tmp_path: Path, by: str, leakage: str) -> None:
    drawn = list(Origin("en-de", "web").number([("Yes.", "Ja."), ("A longer sentence that is held out.", "Lang.")]))
    write_heldout(tmp_path / "held", "en-de", {"test": drawn}, ("en", "de"), by, {"test": {"by": by}})
    rows = [("Yes.", ""), ("A longer sentence that is held out.", ""), ("Kept.", "")]
    mono = write(tmp_path / "mono", rows)
    this = job(tmp_path / "shard", ShardConfig(10, 1, 1.0, leakage, 0), {"corpus": mono, "held_out": tmp_path / "held"})
    Shard().run(this)
    summary = Shard().check(this)
    assert read(this.out) == [("Kept.", "")]
    assert summary.dropped["held out"] == 2


def test_a_source_of_a_given_set_in_another_form_is_a_leak(tmp_path: Path) -> None:
    given = Origin("en-de", "wmt", "test")
    pairs = list(given.number([("Good morning!", "Guten Morgen!")]))
    write_heldout(tmp_path / "held", "en-de", {"test": pairs}, ("en", "de"), origins=[given])
    mono = write(tmp_path / "mono", [("good morning", ""), ("Kept.", "")])
    for leakage in ("remove", "fail"):
        config = ShardConfig(10, 1, 1.0, leakage, 0)
        this = job(tmp_path / leakage, config, {"corpus": mono, "held_out": tmp_path / "held"})
        if leakage == "fail":
            with pytest.raises(UserError, match="1 training pairs of en-de match held-out sets"):
                Shard().run(this)
        else:
            Shard().run(this)
            assert read(this.out) == [("Kept.", "")]
            assert Shard().check(this).dropped["leaks a source"] == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_source_only_text_has_at_most_its_share_beside_the_bilingual_text(tmp_path: Path, share: float) -> None:
    write_heldout(tmp_path / "held", "en-de", {}, ("en", "de"))
    beside = write(tmp_path / "beside", [(f"bilingual {n:04d}", "zwei") for n in range(500)], use="train")
    mono = write(tmp_path / "mono", [(f"sentences {n:04d}", "") for n in range(2000)])
    config = ShardConfig(100, 1, 1.0, "remove", 0, share)
    this = job(tmp_path / "shard", config, {"corpus": mono, "held_out": tmp_path / "held", "beside": beside})
    Shard().run(this)
    summary = Shard().check(this)
    own, other = (sum(len(source) for source, _ in read(folder)) for folder in (this.out, beside))
    expected = min(share, 2000 / 2500)  # all there is, where the share allows more
    assert own / (own + other) == pytest.approx(expected, abs=0.03)
    assert summary.counts["pairs out"] + summary.dropped.get("beyond the share", 0) == 2000


# --- selecting -------------------------------------------------------------------------------------------------------


HOUSES = ["ein Haus", "ein kleines Haus", "ein kleines Haus da"]


def select(folder: Path, **changes: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    corpus = write(folder / "corpus", [("a small house", ""), ("a copy of a sentence in here", "")])
    lists = {
        "a small house": HOUSES,
        "a copy of a sentence in here": ["a copy of a sentence in here"] * 3,
    }
    for shard in Corpus(corpus).shards:
        with NBestShardWriter(folder / "lists", shard.name) as writer:
            for pair in shard.read():
                found = [Hypothesis(text, {"F0": (0.0,)}, -float(n), "x") for n, text in enumerate(lists[pair.source])]
                writer.add(NBestList(pair.id, found))
    write_nbest_index(folder / "lists", {})
    config = settings(on_guard=OnGuard.drop, **changes)
    this = job(folder / "out", config, {"corpus": corpus, "lists": folder / "lists"})
    Select().run(this)
    return read(this.out), Select().check(this).dropped


def test_selection_without_gold_by_model_score_and_by_minimum_bayes_risk(tmp_path: Path) -> None:
    assert select(tmp_path / "model", metric="model") == ([("a small house", "ein Haus")], {"guard: copy": 1})
    for metric, score in (("mbr_chrf", sacrebleu.sentence_chrf), ("mbr_bleu", sacrebleu.sentence_bleu)):
        # Of the mean similarity with the others as sacreBLEU scores it.
        expected = max(HOUSES, key=lambda text: sum(score(text, [other]).score for other in HOUSES if other != text))
        assert expected != HOUSES[0]
        assert select(tmp_path / metric, metric=metric)[0] == [("a small house", expected)]


# --- joining ---------------------------------------------------------------------------------------------------------


def test_the_students_data_has_both_texts_and_counts_their_tokens(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    extra = write(tmp_path / "extra", [(f"kein Haus {n}", f"no house {n}") for n in range(70)], pair="de-en")
    this = encode_job({**inputs}, tmp_path / "out", CONFIG)
    source_only = Artifact(extra, "source", "select_source", "all", "", None, {}, {})
    this = replace(this, inputs={**this.inputs, "corpus": [*this.inputs["corpus"], source_only]})
    alone = encode_job(inputs, tmp_path / "alone", CONFIG)
    counts = []
    for each in (this, alone):
        for role in each.inputs["corpus"]:
            object.__setattr__(role, "axis", "de-en")
        Encode().run(each)
        counts.append(Encode().check(each))
    both, without = counts
    assert both.counts["pairs out"] == len(PAIRS) + 70
    part = both.facts["source-only text"]
    assert part["sentences"] == 70
    assert part["target tokens"] == both.counts["target pieces"] - without.counts["target pieces"]
    assert part["target tokens of all"] == both.counts["target pieces"]
    assert f"{part['target tokens']:,} in 70 sentences; the rest: " in both.facts["note"]
    assert "source-only text" not in without.facts


# --- the chain -------------------------------------------------------------------------------------------------------

MONO = "+corpus.sources.mono={use: source, format: plain, source: mono.en}"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the file that `MONO` names."""
    (tmp_path / "mono.en").write_text("One sentence.\n", "utf-8")
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str) -> Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=demo", *overrides])))


@pytest.mark.usefixtures("elsewhere")
def test_source_only_text_recomputes_the_student_alone_and_adds_a_second_control() -> None:
    before, after = ({task.full_name: task for task in plan(*given).tasks()} for given in ((), (MONO,)))
    changed = {name.partition(".")[0] for name in before if before[name].fingerprint != after[name].fingerprint}
    assert changed == {"soften", "student", "export", "translate", "speed", "evaluate", "release", "report/all"}
    assert after["translate.en-de/control"].fingerprint == before["translate.en-de/control"].fingerprint
    second, student = after["control_selected.en-de/member-1"], before["student.en-de/member-1"]
    # What the student would be without the text: its start and distributions are those of the student.
    assert second.fingerprint == student.fingerprint
    assert {item.task.stage.spec.name for item in second.inputs["data"]} == {"encode_selected"}
    assert after["select_source.en-de/worker-0"].stage.config.metric.value == "model"


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["chain=multilingual"], "corpus.sources.mono has use: source, but no stage of this chain reads"),
        (["chain=search", "student=from_search"], "corpus.sources.mono has use: source, but no stage of this chain"),
        (["source_only.metric=bleu"], "The value of source_only.metric is not valid: bleu"),
        (["chain.select_source.changes.metric=chrf"], "select_source.en-de selects by chrf, which needs human"),
        (["chain.select_source.changes.on_guard=gold"], "has on_guard=gold, but its text has no human translations"),
        (["select.variant=top"], r"encode_student.en-de joins text with 4 hypotheses per source"),
        (["corpus.sources.mono.format=sacrebleu", "corpus.sources.mono.name=wmt21", "corpus.sources.mono.source=null"],
         "corpus.sources.mono has use: source, but the format sacrebleu gives test sets"),
        (["+pairs.en-fi={}", "+corpus.sources.mono.pairs={en-de: true}"], "No text with use: source is read for en-fi"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        plan(MONO, *overrides)
