"""Imports what systems translate with, and does nothing: the state that processes which measure speed begin from.

Named by `kd/engines/measuring.py`, which has it loaded once.
"""

from __future__ import annotations

import ctranslate2  # noqa: F401
import sentencepiece  # noqa: F401
import torch  # noqa: F401

from kd.engines.fairseq import compat

compat.install()

from fairseq import checkpoint_utils  # noqa: E402, F401
from fairseq.tasks import translation  # noqa: E402, F401

from kd.engines.fairseq import search, stacked, stock, translate  # noqa: E402, F401
