"""COMET: a neural metric that reads source, translation and reference (Rei et al., 2020 and 2022), by unbabel-comet.

The package takes seconds to import and its models gigabytes: neither is touched before a segment has to be scored
that the cache does not know.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from kd.base.errors import UserError
from kd.metrics.corpus import check_aligned
from kd.metrics.score_cache import ScoreCache
from kd.metrics.significance import Duel, Resampling, Significance

MEAN, MAX, FIRST = "mean", "max", "first"
REFERENCES = (MEAN, MAX, FIRST)
"""What becomes of several references: the models read one, so a segment has a score with each."""

REFERENCE_FREE = "referenceless_regression_metric"
UNIFIED = ("unified_metric", "xcomet_metric")  # with a reference or, if they read the source, without
CLASSES = (REFERENCE_FREE, *UNIFIED, "regression_metric", "ranking_metric")

CHUNK = 20_000  # segments scored before they are cached: what an interrupted run keeps
DUEL_SPLITS, DUEL_SHARE, DUEL_TIE = 300, 0.4, 0.001  # the defaults of comet-compare


@dataclass(frozen=True)
class CometScores:
    """One model's opinion of every system."""

    metric: str  # COMET, or COMET-QE where no reference was read
    signature: str
    segments: dict[str, list[float]]  # by system


class Comet:
    """A COMET checkpoint; loaded when a segment is to be scored that is not cached."""

    def __init__(
        self,
        model: str,
        *,
        cache: ScoreCache | None = None,
        batch_size: int = 16,
        several_references: str = MEAN,
        device: str = "auto",
    ) -> None:
        """`model`: a folder with `checkpoints/model.ckpt` and `hparams.yaml`, a .ckpt file in one, or a name.

        `device`: cpu, cuda, or auto (a GPU where there is one). Raises UserError where there is no such model.
        """
        if several_references not in REFERENCES:
            raise UserError(
                f"There is no way {several_references!r} to use several references.",
                f"Choose one of: {', '.join(REFERENCES)}.",
            )
        if batch_size < 1:
            raise UserError(f"A batch of {batch_size} segments is none.", "Use 1 or more.")
        self.checkpoint, self.name = find_checkpoint(model)
        self._local = Path(model).expanduser().exists()
        self._settings = _hyperparameters(self.checkpoint)
        self._cache = cache
        self._batch_size = batch_size
        self._several_references = several_references
        self._device = device
        self._fingerprint = ""
        self._model: Any = None

    @property
    def needs_reference(self) -> bool:
        """Whether it can say nothing without a reference."""
        kind = self._settings["class_identifier"]
        return kind != REFERENCE_FREE and not (kind in UNIFIED and self._reads("src"))

    @property
    def uses_reference(self) -> bool:
        """Whether a reference makes a difference."""
        kind = self._settings["class_identifier"]
        return kind != REFERENCE_FREE and not (kind in UNIFIED and not self._reads("ref"))

    @property
    def cache_problem(self) -> str:
        """Why the cache is not used, if it cannot be."""
        return self._cache.problem if self._cache else ""

    def _reads(self, segment: str) -> bool:
        return segment in self._settings.get("input_segments", ["mt", "src", "ref"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the checkpoint and its hyperparameters, hexadecimal."""
        if not self._fingerprint:
            files = (self.checkpoint, hparams_file(self.checkpoint))
            self._fingerprint = hashlib.sha256("".join(map(self._file_hash, files)).encode()).hexdigest()
        return self._fingerprint

    def _file_hash(self, path: Path) -> str:
        known = self._cache.file_hash(path) if self._cache else None
        if known:
            return known
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if self._cache:
            self._cache.remember_file(path, found)
        return found

    def scores(
        self, systems: Mapping[str, Sequence[str]], sources: Sequence[str], references: Sequence[Sequence[str]]
    ) -> CometScores:
        """Score each system's output, one line a segment; a reference-free model ignores the references.

        White space around a line does not count, as in comet-score. Raises UserError for sides of unequal length or
        no reference where one is needed.
        """
        if self.needs_reference and not references:
            raise UserError(
                f"The COMET model {self.name} reads a reference.", "Give one, or use a reference-free model."
            )
        check_aligned(systems, [sources, *references], first="the source")
        used = list(references) if self.uses_reference else []
        if self._several_references == FIRST:
            used = used[:1]
        segments = {name: self._system(sources, lines, used) for name, lines in systems.items()}
        parts = [f"nrefs:{len(used)}"]
        if len(used) > 1:
            parts.append(f"refs:{self._several_references}")
        parts += [f"model:{self.name}", f"sha256:{self.fingerprint[:12]}", f"version:{version('unbabel-comet')}"]
        return CometScores("COMET" if used else "COMET-QE", "|".join(parts), segments)

    def _system(self, sources: Sequence[str], lines: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """One score a segment."""
        columns: list[list[float]] = []
        without: list[Sequence[str] | None] = [None]
        for reference in references or without:
            samples = [{"src": source.strip(), "mt": line.strip()} for source, line in zip(sources, lines, strict=True)]
            if reference is not None:
                for sample, text in zip(samples, reference, strict=True):
                    sample["ref"] = text.strip()
            columns.append(self._scored(samples))
        if self._several_references == MAX:
            return [max(scores) for scores in zip(*columns, strict=True)]
        return [sum(scores) / len(scores) for scores in zip(*columns, strict=True)]

    def _scored(self, samples: Sequence[dict[str, str]]) -> list[float]:
        keys = [self._key(sample) for sample in samples]
        known = self._cache.get(keys) if self._cache else {}
        missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in known}
        todo = list(missing)
        for begin in range(0, len(todo), CHUNK):
            some = todo[begin : begin + CHUNK]
            found = dict(zip(some, self._predict([missing[key] for key in some]), strict=True))
            known |= found
            if self._cache:
                self._cache.put(found)
        return [known[key] for key in keys]

    def _key(self, sample: Mapping[str, str]) -> bytes:
        digest = hashlib.sha256(f"{self.fingerprint} {version('unbabel-comet')}".encode())
        for name in ("src", "mt", "ref"):
            text = sample.get(name)
            # The length before each text: where one ends and the next begins is part of the key.
            digest.update(b"\0-" if text is None else b"\0%d\0" % len(text.encode()) + text.encode())
        return digest.digest()

    def _predict(self, samples: list[dict[str, str]]) -> list[float]:
        import torch

        if self._model is None:
            self._model = _load(self.checkpoint, self._local)
        gpus = int(self._device != "cpu" and torch.cuda.is_available())
        try:
            with _quiet():
                output = self._model.predict(
                    samples,
                    batch_size=self._batch_size,
                    gpus=gpus,
                    num_workers=2 * gpus,
                    progress_bar=sys.stderr.isatty(),
                )
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"The GPU has too little memory for batches of {self._batch_size} segments.", "Use smaller ones."
            ) from None
        return [float(score) for score in output.scores]


# --- significance ----------------------------------------------------------------------------------------------------


def compare(scores: CometScores, baseline: str | None, resampling: Resampling | None) -> list[Significance]:
    """The mean of each system; against the baseline a paired t-test and comet-compare's bootstrap, as it does them.

    Intervals are of bootstrap resampling over segments. `resampling` None: scores alone.
    """
    found = []
    seed = f"bs:{resampling.samples}|seed:{resampling.seed}|" if resampling else ""
    signature = scores.signature.replace("|model:", f"|{seed}model:", 1)
    for system, segments in scores.segments.items():
        value = math.fsum(segments) / len(segments)
        mean, interval = _interval(segments, resampling) if resampling else (None, None)
        p_value, duel = None, None
        if resampling and baseline is not None and system != baseline:
            p_value = t_test(segments, scores.segments[baseline])
            duel = bootstrap_duel(segments, scores.segments[baseline], resampling.seed)
        found.append(Significance(system, scores.metric, value, mean, interval, p_value, signature, duel))
    return found


def t_test(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The two-sided p-value of a paired t-test over segments; None where two segments are not at hand."""
    from scipy.stats import ttest_rel

    if list(one) == list(other):
        return 1.0
    p_value = float(ttest_rel(one, other).pvalue)
    return None if math.isnan(p_value) else p_value


def bootstrap_duel(one: Sequence[float], other: Sequence[float], seed: int) -> Duel:
    """comet-compare's bootstrap: 300 test sets of 40 % of the segments, with replacement; 0.001 apart is a tie."""
    import numpy as np

    size = max(int(len(one) * DUEL_SHARE), 1)
    drawn = np.random.RandomState(seed).choice(len(one), size=(size, DUEL_SPLITS), replace=True)
    delta = np.asarray(one)[drawn].mean(axis=0) - np.asarray(other)[drawn].mean(axis=0)
    wins, losses = float((delta >= DUEL_TIE).mean()), float((delta <= -DUEL_TIE).mean())
    return Duel(wins, losses, float((np.abs(delta) < DUEL_TIE).mean()))


def _interval(segments: Sequence[float], resampling: Resampling) -> tuple[float, tuple[float, float]]:
    import numpy as np
    from sacrebleu.significance import estimate_ci

    values, random = np.asarray(segments), np.random.default_rng(resampling.seed)
    means = [values[random.integers(len(values), size=len(values))].mean() for _ in range(resampling.samples)]
    mean, half = map(float, estimate_ci(np.array(means)))
    return mean, (mean - half, mean + half)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def find_checkpoint(model: str) -> tuple[Path, str]:
    """The checkpoint file of a model and what to call it: a folder, a file, or a name, fetched if it is not here.

    Raises UserError where there is none.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path, path.absolute().parent.parent.name
    if path.is_dir():
        # First the name that the hub's models have; those of the first generation carry the epoch in theirs.
        found = [path / "checkpoints" / "model.ckpt", *sorted(path.glob("checkpoints/*.ckpt")), *path.glob("*.ckpt")]
        checkpoint = next(filter(Path.is_file, found), None)
        if checkpoint is None:
            raise UserError(f"{path} holds no COMET checkpoint.", "There should be checkpoints/model.ckpt in it.")
        return checkpoint, path.absolute().name
    if model.startswith((".", "/", "~")) or model.endswith(".ckpt"):
        raise UserError(f"There is no COMET model at {model}.", "Give its folder, its .ckpt file, or a model's name.")
    return _by_name(model)


def _by_name(model: str) -> tuple[Path, str]:
    first_generation = Path.home() / ".cache" / "torch" / "unbabel_comet" / model  # where unbabel-comet keeps them
    if "/" not in model and first_generation.is_dir():
        return find_checkpoint(os.fspath(first_generation))
    names = [model] if "/" in model else [model, f"Unbabel/{model}"]
    from huggingface_hub import snapshot_download

    for name in names[-1:]:
        try:  # what is here needs no network
            checkpoint = Path(snapshot_download(name, local_files_only=True)) / "checkpoints" / "model.ckpt"
        except Exception:
            continue
        if checkpoint.is_file():
            return checkpoint, name
    return _download(model, names)


def _download(model: str, names: Sequence[str]) -> tuple[Path, str]:
    with _quiet():
        from comet.models import download_model
        from comet.models.download_utils import available_legacy_metrics

    name = model if model in available_legacy_metrics else names[-1]
    try:
        return Path(download_model(name)), name
    except Exception as error:  # unbabel-comet turns every reason into a KeyError
        raise UserError(
            f"The COMET model {name} is not here and could not be fetched: no network, no such name, or a licence to "
            "accept on its page first.",
            f"Where there is a network, `hf download {name} --local-dir FOLDER` fetches it; copy that folder here and "
            "give its path instead of the name.",
        ) from error


def hparams_file(checkpoint: Path) -> Path:
    """Where unbabel-comet looks for a checkpoint's hyperparameters."""
    return checkpoint.parent.parent / "hparams.yaml"


def _hyperparameters(checkpoint: Path) -> dict[str, Any]:
    path = hparams_file(checkpoint)
    if not path.is_file():
        raise UserError(
            f"The COMET checkpoint {checkpoint} has no hparams.yaml in the folder above its own.",
            "A model is a folder with hparams.yaml and checkpoints/model.ckpt in it, as it was downloaded.",
        )
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        settings = None
    if not isinstance(settings, dict) or settings.get("class_identifier") not in CLASSES:
        raise UserError(
            f"{path} is not of a model that unbabel-comet {version('unbabel-comet')} knows.",
            f"Its class_identifier should be one of: {', '.join(CLASSES)}.",
        )
    return settings


def _load(checkpoint: Path, local: bool) -> Any:
    """Load a checkpoint; of a local one nothing is asked of the network, its encoder's tokeniser included."""
    with _offline(local), _quiet():
        from comet.models import load_from_checkpoint

        try:
            model = load_from_checkpoint(os.fspath(checkpoint), local_files_only=local)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"The COMET checkpoint {checkpoint} is damaged, or holds more than weights: {_one_line(error)[:200]}",
                "Fetch it again; if you trust who made it, set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment.",
            ) from None
        except Exception as error:  # without the tokeniser of its encoder an AttributeError, among others
            encoder = _hyperparameters(checkpoint).get("pretrained_model")
            raise UserError(
                f"The COMET model at {checkpoint} cannot be loaded ({type(error).__name__}: {_one_line(error)[:200]}).",
                f"If it is whole, the tokeniser of {encoder} is missing: where there is a network, `hf download "
                f"{encoder} --include '*.json' '*.model'` puts it into the Hugging Face cache ($HF_HOME); copy that.",
            ) from error
    model.eval()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning announces hardware and advertises, and what COMET imports is deprecated here and there."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Hugging Face's packages look for newer files unless told not to, and wait long where no network is."""
    if not wanted:
        yield
        return
    variable = os.environ.get("HF_HUB_OFFLINE")
    loaded = sys.modules.get("huggingface_hub.constants")
    constant = bool(getattr(loaded, "HF_HUB_OFFLINE", variable))
    os.environ["HF_HUB_OFFLINE"] = "1"
    if loaded is not None:  # the variable was read when it was imported
        loaded.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        os.environ.pop("HF_HUB_OFFLINE")
        if variable is not None:
            os.environ["HF_HUB_OFFLINE"] = variable
        loaded = sys.modules.get("huggingface_hub.constants")
        if loaded is not None:
            loaded.HF_HUB_OFFLINE = constant  # type: ignore[attr-defined]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
