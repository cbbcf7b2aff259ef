"""COMET: a neural metric that reads source, translation and reference (Rei et al., 2020 and 2022), by unbabel-comet.

The package takes seconds to import and its models are gigabytes, so neither is loaded until a segment that is not in
the cache has to be scored.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.base.errors import UserError
from kd.metrics.comet_models import (
    REFERENCE_FREE,
    REGRESSION,
    UNIFIED,
    find_checkpoint,
    hparams_file,
    hyperparameters,
    load,
    quiet,
)
from kd.metrics.corpus import check_aligned, present
from kd.metrics.score_cache import ScoreCache
from kd.metrics.significance import Duel, Resampling, Significance

if TYPE_CHECKING:
    from torch import Tensor

MEAN, MAX, FIRST = "mean", "max", "first"
REFERENCES = (MEAN, MAX, FIRST)
"""Methods of combining the scores for several references; the models read one reference at a time."""

CHUNK = 20_000  # segments scored before they are cached: the work that an interruption can lose
DUEL_SPLITS, DUEL_SHARE, DUEL_TIE = 300, 0.4, 0.001  # the defaults of comet-compare

Segment = dict[str, str]  # `src`, `mt` and, unless the model is used without a reference, `ref`


@dataclass(frozen=True)
class CometScores:
    """The scores of every system by one model."""

    metric: str  # COMET, or COMET-QE where no reference was read
    signature: str
    segments: dict[str, list[float]]  # by system


class Comet:
    """A COMET model, loaded when a segment that is not cached has to be scored."""

    def __init__(
        self,
        model: str,
        *,
        cache: ScoreCache | None = None,
        batch_size: int = 16,
        several_references: str = MEAN,
        device: str = "auto",
    ) -> None:
        """Find the model and read its settings.

        Args:
            model: A folder with `checkpoints/model.ckpt` and `hparams.yaml`, a .ckpt file in one, or a name.
            cache: Scores of earlier calls; None: each call computes all of its scores.
            batch_size: Segments per batch.
            several_references: How the scores with each of several references are combined.
            device: cpu, cuda, or auto: a GPU if there is one.

        Raises:
            UserError: There is no such model, or a value is out of range.
        """
        if several_references not in REFERENCES:
            raise UserError(
                f"There is no method {several_references!r} of combining several references.",
                f"Choose one of: {', '.join(REFERENCES)}.",
            )
        if batch_size < 1:
            raise UserError(f"The batch size must be at least 1 segment, got {batch_size}.", "Use 1 or more.")
        self.checkpoint, self.name = find_checkpoint(model)
        self._local = Path(model).expanduser().exists()
        self._settings = hyperparameters(self.checkpoint)
        self._cache = cache
        self._batch_size = batch_size
        self._several_references = several_references
        self._device = device
        self._fingerprint = ""
        self._model: Any = None

    @property
    def needs_reference(self) -> bool:
        """Whether the model cannot score without a reference."""
        kind = self._settings["class_identifier"]
        return kind != REFERENCE_FREE and not (kind in UNIFIED and self._reads("src"))

    @property
    def uses_reference(self) -> bool:
        """Whether a reference changes the score."""
        kind = self._settings["class_identifier"]
        return kind != REFERENCE_FREE and not (kind in UNIFIED and not self._reads("ref"))

    @property
    def cache_problem(self) -> str:
        """The reason why the cache is not used; empty if it works."""
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

    def signature(self, references: int) -> str:
        """Return the parts of a signature, in sacreBLEU's notation, for scores with this number of references."""
        parts = [f"nrefs:{references}"]
        if references > 1:
            parts.append(f"refs:{self._several_references}")
        parts += [f"model:{self.name}", f"sha256:{self.fingerprint[:12]}", f"version:{version('unbabel-comet')}"]
        return "|".join(parts)

    def scores(
        self, systems: Mapping[str, Sequence[str]], sources: Sequence[str], references: Sequence[Sequence[str]]
    ) -> CometScores:
        """Score the output of each system, one line per segment. A reference-free model ignores the references.

        White space around a line is ignored, as in comet-score.

        Raises:
            UserError: The sides differ in length, or the model needs a reference and there is none.
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
        return CometScores("COMET" if used else "COMET-QE", self.signature(len(used)), segments)

    def _system(self, sources: Sequence[str], lines: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """Return one score per segment; a blank reference beside others does not count."""
        by_segment: list[list[float]] = [[] for _ in sources]
        used = [present(texts) for texts in zip(*references, strict=True)] or [()] * len(sources)
        for place in range(max(1, *map(len, used))):
            here = [i for i, texts in enumerate(used) if place < max(1, len(texts))]
            rows = [segment(sources[i], lines[i], *used[i][place : place + 1]) for i in here]
            for i, score in zip(here, self.segments(rows), strict=True):
                by_segment[i].append(score)
        if self._several_references == MAX:
            return [max(scores) for scores in by_segment]
        return [sum(scores) / len(scores) for scores in by_segment]

    def segments(self, segments: Sequence[Segment]) -> list[float]:
        """Score segments; equal segments are computed once, cached segments not at all."""
        keys = [self._key(each) for each in segments]
        known = self._cache.get(keys) if self._cache else {}
        missing = {key: each for key, each in zip(keys, segments, strict=True) if key not in known}
        todo = list(missing)
        for begin in range(0, len(todo), CHUNK):
            some = todo[begin : begin + CHUNK]
            found = dict(zip(some, self._predict([missing[key] for key in some]), strict=True))
            known |= found
            if self._cache:
                self._cache.put(found)
        return [known[key] for key in keys]

    def _key(self, segment: Segment) -> bytes:
        digest = hashlib.sha256(f"{self.fingerprint} {version('unbabel-comet')}".encode())
        for name in ("src", "mt", "ref"):
            text = segment.get(name)
            # With the length before each text, other boundaries between texts give another key.
            digest.update(b"\0-" if text is None else b"\0%d\0" % len(text.encode()) + text.encode())
        return digest.digest()

    def _loaded(self) -> Any:
        if self._model is None:
            self._model = load(self.checkpoint, self._local)
        return self._model

    @property
    def _uses_gpu(self) -> bool:
        import torch

        return self._device != "cpu" and torch.cuda.is_available()

    def _predict(self, segments: list[Segment]) -> list[float]:
        model, gpus = self._loaded(), int(self._uses_gpu)
        with self._memory_checked(), quiet():
            output = model.predict(
                segments,
                batch_size=self._batch_size,
                gpus=gpus,
                num_workers=2 * gpus,
                progress_bar=sys.stderr.isatty(),
            )
        return [float(score) for score in output.scores]

    @contextmanager
    def _memory_checked(self) -> Iterator[None]:
        import torch

        try:
            yield
        except torch.cuda.OutOfMemoryError:
            raise UserError(
                f"The GPU has too little memory for batches of {self._batch_size} segments.", "Use smaller ones."
            ) from None

    def consensus(self, sources: Sequence[str], lists: Sequence[Sequence[str]]) -> list[list[float]]:
        """Score each hypothesis by its mean score with every other hypothesis of its list as the reference.

        A model that encodes source, translation and reference separately (`regression_metric`) encodes each text once,
        as comet-mbr does; other models score all pairs.

        Args:
            sources: One per list.
            lists: The hypotheses of each source, two or more.
        """
        if self._settings["class_identifier"] == REGRESSION:
            return self._consensus_of_embeddings(sources, lists)
        pairs = [
            segment(source, hypothesis, reference)
            for source, hypotheses in zip(sources, lists, strict=True)
            for rank, hypothesis in enumerate(hypotheses)
            for other, reference in enumerate(hypotheses)
            if other != rank
        ]
        scores = iter(self.segments(pairs))
        means = []
        for hypotheses in lists:
            others = len(hypotheses) - 1
            means.append([sum(next(scores) for _ in range(others)) / others for _ in hypotheses])
        return means

    def _consensus_of_embeddings(self, sources: Sequence[str], lists: Sequence[Sequence[str]]) -> list[list[float]]:
        import torch

        with torch.inference_mode(), self._memory_checked(), quiet():
            texts = dict.fromkeys(text.strip() for texts in (sources, *lists) for text in texts)
            embeddings = self._embeddings(list(texts))
            means = []
            for source, hypotheses in zip(sources, lists, strict=True):
                rows = torch.stack([embeddings[text.strip()] for text in hypotheses])
                means.append(self._mean_utilities(embeddings[source.strip()], rows))
        return means

    def _embeddings(self, texts: list[str]) -> dict[str, Tensor]:
        """Return the sentence embedding of each text, [width]."""
        model = self._loaded()
        model.to("cuda" if self._uses_gpu else "cpu")
        ordered = sorted(texts, key=len, reverse=True)  # batches of similar lengths
        found: dict[str, Tensor] = {}
        for begin in range(0, len(ordered), self._batch_size):
            batch = ordered[begin : begin + self._batch_size]
            inputs = model.encoder.prepare_sample(batch)
            embeddings = model.get_sentence_embedding(
                inputs["input_ids"].to(model.device), inputs["attention_mask"].to(model.device)
            )
            found.update(zip(batch, embeddings, strict=True))
        return found

    def _mean_utilities(self, source: Tensor, hypotheses: Tensor) -> list[float]:
        """Return the mean score of each hypothesis against the others.

        Args:
            source: Embedding, [width].
            hypotheses: Embeddings, [hypotheses, width].
        """
        count = len(hypotheses)
        translations = hypotheses.repeat_interleave(count, dim=0)
        references = hypotheses.repeat(count, 1)
        scores = self._model.estimate(source.expand_as(translations), translations, references)["score"]
        matrix = scores.float().view(count, count)
        means = (matrix.sum(1) - matrix.diagonal()) / (count - 1)
        return [float(mean) for mean in means]


def segment(source: str, translation: str, reference: str | None = None) -> Segment:
    """Return texts in the form that unbabel-comet reads."""
    found = {"src": source.strip(), "mt": translation.strip()}
    return found if reference is None else {**found, "ref": reference.strip()}


# --- significance ----------------------------------------------------------------------------------------------------


def compare(scores: CometScores, baseline: str | None, resampling: Resampling | None) -> list[Significance]:
    """Return the mean of each system, and its comparison with the baseline by comet-compare's two tests.

    Args:
        scores: Scores of all systems.
        baseline: The system to compare with by a paired t-test and comet-compare's bootstrap; None: no comparison.
        resampling: Resampling of the segments, for intervals; None: means only.
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
    """Return the two-sided p-value of a paired t-test over segments; None for fewer than two segments."""
    from scipy.stats import ttest_rel

    if list(one) == list(other):
        return 1.0
    p_value = float(ttest_rel(one, other).pvalue)
    return None if math.isnan(p_value) else p_value


def bootstrap_duel(one: Sequence[float], other: Sequence[float], seed: int) -> Duel:
    """Resample as comet-compare does: 300 test sets of 40 % of the segments, with replacement; up to 0.001 is a tie."""
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
