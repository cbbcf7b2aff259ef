"""Measure a recipe's stages for a minute on a few thousand pairs, in a temporary folder.

Every kind runs as in the real run, with models of the same shapes, on text of the recipe's corpora, or on generated
text if they are not available. Weights are close to random, so a limit makes translations as long as the corpus'
targets.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.estimate import Estimate
from kd.base.files import write_json
from kd.base.records import plain, record
from kd.base.scratch import scratch_folder
from kd.launch.environment import environment
from kd.models.known import Text
from kd.planning.rates import Observation

_LOG = logging.getLogger(__name__)

FAILED = "could not be measured"  # in lines that the process of the probe prints
_ENVIRONMENT = "KD_PROBE"  # marks the process in a list of processes


@dataclass(frozen=True)
class Probe:
    """The measurements of a probe, with host and date."""

    recipe: str
    machine: str
    host: str
    date: str
    text: str  # the text that was used, in words
    kept: float | None  # share of pairs that cleaning kept
    lengths: Mapping[str, float]  # source_tokens, target_tokens, pair_bytes, steps: of `Text`
    observations: tuple[Observation, ...]

    @property
    def label(self) -> str:
        """The label of the probe as the source of an estimate."""
        return f"probe on {self.host}, {self.date}"

    def sample(self) -> Text:
        """Return the mean lengths as estimates."""
        source = f"{self.label}: {self.text}"
        return Text(**{name: Estimate(value, source) for name, value in self.lengths.items()})


def cache_folder() -> Path:
    """Return the folder of all probes of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd" / "probes"


def kept_probes(folder: Path) -> list[Probe]:
    """Return all probes of this user, the newest first; other files are ignored."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(record(Probe, json.loads(path.read_text("utf-8")), path.name))
        except (OSError, ValueError):  # of another version, or no probe
            continue
    return sorted(found, key=lambda probe: probe.date, reverse=True)


def probe(
    config: Mapping[str, Any],
    pairs: list[tuple[str, str]],
    text: str,
    *,
    threads: int,
    models: bool = True,
    seconds: float = 12.0,
) -> Probe:
    """Measure a recipe's stages on these pairs, and keep the result.

    Args:
        config: The resolved recipe.
        pairs: Source and target sentences.
        text: A description of the pairs.
        threads: CPU threads for each measurement.
        models: Whether to measure stages that need a model.
        seconds: Approximate duration of each training and decoding.

    Raises:
        UserError: The probe failed.
    """
    with scratch_folder("kd-probe-") as folder:
        for side, lines in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
            (folder / f"sample.{side}").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
        request = {"config": config, "models": models, "seconds": seconds, "threads": threads}
        write_json(folder / "request.json", request)
        began = _children()
        wall = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "kd.planning.probe_worker", str(folder), str(os.getpid())],
            env={**environment(threads), _ENVIRONMENT: str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if not (folder / "measured.json").is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").split("\n")[-1]
            raise UserError(f"The probe failed: {last}", "Plan without it, or from assumptions: docs/plan.md.")
        for line in done.stdout.split("\n"):
            if FAILED in line:
                _LOG.warning("%s", line)
        measured = json.loads((folder / "measured.json").read_text("utf-8"))
    spent = f"{time.perf_counter() - wall:.0f} s, {_children() - began:.0f} s of CPU"
    host, date = socket.gethostname(), f"{datetime.now():%Y-%m-%d %H:%M}"
    machine = str(config["machine"]["name"])
    observations = tuple(
        Observation(**{**each, "machine": machine, "source": f"probe on {host}, {date}", "probed": True})
        for each in measured["observations"]
    )
    recipe = str(config["recipe"])
    result = Probe(
        recipe, machine, host, date, f"{text} ({spent})", measured["kept"], measured["lengths"], observations
    )
    write_json(cache_folder() / f"{machine}-{host}-{recipe}.json".replace("/", "_"), plain(result))
    return result


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
