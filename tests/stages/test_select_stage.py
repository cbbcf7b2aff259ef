"""The select stage: shard by shard, whatever dies; ids of pairs compared at each boundary; variants, guards, scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import yaml

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.ids import Origin, Pair
from kd.corpora.index import read_json
from kd.corpora.nbest import Hypothesis, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.suspects import read_suspects
from kd.pipeline.model import Artifact, Job, Summary
from kd.recipe.schema import Below, GuardsConfig, OnGuard, SelectConfig, Variant
from kd.stages import select as stage
from kd.stages import selecting
from kd.stages.select import Select
from tests.corpora.samples import rewrite

GUARDS = GuardsConfig(**yaml.safe_load((Path(__file__).parents[2] / "conf/guards/default.yaml").read_text()))
ORIGIN = Origin("en-de", "made")
SHARD = 20  # pairs
FIRST = ORIGIN.prefix << 40


def settings(**changes: Any) -> SelectConfig:
    return SelectConfig(**{"metric": "bleu", "smoothing": "exp", "tokenizer": "13a", "guards": GUARDS, **changes})


def source(place: int) -> str:
    return f"sentence number {place // 2}"


def gold(place: int) -> str:
    return f"Satz Nummer {place} steht hier."


def translations(place: int) -> list[str]:
    """Of rank 1 for some, 0 for others, the human translation for a third kind."""
    better = gold(place) if place % 3 == 0 else f"Satz Nummer {place} steht da."
    return [f"Satz {place} steht.", better, "Nummer hier."]


def make(folder: Path, shards: int, lists: Callable[[int], Sequence[str]] = translations) -> tuple[Path, Path]:
    """A corpus folder and a folder of n-best lists for its first shards."""
    corpus_folder, lists_folder = folder / "corpus", folder / f"lists-{shards}"
    if not corpus_folder.exists():
        with CorpusWriter(corpus_folder, ("en", "de"), SHARD, keep_groups=True, origins=[ORIGIN]) as writer:
            for place in range(3 * SHARD):
                writer.add(Pair(FIRST + place, source(place), gold(place)))
    for shard in Corpus(corpus_folder).shards[:shards]:
        with NBestShardWriter(lists_folder, shard.name) as nbest:
            for group in shard.groups():
                texts = lists(group[0].id - FIRST)
                nbest.add(NBestList(group[0].id, [
                    Hypothesis(text, {"F0": (-1.0,), "QE": (float(rank),)}, -float(rank), "x")
                    for rank, text in enumerate(texts)
                ]))  # fmt: skip
    write_nbest_index(lists_folder, {})
    return corpus_folder, lists_folder


def job(
    folder: Path, corpus: Path, lists: Path, config: SelectConfig | None = None, **changes: Any
) -> Job[SelectConfig]:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    inputs = {
        role: [Artifact(path, role, role, "all", "f", "en-de", {}, {})]
        for role, path in (("corpus", corpus), ("lists", lists))
    }
    values: dict[str, Any] = {
        "name": "worker-0", "stage": "select", "config": config or settings(), "identity": {}, "axis": "en-de",
        "axis_value": {"source": "en", "target": "de"}, "inputs": inputs, "files": {}, "out": out, "resumable_from": [],
        "attempts": 1, "threads": 1, "device": "cpu", "machine": {}, "progress": Progress(None), **changes,
    }  # fmt: skip
    return Job(**values)


def selected(of: Job[SelectConfig]) -> tuple[Corpus, Summary]:
    Select().run(of)
    summary = Select().check(of)
    return Corpus(of.out), summary


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_pair_learns_what_is_closest_to_its_own_gold(tmp_path: Path) -> None:
    corpus, summary = selected(job(tmp_path, *make(tmp_path, 3)))
    pairs = list(corpus.read())
    assert [pair.id - FIRST for pair in pairs] == list(range(3 * SHARD))
    groups = {pair.source: pair.id - FIRST for pair in reversed(list(Corpus(tmp_path / "corpus").read()))}
    for shard in corpus.shards:
        for pair, (rank, score, first) in shard.rows("rank", "score", "first_score"):
            texts = translations(groups[pair.source])
            reference = gold(pair.id - FIRST)
            expected = [sacrebleu.sentence_bleu(text, [reference]).score for text in texts]
            assert (pair.target, float(score), float(first)) == (texts[int(rank)], max(expected), expected[0])
    statistics = read_json(tmp_path / "out" / "selection.json")
    assert statistics["lists"] == statistics["chosen"] == summary.counts["pairs out"] == 3 * SHARD
    assert statistics["exact"] == 3 * SHARD // 6
    assert statistics["variant"] == "best"


def test_the_outcome_does_not_depend_on_processes(tmp_path: Path) -> None:
    folders = make(tmp_path, 3)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, several = job(tmp_path / "a", *folders), job(tmp_path / "b", *folders, threads=2)
    selected(one)
    selected(several)
    assert contents(one.out) == contents(several.out)
    assert not [name for name in contents(one.out) if "partial" in name]


def test_a_worker_that_dies_goes_on_with_the_shard_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = make(tmp_path, 3)
    this = job(tmp_path, *folders)
    real = selecting._write
    left = iter(range(SHARD + 5))

    def dying(*arguments: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(selecting, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        Select().run(this)
    finished = (this.out / "00000.tsv.zst").stat().st_ino
    monkeypatch.setattr(selecting, "_write", real)
    corpus, _ = selected(this)
    assert corpus.pairs == 3 * SHARD
    assert (this.out / "00000.tsv.zst").stat().st_ino == finished
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    selected(job(fresh, *folders))
    assert contents(this.out) == contents(fresh / "out")


def test_a_larger_share_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, first_lists = make(tmp_path, 2)
    small = tmp_path / "small"
    small.mkdir()
    selected(job(small, corpus, first_lists))
    _, all_lists = make(tmp_path, 3)
    done: list[str] = []
    real = stage.select_shard

    def counted(_: None, item: Any, *rest: Any) -> None:
        done.append(item.lists.name)
        real(_, item, *rest)

    monkeypatch.setattr(stage, "select_shard", counted)
    grown, _ = selected(job(tmp_path, corpus, all_lists, resumable_from=[small / "out"]))
    assert done == ["00002"]
    assert grown.pairs == 3 * SHARD
    assert read_json(tmp_path / "out" / "selection.json")["lists"] == 3 * SHARD


def test_shards_of_other_lists_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, lists = make(tmp_path, 2)
    (tmp_path / "small").mkdir()
    selected(job(tmp_path / "small", corpus, lists))
    shutil.rmtree(lists)
    make(tmp_path, 2, lambda place: ["anderes", "ganz anderes"])
    again, _ = selected(job(tmp_path, corpus, lists, resumable_from=[tmp_path / "small" / "out"]))
    assert {pair.target for pair in again.read()} <= {"anderes", "ganz anderes"}


def bad(place: int) -> list[str]:
    """Every fourth list has nothing but runaways, the others one, as the model's best."""
    loop = "und und und und und und und und und und und und und und"
    return [loop, "", "  "] if place % 4 == 0 else [loop, gold(place), f"{gold(place)} {loop}"]


@pytest.mark.parametrize("on_guard", list(OnGuard))
def test_guards(tmp_path: Path, on_guard: OnGuard) -> None:
    folders = make(tmp_path, 3, bad)
    corpus, summary = selected(job(tmp_path, *folders, settings(on_guard=on_guard)))
    none = [pair for group in Corpus(folders[0]).groups() if (group[0].id - FIRST) % 4 == 0 for pair in group]
    chosen = {pair.id: pair.target for pair in corpus.read()}
    for pair in none:
        expected = {OnGuard.gold: pair.target, OnGuard.drop: None, OnGuard.keep: bad(0)[0]}[on_guard]
        assert chosen.get(pair.id) == expected
    assert sum(summary.facts["all hypotheses trip"].values()) == len(none)
    assert sum(summary.dropped.values()) == (len(none) if on_guard is OnGuard.drop else 0)
    assert summary.counts["pairs in"] == 3 * SHARD
    assert not any(target == bad(0)[0] for pair_id, target in chosen.items() if pair_id not in {p.id for p in none})


def test_best_and_gold_are_two_pairs_with_ids_of_their_own(tmp_path: Path) -> None:
    corpus, summary = selected(job(tmp_path, *make(tmp_path, 3), settings(variant=Variant.best_and_gold)))
    pairs = list(corpus.read())
    assert len({pair.id for pair in pairs}) == len(pairs) == 6 * SHARD == summary.counts["pairs out"]
    for best, human in zip(pairs[::2], pairs[1::2], strict=True):
        place = best.id - FIRST
        assert human.id == (Origin("en-de", "made+gold").prefix << 40) + place
        assert (best.source, human.target) == (human.source, gold(place))
    assert {origin.name for origin in corpus.origins.values()} == {"made", "made+gold"}


@pytest.mark.parametrize(("variant", "expected"), [(Variant.gold, "gold"), (Variant.first, "0")])
def test_what_is_compared_with(tmp_path: Path, variant: Variant, expected: str) -> None:
    corpus, _ = selected(job(tmp_path, *make(tmp_path, 3), settings(variant=variant)))
    assert set(corpus.column("rank")) == {expected}


def test_below_the_threshold_gold_is_learnt(tmp_path: Path) -> None:
    corpus, summary = selected(job(tmp_path, *make(tmp_path, 3), settings(variant=Variant.threshold, threshold=99.0)))
    for shard in corpus.shards:
        for pair, (rank,) in shard.rows("rank"):
            assert pair.target == gold(pair.id - FIRST)
            assert rank in ("gold", "1")
    assert 0 < summary.facts["gold instead"] < 3 * SHARD


def test_below_the_threshold_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    config = settings(variant=Variant.threshold, threshold=99.0, below=Below.drop)
    corpus, summary = selected(job(tmp_path, *make(tmp_path, 3), config))
    assert set(corpus.column("rank")) == {"1"}
    left_out = 3 * SHARD - summary.counts["pairs out"]
    assert left_out == summary.dropped["score below the threshold"] == summary.facts["below the threshold"] > 0
    assert summary.facts["gold instead"] == 0


def test_further_hypotheses_are_columns_of_the_pair(tmp_path: Path) -> None:
    lists = make(tmp_path, 3, lambda place: [f"Satz {place}", gold(place), f"Satz {place}", "Nummer hier."])
    corpus, summary = selected(job(tmp_path, *lists, settings(variant=Variant.top, top=4)))
    assert corpus.columns[-3:] == ("target_2", "target_3", "target_4")
    groups = {pair.source: pair.id - FIRST for pair in reversed(list(Corpus(lists[0]).read()))}
    for shard in corpus.shards:
        for pair, further in shard.rows(*corpus.columns[-3:]):
            place = groups[pair.source]
            texts = [f"Satz {place}", gold(place), "Nummer hier."]  # a text that comes twice counts once
            reference = gold(pair.id - FIRST)
            expected = sorted(texts, key=lambda text: -sacrebleu.sentence_bleu(text, [reference]).score)
            assert [pair.target, *further] == [*expected, expected[0]]  # and then in turn
    assert summary.facts["further hypotheses"] == 2 * 3 * SHARD


def test_hypotheses_far_from_gold_are_left_out_by_their_ter(tmp_path: Path) -> None:
    lists = make(tmp_path, 3, lambda place: ["ganz anders als das"] if place % 4 == 0 else [gold(place)])
    config = settings(max_ter=0.8, below=Below.drop)
    corpus, summary = selected(job(tmp_path, *lists, config))
    kept = [pair for group in Corpus(lists[0]).groups() if (group[0].id - FIRST) % 4 for pair in group]
    assert [pair.id for pair in corpus.read()] == [pair.id for pair in kept]
    left_out = 3 * SHARD - len(kept)
    assert summary.dropped == {"TER above the limit": left_out}
    assert summary.facts["TER above the limit"] == left_out


# --- scores made elsewhere ----------------------------------------------------------------------------------------


def test_a_feature_of_the_lists_is_the_score(tmp_path: Path) -> None:
    corpus, _ = selected(job(tmp_path, *make(tmp_path, 3), settings(metric="external", feature="QE")))
    assert set(corpus.column("rank")) == {"2"}
    with pytest.raises(UserError, match=r"00000\.nbest\.zst, line 1: there is no feature COMET.* F0, QE"):
        Select().run(job(tmp_path, *make(tmp_path, 3), settings(metric="external", feature="COMET")))


def test_scores_come_from_files_beside_the_lists(tmp_path: Path) -> None:
    folders = make(tmp_path, 3)
    place = tmp_path / "{qe} [22]"  # braces and wildcards of its own
    place.mkdir()
    config = settings(metric="external", scores=f"{place}/{{source}}-{{shard}}.txt")
    with pytest.raises(UserError, match=r"en-00000\.txt does not exist"):
        Select().run(job(tmp_path, *folders, config))
    for shard in Corpus(folders[0]).shards:
        (place / f"en-{shard.name}.txt").write_text("0.1\n0.2\n0.15\n" * shard.sources)
    assert [path.name for path in stage._score_files(config, {"source": "en", "target": "de"})] == [
        "en-00000.txt", "en-00001.txt", "en-00002.txt"
    ]  # fmt: skip
    corpus, _ = selected(job(tmp_path, *folders, config))
    assert set(corpus.column("rank")) == {"1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], r"scores-00000\.txt ends after line \d+, but the n-best list goes on"),
        (lambda lines: [*lines, "1"], r"scores-00000\.txt goes on after line \d+, where the n-best list ends"),
        (lambda lines: [lines[0], "nan", *lines[2:]], r"scores-00000\.txt, line 2: 'nan' is not a score"),
    ],
)
def test_scores_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    folders = make(tmp_path, 1)
    lines = ["0.1", "0.2", "0.15"] * Corpus(folders[0]).shards[0].sources
    (tmp_path / "scores-00000.txt").write_text("".join(f"{line}\n" for line in change(lines)))
    with pytest.raises(UserError, match=message):
        Select().run(job(tmp_path, *folders, settings(metric="external", scores=f"{tmp_path}/scores-{{shard}}.txt")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "external"}, "come from exactly one place"),
        ({"metric": "external", "scores": "a{shard}", "feature": "QE"}, "come from exactly one place"),
        ({"metric": "external", "scores": "a.txt"}, "one file for all shards"),
        ({"metric": "blue"}, "metric=blue"),
    ],
)
def test_impossible_settings_fail_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Select().validate(settings(**changes))


# --- what is lost, doubled or swapped -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:3] + lines[6:], r"00000\.nbest\.zst, line 4: the list of \d+ is in the place of \d+"),
        (lambda lines: lines[:-1], r"00000\.nbest\.zst ends after line \d+, with \d+ lists; its index states"),
        (lambda lines: lines[:-3], r"00000\.nbest\.zst ends after"),
        (lambda lines: [*lines, *lines[:3]], r"00000\.nbest\.zst, line \d+: the id \d+ occurs again after another id"),
        (lambda lines: lines[3:6] + lines[:3] + lines[6:], r"00000\.nbest\.zst, line 1: the list of"),
    ],
    ids=["a list lost", "a line lost", "the last list lost", "an id doubled", "two lists swapped"],
)
def test_lists_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    corpus, lists = make(tmp_path, 2)
    rewrite(lists / "00000.nbest.zst", change)
    for threads in (1, 2):
        with pytest.raises(UserError, match=message):
            Select().run(job(tmp_path, corpus, lists, threads=threads))
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    corpus, lists = make(tmp_path, 2)
    path = lists / "00001.nbest.zst"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"00001\.nbest\.zst is truncated after line"):
        Select().run(job(tmp_path, corpus, lists))


def test_swapped_shards_are_refused(tmp_path: Path) -> None:
    corpus, lists = make(tmp_path, 2)
    first, second = lists / "00000.nbest.zst", lists / "00001.nbest.zst"
    first.rename(lists / "x"), second.rename(first), (lists / "x").rename(second)
    with pytest.raises(UserError, match=r"00000\.nbest\.zst, line 1: the list of \d+ is in the place of \d+"):
        Select().run(job(tmp_path, corpus, lists))


def test_check_notices_what_was_done_to_the_output(tmp_path: Path) -> None:
    folders = make(tmp_path, 3)
    this = job(tmp_path, *folders)
    selected(this)
    rewrite(this.out / "00001.tsv.zst", lambda lines: [lines[1], lines[0], *lines[2:]])
    with pytest.raises(IncompleteArtifact, match=r"00001\.tsv\.zst was changed"):
        Select().check(this)


def test_check_compares_ids_with_what_was_decoded(tmp_path: Path) -> None:
    corpus, lists = make(tmp_path, 3)
    this = job(tmp_path, corpus, lists)
    selected(this)
    other = tmp_path / "other"
    with CorpusWriter(other, ("en", "de"), SHARD, keep_groups=True, origins=[ORIGIN]) as writer:
        for place in range(3 * SHARD):  # the same number of pairs, each with the id of the one before
            writer.add(Pair(FIRST + place + 1, source(place), gold(place)))
    with pytest.raises(IncompleteArtifact, match=r"00000\.tsv\.zst, line 1: \d+ is unexpected"):
        Select().check(job(tmp_path, other, lists))


def numbers_of_files(folder: Path, shards: int) -> list[int]:
    """Return the files of a corpus of some shards, of its lists and of the selection from them."""
    corpus, lists = folder / "corpus", folder / "lists"
    with CorpusWriter(corpus, ("en", "de"), 2, keep_groups=True, origins=[ORIGIN]) as writer:
        for place in range(2 * shards):
            writer.add(Pair(FIRST + place, source(place), gold(place)))
    for shard in Corpus(corpus).shards:
        with NBestShardWriter(lists, shard.name) as nbest:
            for group in shard.groups():
                hypotheses = [Hypothesis(text, {}, -1.0, "x") for text in translations(group[0].id - FIRST)]
                nbest.add(NBestList(group[0].id, hypotheses))
    write_nbest_index(lists, {})
    this = job(folder, corpus, lists)
    assert selected(this)[1].counts["pairs out"] == 2 * shards
    return [len(contents(place)) for place in (corpus, lists, this.out)]


def test_each_stage_keeps_one_file_per_shard(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir(), (tmp_path / "many").mkdir()
    few, many = numbers_of_files(tmp_path / "few", 10), numbers_of_files(tmp_path / "many", 20)
    assert [more - less for less, more in zip(few, many, strict=True)] == [10, 10, 10]
    assert [files - 10 for files in few] == [1, 2, 3]  # indexes, journals, selection.json
    # A site may allow 100,000 files per project. With 100 workers, each with manifest and lineage, and shard's leakage.
    assert 3 * 10_000 + (1 + 2 + 2) + 100 * (2 + 2) + 100 * (3 + 2) == 30_905 < 40_000


def test_a_record_that_was_written_in_part_makes_its_shard_again(tmp_path: Path) -> None:
    folders = make(tmp_path, 3)
    this = job(tmp_path, *folders)
    selected(this)
    expected = contents(this.out)
    journal = this.out / "shards.jsonl"
    lines = journal.read_text("utf-8").split("\n")
    journal.write_text("\n".join([lines[0], lines[1][: len(lines[1]) // 2], "[]", '{"name": "../x"}']), "utf-8")
    (this.out / "00002.tsv.zst.partial").write_text("")
    selected(this)
    assert contents(this.out) == expected


def test_a_finished_shard_that_was_damaged_since_is_made_again(tmp_path: Path) -> None:
    this = job(tmp_path, *make(tmp_path, 3))
    selected(this)
    expected = contents(this.out)
    path = this.out / "00001.tsv.zst"
    path.write_bytes(path.read_bytes()[:-1])
    selected(this)
    assert contents(this.out) == expected


# --- suspects of noise -----------------------------------------------------------------------------------------------


def doubtful(place: int) -> list[str]:
    """Teachers that agree on something else than gold, teachers that disagree, and teachers that agree with gold."""
    if place in (4, 24):
        return [f"Völlig anders übersetzt, {place}.", f"Völlig anders übersetzt, {place}!"]
    if place in (10, 30):
        return [gold(place), "qqq xxx"]
    return [gold(place), f"{gold(place)}!"]


def test_suspects_are_the_worst_pairs_of_all_shards(tmp_path: Path) -> None:
    folders = make(tmp_path, 3, doubtful)
    corpus, summary = selected(job(tmp_path, *folders, settings(suspects=4)))
    assert summary.counts["pairs out"] == 3 * SHARD
    found = list(read_suspects(tmp_path / "out" / "suspects.tsv.zst"))
    reasons = {reason: {each.id - FIRST for each in found if each.reason == reason} for reason in ("gold", "members")}
    # Two pairs share each source, and so its list.
    assert reasons == {"gold": {4, 5, 24, 25}, "members": {10, 11, 30, 31}}
    first = next(each for each in found if each.id - FIRST == 4)
    bleu = max(sacrebleu.sentence_bleu(text, [gold(4)]).score for text in doubtful(4))
    assert first.distance == pytest.approx(1 - bleu / 100, abs=1e-4)
    one, other = doubtful(4)
    apart = [sacrebleu.sentence_chrf(one, [other]).score, sacrebleu.sentence_chrf(other, [one]).score]
    assert first.disagreement == pytest.approx(1 - sum(apart) / 200, abs=1e-4)
    assert first.suspicion == pytest.approx(first.distance - first.disagreement, abs=2e-4)
    assert (first.source, first.target) == (source(4), gold(4))
    assert first.hypothesis in doubtful(4)
    values = dict(zip((int(text) - FIRST for text in corpus.column("id")), corpus.column("disagreement"), strict=True))
    assert float(values[4]) == first.disagreement


def test_suspects_survive_a_killed_task_and_a_larger_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    folders, config = make(tmp_path, 3, doubtful), settings(suspects=3)
    whole = job(tmp_path / "whole", *folders, config)
    selected(whole)
    real, shards = selecting.note_finished, []

    def dying(*given: Any) -> None:
        if len(shards) == 1:
            raise KeyboardInterrupt
        shards.append(real(*given))

    this = job(tmp_path, *folders, config)
    monkeypatch.setattr(selecting, "note_finished", dying)
    with pytest.raises(KeyboardInterrupt):
        Select().run(this)
    monkeypatch.setattr(selecting, "note_finished", real)
    selected(this)
    assert contents(this.out) == contents(whole.out)
    (tmp_path / "grown").mkdir()
    grown = job(tmp_path / "grown", *folders, config, resumable_from=[whole.out])
    monkeypatch.setattr(selecting, "note_finished", dying)  # no shard is selected again
    selected(grown)
    assert contents(grown.out) == contents(whole.out)


def test_without_suspects_the_output_is_as_before(tmp_path: Path) -> None:
    corpus, _ = selected(job(tmp_path, *make(tmp_path, 1)))
    assert corpus.columns == ("id", "source", "target", "rank", "score", "first_score")
    assert not list(corpus.folder.glob("*suspects*"))


@pytest.mark.parametrize("variant", ["gold", "top", "best_and_gold", "threshold"])
def test_every_variant_has_the_column(tmp_path: Path, variant: str) -> None:
    config = settings(variant=Variant(variant), top=2, threshold=101.0, suspects=2, below=Below.drop)
    corpus, summary = selected(job(tmp_path, *make(tmp_path, 1), config))
    assert len(list(corpus.column("disagreement"))) == summary.counts["pairs out"]
    assert len(list(read_suspects(tmp_path / "out" / "suspects.tsv.zst"))) == 4
