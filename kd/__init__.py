"""Small, fast machine translation models by knowledge distillation.

Example:
    import kd

    translator = kd.Translator("runs/demo/release.en-de/student-int8")
    print(*translator.translate(["The light is on."]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd.base.errors import UserError
    from kd.engines.translator import Translation, Translator
    from kd.metrics.public import Score, Selection, evaluate, select

__version__ = "0.2.0"

# The public names and the modules that define them. They are imported on first use, so that `import kd` is fast.
_PUBLIC = {
    "Score": "kd.metrics.public",
    "Selection": "kd.metrics.public",
    "Translation": "kd.engines.translator",
    "Translator": "kd.engines.translator",
    "UserError": "kd.base.errors",
    "evaluate": "kd.metrics.public",
    "select": "kd.metrics.public",
}
__all__ = ["Score", "Selection", "Translation", "Translator", "UserError", "__version__", "evaluate", "select"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
