"""Convert Hugging Face models to CTranslate2 and translate with their own tokenizers, for teachers.

CTranslate2's converter reads Marian and OPUS-MT, M2M-100, NLLB and T5 or MADLAD models. A converted folder holds
`model/` (CTranslate2's files), `tokenizer/` (transformers' files) and `model.json`, whose entry `direction` has the
model's names of the languages.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import read_object
from kd.engines.ctranslate2 import COMPUTE_TYPES, Batches, PieceScorer, computable, load
from kd.engines.hypotheses import LONGEST_OUTPUT, Counts, Hypothesis, without_broken
from kd.engines.nan import nan_scores
from kd.engines.tokenizers import CONFIGURATION, load_tokenizer, reason_of
from kd.models.description import CTRANSLATE2, FORMAT, Languages, read_description
from kd.models.files import DESCRIPTION, EXPORTED, EXPORTED_WEIGHTS, TOKENIZER, WEIGHTS
from kd.models.folder import write_description
from kd.models.integrity import COPY_AGAIN
from kd.models.languages import alike, nearest

_CHUNK = 1000  # sentences translated at once; CTranslate2 sorts and batches them
ADAPTER = "adapter_config.json"  # of the package peft
# Of transformers, by their settings: other names could lead to code that runs what a folder or the hub holds.
ARCHITECTURES = ("marian", "m2m_100", "t5", "mt5")
OTHER_MODEL = "Give a Marian, M2M-100, NLLB or T5 model, or use n-best lists made elsewhere (chain=given_lists)."


def convert(
    model: Path, out: Path, *, compute_type: str, languages: tuple[str | None, str | None], prefix: str = ""
) -> int:
    """Write a converted folder.

    Args:
        model: The folder of a Hugging Face model, or of a converted model with the files of its tokenizer.
        out: The folder to write.
        compute_type: Number format, by CTranslate2's name.
        languages: Source and target, by the model's names or BCP-47 codes.
        prefix: Text before each source, such as `<2de> `.

    Returns:
        The number of parameters; 0 if the folder was already a converted model.

    Raises:
        UserError: The type is unknown, CTranslate2 does not support the model, or the model does not have a language.
    """
    if compute_type not in COMPUTE_TYPES:
        raise UserError(
            f"{compute_type!r} is not a number format of CTranslate2.", f"Use one of {', '.join(COMPUTE_TYPES)}."
        )
    if not (model / CONFIGURATION).is_file():
        raise UserError(
            f"{model} has no {CONFIGURATION}, so it is not the folder of a Hugging Face model.",
            f"Download one, by its name on the hub: `hf download NAME --local-dir {model}`.",
        )
    ready = (model / EXPORTED_WEIGHTS).is_file()
    if not ready:
        _check_model(model)
    tokenizer = load_tokenizer(model)
    direction = {"source": _named(tokenizer, languages[0], model, "source"),
                 "target": _named(tokenizer, languages[1], model, "target"), "prefix": prefix}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    parameters = 0
    if ready:
        shutil.copytree(model, out / EXPORTED, ignore=lambda *_: {DESCRIPTION})
    else:
        parameters = _convert(model, out / EXPORTED, compute_type)
    tokenizer.save_pretrained(str(out / TOKENIZER))
    source, target = ((language,) if language else () for language in languages)
    stated = Languages(source, target)
    content = {"format": FORMAT, "engine": CTRANSLATE2, "compute_type": compute_type, **stated.to_json(),
               "max_source_pieces": _longest(model, tokenizer), "direction": direction}  # fmt: skip
    write_description(out, content)
    return parameters


def is_hugging_face(folder: Path) -> bool:
    """Return whether a folder holds a Hugging Face model rather than a model folder of kd."""
    return (folder / CONFIGURATION).is_file() and not any((folder / own).is_file() for own in (DESCRIPTION, WEIGHTS))


def _check_model(model: Path) -> None:
    """Refuse a model whose settings would reach other code than that of the supported architectures.

    mBART starts its translations in another way: the first token of each would be lost.
    """
    settings = read_object(model / CONFIGURATION, COPY_AGAIN)
    kind = settings.get("model_type")
    if kind == "mbart":
        raise UserError(f"{model} is an mBART model, which kd does not decode correctly.", OTHER_MODEL)
    if kind not in ARCHITECTURES:
        raise UserError(f"CTranslate2 cannot convert {model}: its model_type is {ascii(kind)[:60]}.", OTHER_MODEL)
    if (model / ADAPTER).is_file():
        raise UserError(f"{model} is an adapter, which needs another model.", "Merge it into that model first.")


def _convert(model: Path, out: Path, compute_type: str) -> int:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        parameters = 0

        def load_model(self, *arguments: Any, **options: Any) -> Any:
            # A config.json may name another attention: code that the package kernels fetches from the hub and runs.
            fixed = {"attn_implementation": "eager", "local_files_only": True, "trust_remote_code": False}
            loaded = super().load_model(*arguments, **{**options, **fixed})
            self.parameters = int(loaded.num_parameters())
            return loaded

        def load_tokenizer(self, _: Any, path: str, **__: Any) -> Any:
            return load_tokenizer(Path(path))

    converter = Converter(str(model))
    try:
        converter.convert(str(out), quantization=compute_type, force=True)
    except UserError:
        raise
    except Exception as error:  # settings and weights of another's make transformers raise any kind of error
        raise UserError(f"CTranslate2 cannot convert {model}: {reason_of(error)}.", OTHER_MODEL) from error
    return converter.parameters


def _known(tokenizer: Any) -> dict[str, str]:
    """Return the language tokens of a tokenizer by language; empty for models without them."""
    if by_language := getattr(tokenizer, "lang_code_to_token", None):
        return dict(by_language)  # M2M-100: de is __de__
    if hasattr(tokenizer, "src_lang"):  # NLLB: the language is the token
        return {token: token for token in tokenizer.additional_special_tokens if "_" in token}
    return {}


def _named(tokenizer: Any, language: str | None, model: Path, side: str) -> str | None:
    """Return the model's name of a language; None for a model without language tokens."""
    known = _known(tokenizer)
    if not known:
        return None
    found = alike(language, known) if language else None
    if found is None:
        what = f"has no language {language}" if language else f"needs its {side} language"
        near = nearest(language, known) if language else []
        shown = ", ".join(near or sorted(known)[:20]) + (" …" if not near and len(known) > 20 else "")
        raise UserError(f"{model} {what}.", f"Set given_models.{side}_language to one of {shown}.")
    return found


def _longest(model: Path, tokenizer: Any) -> int | None:
    """Return the longest source in tokens, ends included; None if the model states no limit."""
    positions = read_object(model / CONFIGURATION, "Copy the whole folder.").get("max_position_embeddings")
    limits = [limit for limit in (positions, tokenizer.model_max_length) if isinstance(limit, int)]
    return min((limit for limit in limits if 0 < limit < 1_000_000), default=None)


def _first_tokens(tokenizer: Any, target: str | None, folder: Path) -> list[str]:
    """Return the tokens that every translation starts with: that of the target language, if the model has such."""
    if not target:
        return []
    known = _known(tokenizer)
    if target not in known:
        raise UserError(f"{folder / DESCRIPTION} is damaged: its tokenizer has no language {target}.", COPY_AGAIN)
    return [known[target]]


def require_one(folders: Sequence[Path]) -> Path:
    """Return the only folder. Raise UserError if there are several, since they cannot translate as an ensemble."""
    if len(folders) > 1:
        raise UserError(
            "Converted models cannot translate as an ensemble: CTranslate2 does not support ensembles.",
            "Name a single teacher.",
        )
    return folders[0]


class ConvertedTranslator:
    """A converted model, loaded once. `translate` has the interface of `EnsembleTranslator`.

    Args:
        folder: The converted folder.
        beam: Width of the search; 1 is greedy.
        nbest: Hypotheses of each source.
        max_pieces: Longest output, in tokens; None: 256.
        length_penalty: Exponent of the length by which scores are divided.
        batch_tokens: Source tokens per batch.
        threads: Number of batches translated at once, each by one thread.
        device: `cpu` or `cuda`.
        sampling_topk: Tokens to sample from at each step; None: beam search; 0: all.
        sampling_topp: Total probability of the tokens to sample from.
        temperature: Divisor of the logits in sampling.
        seed: Seed of sampling: it, the sources and the number of threads determine the samples of a call.
        max_source_pieces: Longest source, in tokens; None: only the model's own limit.
        skip_long: Whether longer sources are skipped, as one empty hypothesis with the score minus infinity, not cut.
        disable_unk: Whether no output may have an unknown symbol or bytes that are not UTF-8.

    Raises:
        UserError: The folder is damaged.
    """

    members = 1

    def __init__(
        self,
        folder: Path,
        *,
        beam: int = 4,
        nbest: int = 1,
        max_pieces: int | None = None,
        length_penalty: float = 1.0,
        batch_tokens: int = 2000,
        threads: int = 1,
        device: str = "cpu",
        sampling_topk: int | None = None,
        sampling_topp: float = 1.0,
        temperature: float = 1.0,
        seed: int | None = None,
        max_source_pieces: int | None = None,
        skip_long: bool = False,
        disable_unk: bool = True,
    ) -> None:
        description = read_description(folder)
        direction = description["direction"]
        self.counts = Counts()
        self.max_pieces = max_pieces or LONGEST_OUTPUT
        self._longest: int | None = description.get("max_source_pieces")
        limits = [limit for limit in (self._longest, max_source_pieces) if limit]
        self.max_source_pieces = min(limits, default=None)
        self._skip_long = skip_long
        self._tokenizer = load_tokenizer(folder / TOKENIZER)
        self._prefix = direction["prefix"]
        self._target = _first_tokens(self._tokenizer, direction["target"], folder)
        if direction["source"]:
            self._tokenizer.src_lang = direction["source"]
        if direction["target"]:
            self._tokenizer.tgt_lang = direction["target"]
        self._compute_type = computable(description["compute_type"], device)
        self._seed = seed
        self._load = partial(
            load,
            folder / EXPORTED,
            compute_type=self._compute_type,
            threads=threads,
            device=device,
            one_batch=seed is not None,
        )
        self._model = self._load()
        self._batch_tokens = batch_tokens
        self._batches = Batches(batch_tokens)
        self._disable_unk = disable_unk
        self._nbest = nbest
        search: dict[str, Any] = {"beam_size": beam}
        if sampling_topk is not None:
            search = {"beam_size": 1, "sampling_topk": sampling_topk, "sampling_topp": sampling_topp}
            search["sampling_temperature"] = temperature
        self._options = {
            **search,
            "num_hypotheses": nbest,
            "length_penalty": length_penalty,
            "max_decoding_length": self.max_pieces + len(self._target),
            "max_input_length": 0,
            "return_scores": True,
            "disable_unk": disable_unk,
        }

    def translate(
        self, sources: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> list[list[Hypothesis]]:
        """Return the n-best list of each source, in order, the best hypothesis first; empty for a blank source."""
        wanted = [number for number, source in enumerate(sources) if source.strip()]
        self.counts.blank += len(sources) - len(wanted)
        lists = [[Hypothesis("", [], 0.0, [0.0])] for _ in sources]
        if self._skip_long:
            for number in (long := [number for number in wanted if not self.fits(sources[number])]):
                lists[number] = [Hypothesis("", [], -math.inf, [-math.inf])]
            self.counts.skipped += len(long)
            wanted = sorted(set(wanted).difference(long))
        if self._seed is not None:
            self._restart(sources)
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            for number, found in zip(chunk, self._decode([sources[number] for number in chunk]), strict=True):
                lists[number] = found
            if progress:
                progress(len(sources) - len(wanted) + start + len(chunk), len(sources))
        return lists

    def _restart(self, sources: Sequence[str]) -> None:
        """Seed CTranslate2 for a call. Its threads keep their random numbers, so they are started again."""
        import ctranslate2

        digest = hashlib.sha256("\n".join([str(self._seed), *sources]).encode()).digest()
        ctranslate2.set_random_seed(int.from_bytes(digest[:4]))
        self._model = self._load()

    def _decode(self, sources: Sequence[str]) -> list[list[Hypothesis]]:
        tokens = [self._encode(source) for source in sources]
        results = self._batches.run(
            lambda size: self._model.translate_batch(
                tokens,
                target_prefix=[self._target] * len(tokens) if self._target else None,
                max_batch_size=size,
                batch_type="tokens",
                **self._options,
            ),
            max(map(len, tokens), default=0),
        )
        self.counts.halved = self._batches.halved
        lists = []
        for result in results:
            if not result.hypotheses or any(map(math.isnan, result.scores)):
                raise nan_scores([], self._compute_type, one=True)
            found = [self._hypothesis(*each) for each in zip(result.hypotheses, result.scores, strict=True)]
            found.sort(key=lambda each: -each.score)  # samples come in the order of their drawing
            lists.append(without_broken(found) if self._disable_unk else found)
            self.counts.limited += sum(len(each.pieces) >= self.max_pieces for each in lists[-1])
        return lists

    @cached_property
    def _scorer(self) -> PieceScorer:
        return PieceScorer(self._model, batch_tokens=self._batch_tokens)

    @property
    def compute_type(self) -> str:
        """The number format that the model computes in, by CTranslate2's name."""
        return self._compute_type

    def log_probabilities(
        self, sources: Sequence[str], targets: Sequence[str], max_pieces: int | None = None
    ) -> list[list[float]]:
        """Return the natural log-probabilities of the tokens of each given translation, and of its end.

        The language token before a translation is given, not chosen, and so is not among them.

        Args:
            sources: The sources, none of them blank. One that is too long is cut.
            targets: A translation of each. One that is too long is cut.
            max_pieces: Longest translation, in tokens; None: only the model's own limit.
        """
        # Like those of a source, a target's positions also hold its end and the language token.
        own = self._longest and max(0, self._longest - 1 - len(self._target))
        limit = min((each for each in (own, max_pieces) if each is not None), default=None)
        encoded = self._tokenizer(text_target=list(targets), add_special_tokens=False)["input_ids"]
        pieces = [[*self._target, *self._tokenizer.convert_ids_to_tokens(ids[:limit])] for ids in encoded]
        tokens = {source: self._encode(source) for source in dict.fromkeys(sources)}
        found = self._scorer.log_probabilities([tokens[source] for source in sources], pieces)
        return [each[len(self._target) :] for each in found]

    def _encode(self, source: str) -> list[str]:
        ids = self._tokenizer.encode(self._prefix + source)
        if self.max_source_pieces and len(ids) > self.max_source_pieces:
            self.counts.cut += 1
            ids = self._tokenizer.encode(self._prefix + source, truncation=True, max_length=self.max_source_pieces)
        return list(self._tokenizer.convert_ids_to_tokens(ids))

    def _hypothesis(self, pieces: list[str], score: float) -> Hypothesis:
        pieces = pieces[len(self._target) :]
        ids = self._tokenizer.convert_tokens_to_ids(pieces)
        return Hypothesis(self._tokenizer.decode(ids, skip_special_tokens=True), pieces, score, [score])

    def fits(self, text: str) -> bool:
        """Return whether a text is no longer than the model's longest source."""
        limit = self.max_source_pieces
        return not limit or len(text) < limit // 8 or len(self._tokenizer.encode(self._prefix + text)) <= limit

    def knows(self, character: str) -> bool:
        """Return whether the vocabulary has a character."""
        return bool(self._tokenizer.unk_token_id not in self._tokenizer.encode(character, add_special_tokens=False))

    def count_pieces(self, texts: Sequence[str]) -> int:
        """Return the number of tokens in the texts."""
        return sum(len(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts)
