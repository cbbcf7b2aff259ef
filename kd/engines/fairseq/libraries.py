"""Import the libraries that systems translate with, and do nothing else: the initial state of speed measurements.

`kd/engines/measuring.py` preloads this module once.
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
