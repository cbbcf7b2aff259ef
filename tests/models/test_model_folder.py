"""Model folders that are damaged, incomplete or mixed up are refused in a sentence, before anything is translated."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kd
from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.models import files
from kd.models.description import Languages, Original
from kd.models.folder import ModelFolder
from kd.pipeline import store

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LINE = "eins zwei drei."


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "student"
    export(trained.folder, folder, "int8", Original(Languages(("de",), ("en",))))
    return folder


@pytest.fixture
def other_vocabulary(task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of another size, of the same kind of text."""
    from kd.models import vocabulary
    from kd.recipe.schema import VocabularyConfig

    folder = tmp_path_factory.mktemp("other")
    config = VocabularyConfig(
        size=290,
        model="bpe",
        character_coverage=1.0,
        normalization="identity",
        byte_fallback=True,
        split_digits=True,
        sample=1000,
        seed=1,
    )
    vocabulary.train((side for pair in task.train for side in pair), folder, config)
    return folder / "vocabulary.model"


def copied(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def unrecorded(folder: Path) -> Path:
    """Remove the recorded hashes, as in folders that an earlier version of kd wrote."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    content.pop("files", None)
    path.write_text(json.dumps(content))
    return folder


def edit_description(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "model.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def pointer(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(POINTER) and None


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def shortened(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 2 // 3])

    return edit


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def vocabulary_list(folder: Path) -> str:
    return next(folder.glob("model/*vocabulary*")).relative_to(folder).as_posix()


EXPORTED = {
    "no vocabulary": (removed("vocabulary.model"), "There is no .*vocabulary.model"),
    "no weights": (removed("model/model.bin"), "There is no .*model.bin"),
    "no configuration": (removed("model/config.json"), "There is no .*config.json"),
    "no tokens": (lambda folder: (folder / vocabulary_list(folder)).unlink(), "has no shared_vocabulary"),
    "no description": (removed("model.json"), "has no model.json"),
    "pointer vocabulary": (pointer("vocabulary.model"), r"vocabulary\.model is a Git LFS pointer.*git lfs pull"),
    "pointer weights": (pointer("model/model.bin"), r"model\.bin is a Git LFS pointer"),
    "pointer description": (pointer("model.json"), r"model\.json is a Git LFS pointer"),
    "empty weights": (text("model/model.bin", ""), r"model\.bin is empty"),
    "short weights": (shortened("model/model.bin"), "is damaged: "),
    "short vocabulary": (shortened("vocabulary.model"), r"vocabulary\.model is damaged"),
    "broken configuration": (text("model/config.json", "{"), "is damaged"),
    "broken tokens": (lambda folder: (folder / vocabulary_list(folder)).write_text("{"), "is damaged: it is not JSON"),
    "broken description": (text("model.json", "{"), r"model\.json is damaged: it is not JSON"),
    "deep description": (text("model.json", "[" * 100_000), r"model\.json is damaged: it is not JSON"),
    "long number": (text("model.json", '{"format": ' + "9" * 5000 + "}"), r"model\.json"),
    "list description": (text("model.json", "[1]"), "is not a JSON object"),
    "no compute type": (edit_description(compute_type=None), "has no entry compute_type"),
    "empty description": (text("model.json", "{}"), "has no entry compute_type"),
    "tags": (edit_description(tags=["<2en>"], target_languages=[]), "has tags and no target_languages"),
    "languages": (edit_description(source_languages=5), "its entry source_languages is 5"),
    "pairs": (edit_description(pairs=[1]), r"its entry pairs is \[1\]"),
    "longest": (edit_description(max_source_pieces="x"), "its entry max_source_pieces is 'x'"),
    "engine": (edit_description(engine="sockeye"), "its entry engine is 'sockeye'"),
    "package": (edit_description(engine="marian"), "is for marian, which kd does not load"),
    "format": (edit_description(format=99), "has format 99, and this version of kd reads formats up to 1.*newer"),
    "format type": (edit_description(format="1"), "its entry format is '1'"),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_a_damaged_exported_folder_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    edit, told = EXPORTED[name]
    folder = unrecorded(copied(exported, tmp_path / "copy"))
    edit(folder)
    with pytest.raises(UserError, match=told) as caught:
        list(kd.Translator(folder, threads=1).translate([LINE]))
    assert "\n" not in str(caught.value)


TRAINED = {
    "no dictionary": (removed("dict.txt"), "There is no .*dict.txt"),
    "no vocabulary": (removed("vocabulary.model"), "There is no .*vocabulary.model"),
    "no weights": (removed("model.pt"), "has no model"),
    "pointer weights": (pointer("model.pt"), r"model\.pt is a Git LFS pointer"),
    "pointer dictionary": (pointer("dict.txt"), r"dict\.txt is a Git LFS pointer"),
    "short weights": (shortened("model.pt"), "cannot be read as a checkpoint"),
    "binary dictionary": (lambda f: (f / "dict.txt").write_bytes(b"\xff\xfe 1\n"), "is not UTF-8 text"),
    "bad dictionary": (text("dict.txt", "a 1\nb\n"), "dict.txt, line 2: a symbol and a number were expected"),
    "short dictionary": (text("dict.txt", "a 1\nb 1\n"), "symbols"),
    "languages": (text("languages.json", "{"), r"languages\.json is damaged: it is not JSON"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_damaged_trained_folder_is_refused(trained, tmp_path: Path, name: str) -> None:
    edit, told = TRAINED[name]
    ModelFolder.open(trained.folder).copy(tmp_path / "copy")
    edit(tmp_path / "copy")
    with pytest.raises(UserError, match=told) as caught:
        list(kd.Translator(tmp_path / "copy", threads=1).translate([LINE]))
    assert "\n" not in str(caught.value)


def test_the_vocabulary_of_another_model_is_refused(
    exported: Path, trained, other_vocabulary: Path, tmp_path: Path
) -> None:
    """CTranslate2 takes unknown pieces for <unk>: it translated nonsense, and exited with 0."""
    folder = unrecorded(copied(exported, tmp_path / "exported"))
    shutil.copy(other_vocabulary, folder / "vocabulary.model")
    with pytest.raises(UserError, match=r"is the vocabulary of another model: it has 290 pieces, .* states 300"):
        kd.Translator(folder)
    tokens = [f"x{number}" for number in range(300)]
    path = folder / vocabulary_list(folder)
    shutil.copy(exported / "vocabulary.model", folder / "vocabulary.model")
    path.write_text(json.dumps(tokens))
    with pytest.raises(UserError, match=r"is the vocabulary of another model: it has 0 of the 300 tokens"):
        kd.Translator(folder)


def test_kd_translate_exits_with_2_and_one_sentence(exported: Path, tmp_path: Path) -> None:
    folder = unrecorded(copied(exported, tmp_path / "copy"))
    removed("vocabulary.model")(folder)
    command = [sys.executable, "-m", "kd", "translate", "--model", str(folder)]
    run = subprocess.run(command, input=f"{LINE}\n", capture_output=True, encoding="utf-8")
    assert (run.returncode, run.stdout) == (2, "")
    assert "There is no" in run.stderr and "Traceback" not in run.stderr and run.stderr.count("\n") == 1


# --- bit rot ---------------------------------------------------------------------------------------------------------


def flip_a_bit(path: Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    place = random.Random(seed).randrange(len(content) // 2, len(content))
    content[place] ^= 1 << (seed % 8)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["model/model.bin", "model/shared_vocabulary.json", "vocabulary.model"])
def test_a_flipped_bit_in_an_exported_folder_is_noticed(exported: Path, tmp_path: Path, name: str) -> None:
    """CTranslate2 loads whatever numbers are there."""
    folder = copied(exported, tmp_path / "copy")
    kd.Translator(folder, threads=1)
    flip_a_bit(folder / name, 7)
    with pytest.raises(UserError, match=r"was changed or damaged after it was published.*model\.json"):
        kd.Translator(folder, threads=1)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_in_published_weights_is_noticed(trained, tmp_path: Path, seed: int) -> None:
    """torch does not compare the checksums in its archive: 60 of 60 such files were loaded."""
    from kd.base.hashing import sha256
    from kd.engines.fairseq.loading import load

    folder = tmp_path / "member-1"
    ModelFolder.open(trained.folder).copy(folder)
    record = {"files": {"model.pt": {"bytes": 1, "sha256": sha256(folder / "model.pt")}}}
    (folder / "manifest.json").write_text(json.dumps(record))
    load(folder / "model.pt")
    flip_a_bit(folder / "model.pt", seed)
    with pytest.raises(UserError, match=r"model\.pt was changed or damaged.*manifest\.json"):
        load(folder / "model.pt")


def test_weights_are_hashed_once(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kd.base import hashing
    from kd.models import integrity

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    integrity._hashes.cache_clear()
    hashed: list[str] = []
    sha256 = hashing.sha256
    monkeypatch.setattr(hashing, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    folder = copied(exported, tmp_path / "copy")
    for _ in range(2):
        kd.Translator(folder, threads=1)
        integrity._hashes.cache_clear()  # as in another process
    assert sorted(hashed) == ["config.json", "model.bin", "shared_vocabulary.json", "vocabulary.model"]


def test_the_stores_and_the_models_name_the_same_manifest() -> None:
    assert files.MANIFEST == store.MANIFEST


def test_a_folder_of_a_run_is_refused_with_the_models_below_it(trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("student.en-xx/member-1", "release.en-xx/student-int8"):
        ModelFolder.open(trained.folder).copy(run / name)
    with pytest.raises(UserError, match="has no model") as caught:
        ModelFolder.open(run)
    assert caught.value.hint == (
        f"Give one of the models below it: {run}/release.en-xx/student-int8, {run}/student.en-xx/member-1"
    )
