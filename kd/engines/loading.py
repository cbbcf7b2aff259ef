"""Load models for translation, for any engine: one call for a folder or an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kd.base.errors import IncompleteArtifact
from kd.models.description import CTRANSLATE2, ENDPOINT, tag_for
from kd.models.folder import ModelFolder
from kd.models.matching import load_processor


class Translates(Protocol):
    """A loaded system."""

    def __call__(self, sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Return the best translation of each source, in order; call `progress` with the number done and the total."""
        ...


@dataclass(frozen=True)
class Decoding:
    """Settings of translation."""

    beam: int
    max_pieces: int  # longest output
    batch_tokens: int  # source tokens per batch, padding included
    to: str | None = None  # the language to write; None for models of one target language or without tags


def megabytes(folders: Sequence[Path]) -> float:
    """Return the size on disk of the weights and of the other files that translating needs, in 10^6 bytes."""
    return sum(ModelFolder.open(folder).bytes for folder in folders) / 1e6


def count_pieces(folders: Sequence[Path], texts: Sequence[str]) -> int:
    """Return the number of tokens of texts in a system's own vocabulary."""
    model = ModelFolder.open(folders[0])
    if model.tokenizer:
        from kd.engines.converted import ConvertedTranslator

        return ConvertedTranslator(model.path).count_pieces(texts)
    if model.segmentation:
        from kd.models.vocabulary import Vocabulary

        return sum(map(len, Vocabulary(model.all_members[0].path).encode_pieces(texts)))
    processor = load_processor(model.vocabulary)
    return sum(map(len, processor.encode(list(texts), num_threads=1)))


def load(folders: Sequence[Path], decoding: Decoding, *, threads: int, device: str) -> Translates:
    """Load a system: one model folder, an ensemble's folder, or the folders of its members."""
    models = [ModelFolder.open(folder) for folder in folders]
    for model in models:
        model.check()
    if models[0].engine == ENDPOINT:
        return _load_endpoint(models, decoding)
    if models[0].tokenizer:
        return _load_converted(models, decoding, threads, device)
    if models[0].engine == CTRANSLATE2:
        return _load_ctranslate2(folders[0], decoding, threads, device)
    return _load_fairseq(models, decoding, threads, device)


def check_translates(folder: Path) -> None:
    """Load a model and translate one word, into its first target language. Raises IncompleteArtifact if that fails."""
    target = next(iter(ModelFolder.open(folder).languages.target), None)
    decoding = Decoding(beam=1, max_pieces=8, batch_tokens=100, to=target)
    if len(load([folder], decoding, threads=1, device="cpu")(["a"])) != 1:
        raise IncompleteArtifact(f"The model in {folder} does not translate.")


def _load_ctranslate2(folder: Path, decoding: Decoding, threads: int, device: str) -> Translates:
    from kd.engines.ctranslate2 import Translator

    translator = Translator(
        folder, threads=threads, beam=decoding.beam, max_pieces=decoding.max_pieces, device=device, to=decoding.to
    )

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        outputs = translator.translate(sources, decoding.batch_tokens)
        if progress:
            progress(len(sources), len(sources))
        return outputs

    return translate


def _load_endpoint(models: Sequence[ModelFolder], decoding: Decoding) -> Translates:
    from kd.engines.endpoint.description import Endpoint
    from kd.engines.endpoint.translator import EndpointTranslator

    translator = EndpointTranslator(Endpoint.open(models[0].path), max_pieces=decoding.max_pieces)

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        return [hypotheses[0].text for hypotheses in translator.translate(sources, progress)]

    return translate


def _load_converted(models: Sequence[ModelFolder], decoding: Decoding, threads: int, device: str) -> Translates:
    from kd.engines.converted import ConvertedTranslator, require_one

    translator = ConvertedTranslator(
        require_one([model.path for model in models]),
        beam=decoding.beam,
        max_pieces=decoding.max_pieces,
        batch_tokens=decoding.batch_tokens,
        threads=threads,
        device=device,
    )

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        return [hypotheses[0].text for hypotheses in translator.translate(sources, progress)]

    return translate


def _load_fairseq(models: Sequence[ModelFolder], decoding: Decoding, threads: int, device: str) -> Translates:
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.models.vocabulary import Vocabulary

    folders = [member.path for model in models for member in model.all_members]
    translator = EnsembleTranslator(
        folders,
        Vocabulary(folders[0]),
        beam=decoding.beam,
        max_pieces=decoding.max_pieces,
        batch_tokens=decoding.batch_tokens,
        threads=threads,
        device=device,
        score_members=False,
        tag=tag_for(models[0].languages, decoding.to, folders[0]),
    )

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        return [hypotheses[0].text for hypotheses in translator.translate(sources, progress)]

    return translate
