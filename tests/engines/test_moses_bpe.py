"""A model of stock fairseq that was trained on text from Moses and BPE reads and writes raw text.

It is trained as fairseq's README of translation does it: `fairseq-preprocess` with a dictionary for each side, and
`fairseq-train --eval-bleu`. Expected translations are those of fairseq's own hub interface, which applies sacremoses
and subword-nmt itself.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sacremoses import MosesTokenizer
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.engines.fairseq.given import import_model
from kd.engines.loading import Decoding, count_pieces, load
from kd.engines.scoring import Scoring, load_scorer
from kd.engines.translator import Translator
from kd.models.description import Languages, Original, read_description
from kd.models.folder import ModelFolder, write_ensemble
from kd.models.moses_bpe import MosesBpe, Segmentation
from kd.models.vocabulary import Vocabulary
from tests.engines.test_scoring import reference_of_ids
from tests.older_cpu import older_cpu

WORDS = {
    "eins": "one",
    "zwei": "it's",
    "drei": "well-known",
    "vier": "R&D",
    "acht": "lowest",
    "neun": "low",
    "zehn": "[x]",
}
MERGES = 40


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        words, end = rng.choices(list(WORDS), k=rng.randint(1, 4)), rng.choice(".!?")
        made.append((f"{', '.join(words)}{end}", f"{', '.join(WORDS[word] for word in words)}{end}"))
    return made


def learnt(lines: list[str]) -> str:
    out = io.StringIO()
    learn_bpe(io.StringIO("\n".join(lines)), out, MERGES)
    return out.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The checkpoint with the best BLEU, and the files of its training."""
    root = tmp_path_factory.mktemp("moses")
    texts = {"train": pairs(1500, 1), "valid": pairs(30, 2)}
    tokenizers = [MosesTokenizer(language) for language in ("de", "en")]
    tokenized = {
        split: [[tokenizer.tokenize(pair[side], return_str=True, aggressive_dash_splits=True) for pair in each]
                for side, tokenizer in enumerate(tokenizers)]
        for split, each in texts.items()
    }  # fmt: skip
    (root / "codes").write_text(learnt([line for side in tokenized["train"] for line in side]), "utf-8")
    bpe = BPE(io.StringIO((root / "codes").read_text("utf-8")))
    for split, sides in tokenized.items():
        for language, lines in zip(("de", "en"), sides, strict=True):
            (root / f"{split}.{language}").write_text("".join(bpe.process_line(line) + "\n" for line in lines), "utf-8")
    run("fairseq-preprocess", "--source-lang", "de", "--target-lang", "en", "--trainpref", str(root / "train"),
        "--validpref", str(root / "valid"), "--destdir", str(root / "data"))  # fmt: skip
    sizes = {"embed-dim": 64, "ffn-embed-dim": 128, "attention-heads": 2, "layers": 1}
    shape = [f"--{side}-{name}={value}" for side in ("encoder", "decoder") for name, value in sizes.items()]
    run("fairseq-train", str(root / "data"), "--arch", "transformer_iwslt_de_en", *shape, "--optimizer", "adam",
        "--lr", "0.005", "--max-update", "300", "--max-tokens", "600", "--dropout", "0", "--save-dir", str(root),
        "--cpu",
        "--share-decoder-input-output-embed", "--eval-bleu", "--eval-bleu-detok", "moses", "--eval-bleu-remove-bpe",
        "--eval-bleu-args", '{"beam": 1, "max_len_a": 0, "max_len_b": 30}', "--best-checkpoint-metric", "bleu",
        "--maximize-best-checkpoint-metric", "--num-workers", "0", "--seed", "1", "--validate-interval", "999",
        "--validate-interval-updates", "100", "--save-interval-updates", "100", "--no-epoch-checkpoints")  # fmt: skip
    dictionaries = [root / "data" / f"dict.{language}.txt" for language in ("en", "de")]
    return ModelFolder.of_files(root / "checkpoint_best.pt", root / "codes", *dictionaries, Segmentation(source="de"))


def run(program: str, *arguments: str) -> None:
    with older_cpu():
        done = subprocess.run([sys.executable, "-m", "kd.engines.fairseq", program, *arguments],
                              capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def imported(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    import_model(model, out)
    return out


@pytest.mark.parametrize("beam", [1, 4])
def test_raw_text_is_translated_as_by_fairseqs_hub_interface(
    model: ModelFolder, imported: Path, tmp_path: Path, beam: int
) -> None:
    from fairseq.models.transformer import TransformerModel

    root = model.weights.parent
    state = torch.load(model.weights, weights_only=False)
    torch.save(
        {**state, "extra_state": {}}, tmp_path / "hub.pt"
    )  # without numpy arrays, which stock fairseq cannot load
    hub = TransformerModel.from_pretrained(
        str(tmp_path), "hub.pt", str(root / "data"), tokenizer="moses", bpe="subword_nmt",
        bpe_codes=str(root / "codes"), source_lang="de", target_lang="en",
    )  # fmt: skip
    fresh = pairs(49, 3)
    sources = [*(source for source, _ in fresh), "fünf & zwei, eins-zwei."]  # with characters that it has never read
    expected = hub.translate(sources, beam=beam, max_len_a=0, max_len_b=60)
    system = load([imported], Decoding(beam=beam, max_pieces=60, batch_tokens=500), threads=1, device="cpu")
    assert system(sources) == expected
    assert list(Translator(imported, beam=beam, max_pieces=60, as_is=True).translate(sources)) == expected
    assert sum(found == target for found, (_, target) in zip(expected, fresh, strict=False)) > 8  # of 50: it has learnt


def test_given_translations_have_the_scores_of_fairseqs_scorer(model: ModelFolder, imported: Path) -> None:
    """Both sides are tokenised by sacremoses and segmented by subword-nmt, each with its own dictionary."""
    from fairseq.data import Dictionary

    sides = list(zip(*pairs(10, 5), strict=True))
    bpe = BPE(io.StringIO((model.weights.parent / "codes").read_text("utf-8")))
    encoded = []
    for language, texts in zip(("de", "en"), sides, strict=True):
        tokenizer = MosesTokenizer(language)
        dictionary = Dictionary.load(str(model.weights.parent / "data" / f"dict.{language}.txt"))
        lines = [bpe.process_line(tokenizer.tokenize(text, return_str=True, aggressive_dash_splits=True))
                 for text in texts]  # fmt: skip
        encoded.append([[dictionary.index(piece) for piece in line.split()] for line in lines])
    expected = reference_of_ids([imported], list(zip(*encoded, strict=True)))
    scorer = load_scorer([imported], Scoring(("de", "en"), batch_tokens=200, threads=1, device="cpu"))
    found = scorer.score(sides[0], [[text] for text in sides[1]])
    assert [score for (score,) in found] == pytest.approx(expected, abs=1e-4)


def test_each_side_keeps_its_dictionary(model: ModelFolder, imported: Path) -> None:
    assert (imported / "dict.source.txt").read_bytes() == model.source_dictionary.read_bytes()  # type: ignore[union-attr]
    assert (imported / "dict.txt").read_bytes() == model.dictionary.read_bytes()  # type: ignore[union-attr]
    assert (imported / "dict.txt").read_bytes() != (imported / "dict.source.txt").read_bytes()


def test_a_released_folder_translates_alike(imported: Path, tmp_path: Path) -> None:
    write_ensemble(
        [ModelFolder.open(imported)] * 2, tmp_path / "out", Original(Languages(("de",), ("en",))),
        longest={"source": 100, "target": 100},
    )  # fmt: skip
    assert read_description(tmp_path / "out")["preprocessing"]["tool"] == "bpe"
    sources = [source for source, _ in pairs(5, 4)]
    assert list(Translator(tmp_path / "out").translate(sources)) == list(Translator(imported).translate(sources))
    assert count_pieces([tmp_path / "out"], ["R&D"]) == len(Vocabulary(imported).encode_pieces(["R&D"])[0])


def test_fastbpe_and_subword_nmt_codes_segment_alike(tmp_path: Path) -> None:
    """fastBPE writes the same merges without a header and with counts."""
    codes = "#version: 0.2\nl o\nlo w</w>\nlo w\ne s\n"
    (tmp_path / "subword").write_text(codes, "utf-8")
    (tmp_path / "fast").write_text("l o 9\nlo w</w> 7\nlo w 5\ne s 3\n", "utf-8")
    segmentations = [
        MosesBpe(tmp_path / name, Segmentation(moses=False), []).encode(["low lowest"], out_type=str)
        for name in ("subword", "fast")
    ]
    assert segmentations[0] == segmentations[1] == [["low", "low@@", "es@@", "t"]]


def test_files_that_do_not_belong_together_are_refused(model: ModelFolder, imported: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("#version: 0.2\nq q\n", "utf-8")
    strange = ModelFolder.of_files(model.weights, tmp_path / "other", model.dictionary, model.source_dictionary,  # type: ignore[arg-type]
                                   model.segmentation)  # fmt: skip
    with pytest.raises(UserError, match=r"symbols of .*dict\.en\.txt come from the codes .*other"):
        import_model(strange, tmp_path)
    (tmp_path / "text").write_text("no codes at all\n", "utf-8")
    with pytest.raises(UserError, match="is not a file of BPE codes: line 1"):
        MosesBpe(tmp_path / "text", Segmentation(), [])
    with pytest.raises(UserError, match="segments text with BPE codes"):
        export(imported, tmp_path / "export", "float32", Original(Languages(("de",), ("en",))))
