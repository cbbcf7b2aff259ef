"""Models trained elsewhere: an imported fairseq checkpoint translates as before."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from kd.base.errors import UserError
from kd.engines.ctranslate2 import Translator, export
from kd.engines.fairseq.given import import_model
from kd.engines.fairseq.loading import load
from kd.engines.loading import Decoding
from kd.engines.loading import load as load_system
from kd.engines.members import MembersTranslator
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder
from kd.models.matching import read_dictionary
from kd.models.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from tests.tiny_model import Task, Trained

DECODING = Decoding(beam=2, max_pieces=30, batch_tokens=500)


def translations(folder: Path, task: Task) -> list[str]:
    return load_system([folder], DECODING, threads=1, device="cpu")([source for source, _ in task.dev])


def given(trained: Trained, task: Task) -> ModelFolder:
    dictionary = task.data / "dict.source.txt"
    return ModelFolder.of_files(
        trained.result.checkpoints[0], task.vocabulary_folder / "vocabulary.model", dictionary, dictionary
    )


def with_own_source_dictionary(trained: Trained, task: Task, folder: Path) -> ModelFolder:
    """The same model as fairseq trains it without a joined dictionary: the source's symbols in another order."""
    state = load(trained.result.checkpoints[0])
    symbols = read_dictionary(task.data / "dict.source.txt")
    order = random.Random(5).sample(range(len(symbols)), len(symbols))
    rows = torch.tensor([*range(len(SPECIAL)), *(len(SPECIAL) + number for number in order)])
    weights = state["model"]
    weights["encoder.embed_tokens.weight"] = weights["encoder.embed_tokens.weight"][rows].clone()
    settings = state["cfg"]["model"]
    for key, value in {"share_all_embeddings": False, "share_decoder_input_output_embed": True}.items():
        if isinstance(settings, dict):
            settings[key] = value
        else:
            setattr(settings, key, value)
    folder.mkdir()
    torch.save(state, folder / "checkpoint_best.pt")
    (folder / "dict.de.txt").write_text("".join(f"{symbols[number]} 1\n" for number in order), "utf-8")
    return replace(
        given(trained, task), weights=folder / "checkpoint_best.pt", source_dictionary=folder / "dict.de.txt"
    )


def imported(model: ModelFolder, out: Path) -> Path:
    out.mkdir()
    import_model(model, out)
    return out


def test_an_imported_checkpoint_translates_as_before_and_states_its_updates(
    trained: Trained, task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert import_model(given(trained, task), out) == trained.result.updates
    assert {path.name for path in out.iterdir()} == {"model.pt", "dict.txt", "vocabulary.model"}
    again = imported(ModelFolder.open(out), tmp_path / "again")
    assert (again / "model.pt").read_bytes() == (out / "model.pt").read_bytes()
    outputs = translations(out, task)
    assert sum(output == target for output, (_, target) in zip(outputs, task.dev, strict=True)) > 30  # about 70
    assert translations(again, task) == outputs


def test_a_source_dictionary_of_its_own_changes_nothing(trained: Trained, task: Task, tmp_path: Path) -> None:
    joint = imported(given(trained, task), tmp_path / "joint")
    model = with_own_source_dictionary(trained, task, tmp_path / "elsewhere")
    separate = imported(model, tmp_path / "separate")
    assert (separate / "dict.source.txt").read_bytes() != (separate / "dict.txt").read_bytes()
    assert translations(separate, task) == translations(joint, task)
    # All the way to the form in which it is deployed.
    export(separate, tmp_path / "export", "float32", Original(Languages(("de",), ("en",))))
    sources = [source for source, _ in task.dev]
    outputs = Translator(tmp_path / "export", beam=2, max_pieces=30).translate(sources)
    assert sum(map(str.__eq__, outputs, translations(joint, task))) > 90  # of 100
    found = [
        MembersTranslator([folder], Vocabulary(folder), beam=2, nbest=2, max_pieces=30).translate(sources[:20])
        for folder in (joint, separate)
    ]
    for one, other in zip(*found, strict=True):
        assert [each.text for each in one] == [each.text for each in other]
        assert [each.score for each in one] == pytest.approx([each.score for each in other], abs=1e-5)


def test_models_with_other_source_dictionaries_are_refused_as_an_ensemble(
    trained: Trained, task: Task, tmp_path: Path
) -> None:
    joint = imported(given(trained, task), tmp_path / "joint")
    separate = imported(with_own_source_dictionary(trained, task, tmp_path / "elsewhere"), tmp_path / "separate")
    with pytest.raises(UserError, match="different vocabularies"):
        load_system([joint, separate], DECODING, threads=1, device="cpu")


def test_files_that_do_not_belong_together_are_named(trained: Trained, task: Task, tmp_path: Path) -> None:
    model = given(trained, task)
    shorter = tmp_path / "shorter.txt"
    shorter.write_text("a 1\nb 1\n", "utf-8")
    with pytest.raises(UserError, match=r"has 300 symbols in its encoder, and .*shorter\.txt has 6"):
        import_model(replace(model, source_dictionary=shorter), tmp_path)
    strange = tmp_path / "strange.txt"
    strange.write_text("".join(f"x{number} 1\n" for number in range(296)), "utf-8")
    with pytest.raises(UserError, match=r"0 of the 296 symbols of .*strange\.txt are pieces"):
        import_model(replace(model, source_dictionary=strange, dictionary=strange), tmp_path)
    with pytest.raises(UserError, match="not a sentencepiece model"):
        import_model(replace(model, vocabulary=strange), tmp_path)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        import_model(replace(model, weights=strange), tmp_path)
    torch.save({"model": {"lstm.weight": torch.zeros(2)}, "cfg": {"model": {"arch": "lstm"}}}, tmp_path / "lstm.pt")
    with pytest.raises(UserError, match="its architecture is 'lstm'"):
        import_model(replace(model, weights=tmp_path / "lstm.pt"), tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused(trained: Trained, task: Task, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"model": {"x": Evil()}, "cfg": {"model": {}}}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"holds an object of type [\w.]*print, which may run code"):
        import_model(replace(given(trained, task), weights=tmp_path / "evil.pt"), tmp_path)
