"""Foreign teachers and n-best lists, here taken from a finished run."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, bleu, new_workplace

from kd.base.hashing import sha256
from kd.corpora.ids import place_of
from kd.corpora.lines import open_lines
from kd.corpora.nbest import NBestCorpus
from kd.corpora.robustness import read_cases
from kd.corpora.shards import Corpus
from kd.corpora.writing import LineWriter
from kd.stages.outputs import ROBUSTNESS_CASES
from tests.chat_servers import ChatServer

pytestmark = pytest.mark.system


def selected(run: Path) -> dict[str, str]:
    """Return the selected target and its rank for each source."""
    shards = [shard for folder in sorted((run / "select.en-xx").iterdir()) for shard in Corpus(folder).shards]
    return {
        f"{pair.id} {pair.source}": f"{pair.target} {rank}" for shard in shards for pair, (rank,) in shard.rows("rank")
    }


def test_models_of_another_run_give_equal_lists(workplace: Workplace) -> None:
    run = workplace.folder / "runs" / "given"
    teacher = f"{workplace.run}/teacher.{{source}}-{{target}}"
    members = f"one: {{folder: '{teacher}/member-1'}}, two: {{folder: '{teacher}/member-2'}}"
    workplace.kd("run", "chain=given_teachers", f"+given_models.members={{{members}}}", f"run.dir={run}", "upto=decode")
    own = sorted((workplace.run / "decode.en-xx").glob("*/*.zst"))
    ours = sorted((run / "decode.en-xx").glob("*/*.zst"))
    assert own
    assert [sha256(path) for path in ours] == [sha256(path) for path in own]
    manifest = json.loads((run / "teacher.en-xx" / "member-two" / "manifest.json").read_text("utf-8"))
    assert manifest["facts"]["updates"] == 300
    assert manifest["facts"]["parameters"] > 10_000


def test_checkpoints_of_fairseq_replace_the_teachers_up_to_the_report(workplace: Workplace, tmp_path: Path) -> None:
    for number in (1, 2):
        checkpoints = workplace.run / "teacher.en-xx" / f"member-{number}" / "checkpoints"
        shutil.copy(next(checkpoints.glob("checkpoint_*_300.pt")), tmp_path / f"checkpoint{number}.pt")
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(workplace.run / "teacher.en-xx" / "member-1" / name, tmp_path / name)
    given = [
        "chain=given_teachers",
        f"given_models.root={tmp_path}",
        "+given_models.members={a: {checkpoint: checkpoint1.pt}, b: {checkpoint: checkpoint2.pt}}",
        "given_models.vocabulary=vocabulary.model",
        "given_models.dictionary=dict.txt",
        f"run.dir={workplace.folder}/runs/checkpoints",
        "vocabulary.size=290",  # the student's own, not the teachers'
        "student.max_update=100",  # it learns as any other
        "decode.share=0.3",
    ]
    workplace.kd("run", *given)
    report = workplace.report(workplace.folder / "runs" / "checkpoints")
    scores = bleu(report)
    assert {"teacher a", "teacher b", "teacher ensemble", "student"} <= set(scores)
    assert scores["teacher ensemble"] > 50
    rows = {row.name: row for row in report.systems}
    assert rows["teacher a"].training_seconds is None  # unknown for a foreign model
    assert not [curve for curve in report.curves if curve.name.startswith("teacher")]
    done = workplace.kd("run", *given)
    assert "Nothing to do" in done.stderr


def test_a_language_model_behind_a_server_teaches_up_to_the_report(tmp_path: Path, chat: ChatServer) -> None:
    workplace = new_workplace(tmp_path)
    sides = [open_lines(tmp_path / "corpus" / name) for name in ("corpus.en", "corpus.xx.gz")]
    known = dict(zip(*sides, strict=True))
    chat.answer = lambda source, request: [f'"{known.get(source, source)}"'] * int(request.get("n", 1))
    run = workplace.run
    prompt = "'{examples}Source: {source}'"
    teacher = f"engine: endpoint, url: '{chat.url}', model: tiny, prompt: {prompt}, examples: 2, output_price: 5"
    given = [
        "chain=given_teachers", f"+teachers={{llm: {{{teacher}}}}}", "decode.method=sample", "decode.nbest=2",
        "select.metric=mbr_chrf", "student.max_update=100", "decode.share=0.3",
    ]  # fmt: skip
    with subprocess.Popen(
        workplace.arguments("run", *given, "launcher.processes=1"), env=workplace.environment, stderr=subprocess.PIPE
    ) as process:
        while len(chat.asked) < 60:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
        process.kill()  # its tasks end with it
    paid = len(chat.asked)
    workplace.kd("run", *given)
    manifests = [json.loads(path.read_text("utf-8")) for path in run.glob("decode.en-xx/*/manifest.json")]
    requests = sum(each["facts"]["requests"] for each in manifests)
    tested = set(open_lines(run / "split" / "all" / "en-xx" / "test.source"))
    suite = {case.source for case in read_cases(run / "translate.en-xx" / "teacher" / ROBUSTNESS_CASES)}
    assert paid >= 60
    assert (
        0 <= len(chat.asked) - requests - len(tested) - len(suite) <= 8
    )  # those that were under way when the run was killed
    assert all(each["facts"]["price"] > 0 for each in manifests)
    scores = bleu(workplace.report(run))
    assert scores["teacher"] == pytest.approx(100)
    assert "student" in scores
    assert "teacher" not in json.loads(next(run.glob("speed.en-xx/all/speed.json")).read_text("utf-8"))["systems"]


def write_lists(finished: Workplace, path: Path, leave_out: int = 0) -> None:
    """Write the finished run's lists as Marian does: by line of the corpus."""
    corpus = Corpus(finished.run / "shard.en-xx" / "all")
    places = {pair.source: place_of(pair.id) for pair in corpus.read()}
    lists = NBestCorpus.join(sorted((finished.run / "decode.en-xx").iterdir()))
    shards = {shard.name: shard for shard in corpus.shards}
    found = []
    for shard in lists.shards:
        for group, nbest in shard.beside(shards[shard.name]):
            lines = [f"||| {each.text} ||| F0= {each.score!r} ||| {each.score!r}" for each in nbest.hypotheses]
            found.append((places[group[0].source], lines))
    with LineWriter(path) as writer:
        for place, lines in sorted(found)[leave_out:]:
            for line in lines:
                writer.write(f"{place} {line}")


def test_foreign_lists_give_the_same_selection(workplace: Workplace, tmp_path: Path) -> None:
    write_lists(workplace, tmp_path / "lists.gz")
    run = workplace.folder / "runs" / "lists"
    lists = f"+given_lists.files={{marian: {{file: '{tmp_path}/lists.gz'}}}}"
    workplace.kd("run", "chain=given_lists", lists, "given_lists.workers=2", f"run.dir={run}", "upto=select")
    assert selected(run) == selected(workplace.run)
    manifest = json.loads((run / "decode.en-xx" / "worker-0" / "manifest.json").read_text("utf-8"))
    assert manifest["counts"]["sources without a list"] == 0
    assert "guards" in manifest["facts"]


def test_missing_lists_and_lists_of_other_sources_are_refused(workplace: Workplace, tmp_path: Path) -> None:
    write_lists(workplace, tmp_path / "lists.zst", leave_out=5)
    lists = f"+given_lists.files={{x: {{file: '{tmp_path}/lists.zst'}}}}"
    places = ["chain=given_lists", f"run.dir={workplace.folder}/runs/missing", "upto=decode"]
    done = workplace.kd("run", lists, *places, check=False)
    assert done.returncode == 2
    assert "5 of" in done.stderr
    assert "sources have no list, the first of which is line" in done.stderr
    workplace.kd("run", lists, *places, "given_lists.on_missing=gold")
    # Shifted by one line, as happens where a tool lost one.
    shifted = tmp_path / "shifted.gz"
    with LineWriter(shifted) as writer:
        for line in open_lines(tmp_path / "lists.zst"):
            number, _, rest = line.partition(" ")
            writer.write(f"{int(number) + 1} {rest}")
    lists = f"+given_lists.files={{x: {{file: '{shifted}'}}}}"
    done = workplace.kd("run", lists, *places, "given_lists.on_missing=gold", check=False)
    assert done.returncode == 2
    assert "match the human translations of their own sources no better" in done.stderr
    assert "Traceback" not in done.stderr
