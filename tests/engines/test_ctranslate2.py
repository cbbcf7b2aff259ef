"""Export to CTranslate2: the output of the float32 model is fairseq's, and the folder is all that is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.engines.ctranslate2 import COMPUTE_TYPES, Translator, export
from kd.engines.fairseq.conversion import POSITIONS
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.models.description import Languages, Original
from tests.tiny_model import MAX_PIECES

LANGUAGES = Languages(("de",), ("en",))


@pytest.fixture(scope="module")
def exported(trained, task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export(trained.folder, folder / "made", "float32", Original(LANGUAGES, "abc"))
    shutil.move(folder / "made", folder / "moved")  # it must not know where it was made
    return folder / "moved"


def test_float32_output_is_that_of_fairseq(exported: Path, trained, task) -> None:
    sources = [source for source, _ in task.train[:100] + task.dev]
    translator = EnsembleTranslator([trained.folder], task.vocabulary, beam=4, max_pieces=60, score_members=False)
    expected = [hypotheses[0] for hypotheses in translator.translate(sources)]
    actual = Translator(exported, beam=4, max_pieces=60).translate(sources, batch_tokens=200)
    assert all(len(hypothesis.pieces) < 60 for hypothesis in expected)  # no length cap was hit
    assert sum(one.text == other for one, other in zip(expected, actual, strict=True)) >= 190


def test_sources_longer_than_in_training_are_cut_as_by_fairseq(exported: Path, trained, task) -> None:
    """CTranslate2 has no encodings of further positions: it failed at the first long sentence of a test set."""
    sources = [" ".join(source for source, _ in task.train[first : first + 12]) for first in range(0, 60, 12)]
    assert min(len(ids) for ids in task.vocabulary.encode_ids(sources)) > MAX_PIECES + 1
    translator = EnsembleTranslator([trained.folder], task.vocabulary, beam=1, max_pieces=200, score_members=False)
    expected = [hypotheses[0].text for hypotheses in translator.translate(sources)]
    # Where the longest output is reached fairseq puts an end, so that the last piece may be another.
    for one, other in zip(Translator(exported, beam=1, max_pieces=200).translate(sources), expected, strict=True):
        assert other[:20] == one[:20]


def test_blank_lines_stay_in_place(exported: Path, task) -> None:
    translator = Translator(exported, threads=2)
    source = task.dev[0][0]
    [one] = translator.translate([source])
    assert one
    assert translator.translate(["", source, " ", source]) == ["", one, "", one]
    assert translator.translate([]) == []


def test_a_folder_describes_its_model(exported: Path) -> None:
    description = json.loads((exported / "model.json").read_text("utf-8"))
    assert description["source_languages"] == ["de"]
    assert description["target_languages"] == ["en"]
    assert (description["compute_type"], description["fingerprint"]) == ("float32", "abc")


def test_int8_is_smaller_and_translates(exported: Path, trained, task, tmp_path: Path) -> None:
    export(trained.folder, tmp_path, "int8", Original(LANGUAGES))
    positions = 4 * 64 * POSITIONS  # stay in float32
    small, large = ((folder / "model" / "model.bin").stat().st_size - positions for folder in (tmp_path, exported))
    assert small < large / 2
    output = Translator(tmp_path, max_pieces=60).translate([source for source, _ in task.dev])
    assert sum(text == target for text, (_, target) in zip(output, task.dev, strict=True)) > 25  # about 70 in float32


def test_every_type_translates_on_a_cpu(trained, task, tmp_path: Path) -> None:
    sources = [source for source, _ in task.dev[:20]]
    outputs = {}
    for compute_type in COMPUTE_TYPES:  # of which a CPU computes with some alone
        export(trained.folder, tmp_path / compute_type, compute_type, Original(LANGUAGES))
        outputs[compute_type] = Translator(tmp_path / compute_type, max_pieces=60).translate(sources)
    for compute_type, output in outputs.items():
        same = sum(one == other for one, other in zip(output, outputs["float32"], strict=True))
        assert same >= 10, compute_type  # another model than this one would give hardly any


def test_mistakes_are_explained(trained, task, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'int7' is not a number format"):
        export(trained.folder, tmp_path / "x", "int7", Original(LANGUAGES))
    with pytest.raises(UserError, match="has no model"):
        export(tmp_path, tmp_path / "x", "int8", Original(LANGUAGES))
    with pytest.raises(UserError, match="is not an exported model"):
        Translator(trained.folder)
