"""The sections of an application for computing time besides the figures: scaling, data, personal data, licences.

Facts that only the applicants know are questions in brackets, so that no application is sent with invented text.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.planning.forecast import Forecast
from kd.report.table import Table

SOFTWARE = (  # name, licence, as in the projects' own metadata
    ("kd", "Apache-2.0"),
    ("PyTorch", "BSD-3-Clause"),
    ("fairseq 0.12.2", "MIT"),
    ("CTranslate2", "MIT"),
    ("sentencepiece", "Apache-2.0"),
    ("sacreBLEU", "Apache-2.0"),
    ("COMET", "Apache-2.0; its models have licences of their own"),
)


def read_scaling(run: str) -> Mapping[str, Any]:
    """Return the results of `kd scaling` for a run's folder; empty if there are none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(Path(f"{run}.scaling", "scaling.json").read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def read_licences(config: DictConfig) -> dict[str, str]:
    """Return the licence of each corpus of a recipe."""
    stated = {str(name): str(source.licence) for name, source in config.corpus.sources.items()}
    return {name: "[not stated: which?]" if licence == "unknown" else licence for name, licence in stated.items()}


def sections(forecast: Forecast) -> list[str]:
    """Return the lines of all sections."""
    return [*_scaling(forecast), *_data(forecast), *_personal_data(), *_software(forecast)]


def _scaling(forecast: Forecast) -> list[str]:
    lines = ["", "## Scalability", ""]
    found = forecast.scaling
    if not found:
        command = f"kd scaling recipe={forecast.recipe} launcher=slurm machine={forecast.machine.name} nodes=1,2,4"
        return [*lines, f"[Not measured yet. Run `{command}` on the machine; this page then has its table.]"]
    header = (found["unit"], "target tokens/s", "speed-up", "efficiency")
    rows = [
        (
            str(point["number"]),
            f"{point['tokens_per_second']:,.0f}",
            f"{point['speedup']:.2f}",
            f"{point['efficiency']:.0%}",
        )
        for point in found["points"]
    ]
    kind = "weak scaling: equal tokens per device" if found["weak"] else "strong scaling: equal tokens per update"
    about = f"Measured by `kd scaling`: {found['updates']} updates of {found['stage']} per point, {kind}."
    return [*lines, Table.of_rows(header, rows).markdown().strip(), "", about]


def _data(forecast: Forecast) -> list[str]:
    held = "Each artifact is stored once, under a hash of its settings and inputs, with a manifest of checksums."
    return [
        *("", "## Data management", ""),
        "- Input: the corpora below. Results: translation models, n-best lists, scores.",
        f"- {held} `kd verify` compares them, `kd clean` lists artifacts that no run refers to.",
        "- Transfer: `rsync` of the raw corpora in and of the exported models out (data in, data out above).",
        "- After the project: [who keeps the models, where, for how long? Which data are deleted when?]",
        "- Publication: `kd release` writes a model card with corpora, licences, scores and signatures.",
        "",
        Table.of_rows(("corpus", "licence"), list(forecast.licences.items())).markdown().strip(),
    ]


def _personal_data() -> list[str]:
    return [
        *("", "## Ethics and personal data", ""),
        "- The work translates published text; it collects no data about people and has no human subjects.",
        "- Published text may name people. [Do the corpora contain personal data beyond that, and on what legal basis "
        "are they processed?]",
        "- Models can reproduce biases of their training text. [What are the models used for, and by whom?]",
        "- [Is the use civilian only?]",
    ]


def _software(forecast: Forecast) -> list[str]:
    rows = list(SOFTWARE)
    architecture = "aarch64 (Arm)" if forecast.machine.name == "jupiter" else "x86_64"
    about = f"All of it is open source; no licence server is needed. Processors of the machine: {architecture}."
    return [
        "",
        "## Licences of the software",
        "",
        Table.of_rows(("software", "licence"), rows).markdown().strip(),
        "",
        about,
    ]
