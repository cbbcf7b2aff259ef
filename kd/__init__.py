"""kd: from a parallel corpus to a small, fast translation model, by sequence-level knowledge distillation.

from kd import Translator
for line in Translator("runs/demo/release.en-de/student-int8").translate(["The light is on."]): print(line)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd.engines.translator import Translator

__all__ = ["Translator", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # What is heavy is imported when it is asked for: `kd --help` is to start at once.
    if name == "Translator":
        from kd.engines.translator import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
