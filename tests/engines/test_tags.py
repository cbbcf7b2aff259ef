"""Target tags: a model of two target languages that nothing but the tag tells apart, from its data to its export.

The languages are made up: `lo` has the words of the source, `up` the same in capitals.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import kd
from kd.base.errors import UserError
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin
from kd.corpora.shards import CorpusWriter
from kd.engines.ctranslate2 import export
from kd.engines.fairseq import batching, training
from kd.engines.fairseq.average import average
from kd.engines.fairseq.binary import IndexedReader
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.given import import_model
from kd.engines.fairseq.model import longest_pieces
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.engines.loading import Decoding, load
from kd.engines.members import MembersTranslator
from kd.models import vocabulary
from kd.models.description import Languages, Original, read_languages, tag_for
from kd.models.folder import ModelFolder, copy_vocabulary, write_ensemble
from kd.models.vocabulary import Vocabulary
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import EncodeConfig, SamplingConfig, VocabularyConfig
from kd.stages.encode import Encode

WORDS = ["null", "eins", "zwei", "drei", "vier", "acht", "neun", "zehn"]
TARGETS = {"de-lo": "lo", "de-up": "up"}


def sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 4))) for _ in range(count)]


def translated(text: str, language: str) -> str:
    return text.upper() if language == "up" else text


@dataclass(frozen=True)
class Toy:
    """The folders of the vocabulary, the encoded data and a trained model."""

    pieces: Path
    data: Path
    model: Path


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags") / "vocabulary"
    config = VocabularyConfig(
        size=305, model="unigram", character_coverage=1.0, normalization="identity", byte_fallback=True,
        split_digits=True, sample=5000, seed=1, tags=True,
    )  # fmt: skip
    # Text in which a tag stands, as in documentation about such models.
    text = [side for one in sentences(800, 1) for side in (one, one.upper())] + ["<2up> and <2lo>"] * 50
    vocabulary.train(text, folder, config, ["<2up>", "{x}"], ["<2lo>", "<2up>"])
    return folder


def encoded(pieces: Path, root: Path, config: EncodeConfig) -> Path:
    """What the stage leaves of both pairs."""
    artifacts, held_out = [], root / "held_out"
    for pair, language in TARGETS.items():
        origin = Origin(pair, "toy")
        with CorpusWriter(root / pair, ("de", language), 500, origins=[origin]) as writer:
            for each in origin.number((one, translated(one, language)) for one in sentences(900, 2)):
                writer.add(each)
        write_heldout(
            held_out, pair, {"dev": list(origin.number((s, translated(s, language)) for s in sentences(20, 3)))}
        )
        artifacts.append(Artifact(root / pair, "shard", f"shard.{pair}", "all", "", pair, {}, {}))
    out = root / "data"
    out.mkdir()
    others = {role: [Artifact(path, role, role, "all", "", None, {}, {})] for role, path in
              {"held_out": held_out, "vocabulary": pieces}.items()}  # fmt: skip
    Encode().run(
        Job("all", "encode_multi", config, {}, None, {}, {"corpus": artifacts, **others}, {}, out, [], 1, 1, "cpu", {},
            Progress(None))
    )  # fmt: skip
    return out


CONFIG = EncodeConfig(max_pieces=40, folder_pairs=5000, sampling=SamplingConfig(seed=1), tags=True)


@pytest.fixture(scope="module")
def toy(pieces: Path, spec: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    root = tmp_path_factory.mktemp("toy")
    data = encoded(pieces, root, CONFIG)
    sizes = [IndexedReader(data / f"train.source-target.{side}").sizes for side in ("source", "target")]
    plan = batching.plan(*sizes, target_tokens=500, max_tokens=600)
    config = replace(spec.config, max_update=300, validate_bleu=False)
    wanted = replace(
        spec, config=config, data=(data,), vocabulary=data / "vocabulary.model", max_tokens=plan.max_tokens,
        update_freq=plan.update_freq,
    )  # fmt: skip
    model = root / "model"
    model.mkdir()
    result = training.train(wanted, model, lambda _: None, threads=1)
    average(list(result.checkpoints[:1]), model / "model.pt")
    copy_vocabulary(data, model)
    return Toy(pieces, data, model)


@pytest.fixture(scope="module")
def exported(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export(toy.model, folder, "float32", Original(read_languages(toy.model)))
    return folder


def test_no_text_is_encoded_as_a_tag(pieces: Path) -> None:
    read = Vocabulary(pieces)
    text = "null <2up> eins"
    [plain], [tagged] = read.encode_ids([text]), read.encode_ids([text], "<2lo>")
    [number] = read.ids_of(["<2up>"])
    assert number not in plain and number not in tagged
    assert tagged == [*read.ids_of(["<2lo>"]), *plain]
    assert read.decode_pieces(read.pieces_of(plain)) == text
    assert read.decode_pieces(read.pieces_of(tagged)) == text  # a tag stands for no text
    assert read.encode_ids([""], "<2lo>") == [[]]
    with pytest.raises(UserError, match=r"no symbol <2xx>.*vocabulary\.tags=true"):
        read.encode_ids([text], "<2xx>")


def test_arrays_have_the_tags_of_ids(pieces: Path) -> None:
    read = Vocabulary(pieces)
    texts = ["null eins", "zwei", "acht neun zehn"]
    ids, sizes = read.encode_array(texts, "<2up>")
    expected = [[*sentence, 2] for sentence in read.encode_ids(texts, "<2up>")]  # 2: </s> in every fairseq dictionary
    assert list(sizes) == [len(each) for each in expected]
    assert list(ids) == [number for each in expected for number in each]


def test_sources_are_tagged_and_targets_are_not(toy: Toy) -> None:
    read = Vocabulary(toy.pieces)
    tags = {read.ids_of([f"<2{language}>"])[0]: language for language in TARGETS.values()}
    for split, count in (("train", 900), ("valid", 20)):
        source, target = (IndexedReader(toy.data / f"{split}.source-target.{side}") for side in ("source", "target"))
        seen = []
        for place in range(len(source)):
            first, *rest = source[place].tolist()
            text = read.decode_pieces(read.pieces_of(target[place].tolist()[:-1]))
            assert text == translated(read.decode_pieces(read.pieces_of(rest[:-1])), tags[first])
            assert not set(tags) & {*rest, *target[place].tolist()}
            seen.append(tags[first])
        assert seen.count("lo") == seen.count("up") == count
    languages = read_languages(toy.data)
    assert languages == Languages(("de",), ("lo", "up"), True, {"de-lo": ("de", "lo"), "de-up": ("de", "up")})


def test_the_longest_source_counts_its_tag(pieces: Path, tmp_path: Path) -> None:
    read, most = Vocabulary(pieces), 12
    lengths = [
        (len(read.encode_ids([text])[0]), len(read.encode_ids([translated(text, language)])[0]))
        for text in sentences(900, 2)
        for language in TARGETS.values()
    ]
    fit = sum(source + 1 <= most and target <= most for source, target in lengths)
    assert fit < sum(source <= most and target <= most for source, target in lengths)
    out = encoded(pieces, tmp_path, replace(CONFIG, max_pieces=most))
    [counts] = json.loads((out / "counts.json").read_text("utf-8"))["train"]
    assert (counts["pairs"], counts["too_long"]) == (fit, 1800 - fit)


def test_the_tag_decides_what_is_written(toy: Toy, exported: Path, tmp_path: Path) -> None:
    texts = sentences(40, 9)
    longest = longest_pieces(toy.model / "model.pt")
    folder = ModelFolder.open(toy.model)
    write_ensemble([folder], tmp_path / "bundle", Original(folder.languages), longest=longest)
    import_model(folder, _folder(tmp_path / "given"))
    for folder in (toy.model, exported, tmp_path / "bundle", tmp_path / "given"):
        for language in TARGETS.values():
            found = list(kd.Translator(folder, to=language, beam=2, threads=1).translate(texts))
            # Of 40. A model that ignores the tag writes at least one of the two languages in 20 at most.
            assert sum(one == translated(one.lower(), language) for one in found) > 28
            right = sum(one == translated(text, language) for one, text in zip(found, texts, strict=True))
            assert right > 10, (folder, language, found[:3])
            assert list(load([folder], Decoding(2, 256, 2000, language), threads=1, device="cpu")(texts)) == found


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_teachers_may_be_tagged(toy: Toy) -> None:
    read, tag = Vocabulary(toy.model), tag_for(read_languages(toy.model), "up", "it")
    texts = sentences(10, 11)
    settings = {"beam": 2, "nbest": 2, "max_pieces": 30, "tag": tag}
    ensemble = EnsembleTranslator([toy.model, toy.model], read, **settings).translate(texts)
    members = MembersTranslator([toy.model, toy.model], read, **settings).translate(texts)
    best = [[each[0].text for each in lists] for lists in (ensemble, members)]
    assert best[0] == best[1]
    assert sum(one.isupper() for one in best[0]) > 7  # of 10


def test_text_that_holds_a_tag_is_not_taken_for_one(exported: Path) -> None:
    lower = kd.Translator(exported, to="lo", threads=1)
    found = list(lower.translate([f"<2up> {text}" for text in sentences(10, 12)]))
    assert sum(text.isupper() for text in found) < 3  # of 10


def test_the_target_must_be_named_and_be_a_target_of_the_model(toy: Toy, exported: Path) -> None:
    for folder in (toy.model, exported):
        with pytest.raises(UserError, match=r"translates into lo, up, but no language was chosen.*--to"):
            kd.Translator(folder)
        with pytest.raises(UserError, match=r"does not translate into de.*Choose one of: lo, up"):
            kd.Translator(folder, to="de")


def test_models_of_one_target_need_no_name(trained, task, tmp_path: Path) -> None:
    export(trained.folder, tmp_path, "float32", Original(Languages(("de",), ("en",))))
    [plain], [named] = (
        list(kd.Translator(tmp_path, to=to, threads=1).translate(["eins zwei."])) for to in (None, "en")
    )
    assert plain == named
    with pytest.raises(UserError, match="translates into en, not into fr"):
        kd.Translator(tmp_path, to="fr")
    with pytest.raises(UserError, match="does not state its target language"):
        kd.Translator(trained.folder, to="en")
    assert tag_for(Languages(("de",), ("en",)), "fr", "it") is None  # stages know the pair; a model may not


def test_long_text_is_cut_so_that_the_tag_has_room(toy: Toy, exported: Path) -> None:
    whole = ". ".join(sentences(40, 13)) + "."
    for folder in (toy.model, exported):
        [found] = kd.Translator(folder, to="up", beam=1, threads=1).translate([whole])
        assert found.isupper() and found.count("\n") == 0


def test_the_description_of_a_model_is_read_back(exported: Path) -> None:
    content: Mapping[str, object] = json.loads((exported / "model.json").read_text("utf-8"))
    assert (content["target_languages"], content["tags"]) == (["lo", "up"], ["<2lo>", "<2up>"])
    assert read_languages(exported).pairs == {"de-lo": ("de", "lo"), "de-up": ("de", "up")}
