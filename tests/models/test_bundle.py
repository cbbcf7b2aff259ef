"""A bundle of trained models translates as the ensemble, also after it was moved, and describes itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kd
from kd.base.errors import UserError
from kd.engines.fairseq.model import longest_pieces
from kd.engines.loading import Decoding, megabytes
from kd.engines.measuring import Measurement, measure
from kd.models.description import Languages, Original, read_description
from kd.models.folder import ModelFolder, write_ensemble

LINES = ["eins zwei drei.", "", "neun acht."]


@pytest.fixture(scope="module")
def bundled(trained, second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_ensemble(
        [ModelFolder.open(trained.folder), ModelFolder.open(second)],
        folder / "made",
        Original(Languages(("de",), ("en",)), run={"models": ["a", "b"]}),
        longest=longest_pieces(trained.folder / "model.pt"),
    )
    shutil.move(folder / "made", folder / "moved")
    return folder / "moved"


def test_it_translates_as_its_members_together(bundled: Path, trained, second: Path) -> None:
    together = list(kd.Translator([trained.folder, second], threads=1).nbest(LINES))
    assert list(kd.Translator(bundled, threads=1).nbest(LINES)) == together
    alone = next(kd.Translator(trained.folder, threads=1).nbest(LINES))
    assert alone[0].score != together[0][0].score


def test_a_bundle_describes_itself_and_links_its_files(bundled: Path, trained) -> None:
    description = read_description(bundled)
    assert (description["engine"], description["members"]) == ("fairseq", 2)
    assert (description["source_languages"], description["target_languages"]) == (["de"], ["en"])
    assert description["run"] == {"models": ["a", "b"]}
    # What the fixture trained its vocabulary with.
    assert description["preprocessing"] == {
        "tool": "sentencepiece",
        "model": "vocabulary.model",
        "kind": "unigram",
        "pieces": 300,
        "normalization": "identity",
        "add_dummy_prefix": True,
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "split_digits": True,
        "placeholders": 1,
        "tokenization": None,
    }
    assert (bundled / "members" / "1" / "model.pt").samefile(trained.folder / "model.pt")


def test_a_member_that_was_left_behind_is_missed(bundled: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "members" / "2")
    with pytest.raises(UserError, match="members/2 has no model"):
        kd.Translator(tmp_path / "part")
    with pytest.raises(UserError, match="members/2 has no model"):
        ModelFolder.open(tmp_path / "part")


def test_a_system_is_measured_in_a_process_of_its_own(bundled: Path, task) -> None:
    sources = tuple(source for source, _ in task.dev[:20])
    decoding = Decoding(beam=2, max_pieces=40, batch_tokens=200)
    wanted = Measurement((bundled,), decoding, sources, repeats=2, latency_sentences=3, cores=2, device="cpu")
    found = measure(wanted)
    assert len(found["seconds"]) == 2
    assert found["tokens_per_second"] > found["sentences_per_second"] > 0
    assert found["all_cores"]["cores"] == 2
    assert 0 < found["latency_ms"]["median"] <= found["latency_ms"]["p99"]
    assert 0 < found["memory_megabytes"] < found["process_megabytes"]
    assert found["megabytes"] == megabytes([bundled]) > 0
    with pytest.raises(UserError, match="members has no model"):
        measure(Measurement((bundled / "members",), decoding, sources, 1, 1, 1, "cpu"))
