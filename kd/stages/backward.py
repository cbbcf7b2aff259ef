"""The score `backward`: the log-probability of the source given a hypothesis, by a model of the opposite direction.

The cross-entropy filter of browsermt/students and mozilla/translations: a translation from which the source cannot be
predicted is probably wrong. Scores are normalised as in marian-scorer with `--normalize`: divided by the number of the
source's tokens, its end included.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import read_object
from kd.engines.converted import is_hugging_face
from kd.engines.scoring import Scorer, Scoring, load_scorer
from kd.metrics.comet_lists import ListToScore
from kd.models.description import ENDPOINT
from kd.models.folder import ModelFolder
from kd.models.integrity import COPY_AGAIN
from kd.models.languages import alike
from kd.pipeline.model import Stage
from kd.recipe.schema import BackwardModelConfig, GivenModelsConfig

KEY = "score.backward.model"
_NO_LANGUAGES = ("source", "target")  # of recipe=files, until the languages are named
_Named = tuple[tuple[str, ...], tuple[str, ...]]  # source and target languages of a model


class BackwardScorer:
    """Scores the hypotheses of lists by a backward model, which is loaded at the first score.

    Args:
        config: The model's settings.
        languages: Source and target of the language pair; the model translates from target to source.
        threads: CPU threads.
        device: `cpu` or `cuda`.
    """

    def __init__(self, config: BackwardModelConfig, languages: tuple[str, str], threads: int, device: str) -> None:
        self._config, self._languages, self._threads, self._device = config, languages, threads, device
        self._folder = model_folder(config, dict(zip(("source", "target"), languages, strict=True)))
        self._model: Scorer | None = None
        self.signature = f"backward|model:{self._folder.name}|normalised:tokens"

    def scores(self, lists: Sequence[ListToScore]) -> list[list[float]]:
        """Return the mean log-probability per token of each list's source given each hypothesis.

        It is minus infinity where either is blank.
        """
        if self._model is None:
            source, target = self._languages
            scoring = Scoring(
                (target, source),
                self._config.batch_tokens,
                self._threads,
                self._device,
                compute_type=self._config.compute_type,
                prefix=self._config.prefix,
                choose=True,
                blank=-math.inf,
            )
            self._model = load_scorer([self._folder], scoring)
        pairs = [(text, item.source) for item in lists for text in item.hypotheses]
        wanted: dict[str, dict[str, None]] = {}  # distinct sources of each hypothesis
        for text, source in pairs:
            if source.strip():
                wanted.setdefault(text, {})[source] = None
        scores = self._model.score(list(wanted), [list(sources) for sources in wanted.values()])
        known = {
            (text, source): score
            for (text, sources), row in zip(wanted.items(), scores, strict=True)
            for source, score in zip(sources, row, strict=True)
        }
        found = iter([known.get(pair, -math.inf) for pair in pairs])
        return [[next(found) for _ in item.hypotheses] for item in lists]


# --- when planned ----------------------------------------------------------------------------------------------------


def model_folder(config: BackwardModelConfig, languages: Mapping[str, Any]) -> Path:
    """Return the folder of the model, with the pair's language codes filled in."""
    text = str(config.model)
    for side in ("source", "target"):  # not str.format: a path may hold braces of its own
        text = text.replace(f"{{{side}}}", str(languages.get(side, side)))
    return Path(text).expanduser()


def identity(config: BackwardModelConfig) -> dict[str, Any]:
    """Return the settings that change the scores, besides the content of the model's files."""
    unset = BackwardModelConfig()
    values = {"compute_type": config.compute_type, "prefix": config.prefix}
    return {key: value for key, value in values.items() if value != getattr(unset, key)}


def model_files(folder: Path) -> list[Path]:
    """Return the files by whose content a model is identified."""
    if is_hugging_face(folder):
        return sorted(path for path in folder.iterdir() if path.is_file())
    return [path for member in ModelFolder.open(folder).all_members for path in member.files]


def check_model(stage: Stage, config: BackwardModelConfig) -> None:
    """Raise UserError if the model is missing, or translates in the direction of the language pair itself."""
    source, target = (str(stage.axis_value.get(side, side)) for side in _NO_LANGUAGES)
    folder = model_folder(config, stage.axis_value)
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder} ({KEY}).",
            f"Train a model from {target} to {source} first, or set {KEY} to the folder of an existing one.",
        )
    if not is_hugging_face(folder) and ModelFolder.open(folder).engine == ENDPOINT:
        raise UserError(f"{folder} ({KEY}) is behind a server, which does not score text.", f"Set {KEY} to a folder.")
    if _is_teacher(stage, folder):
        raise _wrong(folder, f"is a teacher, which translates from {source} to {target}", source, target)
    if (source, target) == _NO_LANGUAGES:
        return
    for side, wanted, known in zip(_NO_LANGUAGES, (target, source), _languages_of(folder), strict=True):
        if known and alike(wanted, known) is None:
            what = "translates from" if side == "source" else "translates into"
            raise _wrong(folder, f"{what} {', '.join(known[:8])}", source, target)


def _wrong(folder: Path, what: str, source: str, target: str) -> UserError:
    return UserError(
        f"{folder} ({KEY}) {what}, but the backward model must translate from {target} to {source}.",
        f"Set {KEY} to a model from {target} to {source}.",
    )


def _is_teacher(stage: Stage, folder: Path) -> bool:
    """Return whether the folder is that of a given teacher."""
    for other in stage.upstream():
        if isinstance(other.config, GivenModelsConfig):
            for member in other.config.members.values():
                named = Path(other.config.root or ".", str(member.model or member.folder))
                if named.resolve() == folder.resolve():
                    return True
    return False


def _languages_of(folder: Path) -> _Named:
    """Return the languages that a model's files state; empty for a side that they do not state."""
    if is_hugging_face(folder):
        return _stated(folder / "tokenizer_config.json", "source_lang", "target_lang")
    languages = ModelFolder.open(folder).languages
    if languages.target:
        return languages.source, languages.target
    axis = _read(folder / "manifest.json").get("axis")  # of a training in a run: `de-en`
    source, _, target = axis.partition("-") if isinstance(axis, str) else ("", "", "")
    if not target or (source, target) == _NO_LANGUAGES:
        return (), ()
    return (source,), (target,)


def _stated(path: Path, source: str, target: str) -> _Named:
    content = _read(path)
    one, other = content.get(source), content.get(target)
    return ((one,) if isinstance(one, str) else ()), ((other,) if isinstance(other, str) else ())


def _read(path: Path) -> dict[str, Any]:
    return read_object(path, COPY_AGAIN) if path.is_file() else {}


def flops(config: BackwardModelConfig, languages: Mapping[str, Any], pair_bytes: float | None) -> float | None:
    """Estimate the FLOPs of one pair: two per weight (4 bytes) and token (about 4 bytes of text) of its side."""
    folder = model_folder(config, languages)
    if pair_bytes is None or not folder.is_dir():
        return None
    weights = sum(path.stat().st_size for path in set(model_files(folder)))
    return 2 * weights / 4 * pair_bytes / 2 / 4
