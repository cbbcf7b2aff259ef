"""Export: a trained model in the form in which it is deployed, CTranslate2, once for each number format asked for.

Each is a folder of its own with everything in it that translating needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from kd.config import ExportConfig
from kd.corpora.index import read_json
from kd.engines.systems import CTRANSLATE2, Decoding, form, load, member_name
from kd.errors import IncompleteArtifact
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.plan import Stage, unknown


class Export(Kind[ExportConfig]):
    """Converts models."""

    name = "export"
    version = 1
    config = ExportConfig
    roles: ClassVar = {"models": Role(many=True)}
    resources = "cpu"

    def validate(self, config: ExportConfig) -> None:
        """CTranslate2 knows the formats."""
        from kd.engines.ctranslate2 import COMPUTE_TYPES

        for name in config.formats:
            if name not in COMPUTE_TYPES:
                raise unknown("format (named by export.formats)", name, COMPUTE_TYPES)

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One for each model and format."""
        models = stage.input_tasks("models")
        for format_, wanted in stage.config.formats.items():
            for item in models if wanted else []:
                several = sum(other.label == item.label for other in models) > 1
                name = member_name(item.label, item.task.name) if several else item.label
                yield Draft(f"{name}-{format_}", {"format": format_}, inputs={"models": [item]})

    def run(self, job: Job[ExportConfig]) -> None:
        """Converts one model to one format."""
        from kd.engines.ctranslate2 import Languages, export

        model = job.one("models")
        sides = [(str(job.axis_value[side]),) if job.axis else () for side in ("source", "target")]
        export(
            model.path,
            model.path,
            job.out,
            job.identity["format"],
            languages=Languages(*sides),
            fingerprint=model.fingerprint,
        )

    def check(self, job: Job[ExportConfig]) -> Summary:
        """Loads it and translates a word."""
        if form(job.out) != CTRANSLATE2:
            raise IncompleteArtifact(f"{job.out} holds no CTranslate2 model.")
        translate = load([job.out], Decoding(beam=1, max_pieces=8, batch_tokens=100), threads=1, device="cpu")
        if len(translate(["a"])) != 1:
            raise IncompleteArtifact(f"The model in {job.out} does not translate.")
        size = sum(path.stat().st_size for path in job.out.rglob("*") if path.is_file())
        return Summary({"bytes": size}, facts=read_json(job.out / "model.json"))
