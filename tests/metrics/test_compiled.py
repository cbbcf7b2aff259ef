"""The compiled code where it cannot be kept: no folder to write machine code to, as in a container."""

from __future__ import annotations

import subprocess
import sys


def test_without_a_folder_to_keep_it_in_it_is_compiled_anew() -> None:
    code = """
from numba.core import caching
for implementation in (caching.CacheImpl, *caching.CacheImpl.__subclasses__()):
    implementation._locator_classes = []
import numba
try:
    numba.njit(cache=True)(lambda: None)
except RuntimeError:
    pass
else:
    raise SystemExit("numba found a folder all the same")
from kd.recipe.schema import SelectConfig
from kd.metrics.sentence import Candidates, sentence_metric
metric = sentence_metric(SelectConfig("bleu", "exp", "13a"))
print(metric.scores([Candidates(["test"], "a test")])[0][0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("36.78794")  # 100 / e: sacreBLEU, test/test_bleu.py (test_case_effective_order)
