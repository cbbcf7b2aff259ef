"""Export: convert trained models to CTranslate2, once per number format, and to packages for other software.

Each export is a folder with everything needed for translation. Before it is published, its translations of some dev
sentences are compared with fairseq's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.estimate import Estimate
from kd.base.records import plain
from kd.base.scratch import scratch_folder
from kd.base.text import unknown_name
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.engines.loading import Decoding, check_translates, load
from kd.engines.packages import packages
from kd.metrics.corpus import corpus_scores
from kd.models.description import (
    ARGOS,
    CTRANSLATE2,
    MARIAN,
    ONNX,
    TRANSFORMERS,
    Original,
    known_languages,
    read_languages,
)
from kd.models.files import DESCRIPTION, WEIGHTS
from kd.models.folder import ModelFolder
from kd.models.known import Known
from kd.models.systems import labelled
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import ExportConfig

AVERAGED, LAST = "averaged", "last"
FEWEST = 20  # compared sentences from which the agreement is a condition
EXACT = ("float32", "huggingface", "marian", "onnx")  # formats that keep all digits

GREEDY = ("marian",)  # compared without a beam: Marian narrows its beam by each hypothesis that ends, fairseq does not

# Formats beside CTranslate2's, with their engines.
PACKAGES = {"huggingface": TRANSFORMERS, "argos": ARGOS, "marian": MARIAN, "onnx": ONNX, "onnx_int8": ONNX}
# Raised if the same model gives another package. The kind's version would make every other format anew as well.
REVISIONS = {"huggingface": 2, "onnx": 2}  # 2: the search of fairseq in generation_config.json
# The libraries that make a format and translate with it, and how to install them.
_ONNX = (
    ("transformers", "optimum", "onnx", "onnxruntime"),
    "pip install 'optimum-onnx>=0.1,<0.2' 'onnx<1.20' onnxruntime",  # onnx 1.23.2 needs a newer protobuf than COMET
)
NEEDED = {
    "huggingface": (("transformers",), "pip install 'kd[comet]'"),
    "marian": (("pymarian",), "pip install 'pymarian>=1.12.42,<1.13'"),
    "onnx": _ONNX,
    "onnx_int8": _ONNX,
}
WEIGHT_BYTES = {
    "float32": 4,
    "huggingface": 4,
    "marian": 4,
    "onnx": 5,  # encoder and decoder have the embedding each
    "onnx_int8": 1.4,
    "argos": 1.1,
    "int8_float32": 1.1,
    "int8": 1.1,
}  # of an export, by format; of any other: 2


class Export(Kind[ExportConfig]):
    """Convert models."""

    name = "export"
    version = 4  # 3: hashes of the files in model.json; 4: more positions, normalisation in the sentencepiece model
    config = ExportConfig
    imports = ("torch", "fairseq", "ctranslate2")
    delivers = True
    roles: ClassVar = {"models": Role(many=True), "held_out": Role(optional=True)}
    resources = "cpu"

    def validate(self, config: ExportConfig) -> None:
        """Check the names of the formats and of the checkpoint, and that the packages' libraries are installed."""
        from kd.engines.ctranslate2 import COMPUTE_TYPES

        for name in config.formats:
            if name not in (*COMPUTE_TYPES, *PACKAGES):
                raise unknown_name("format (named by export.formats)", name, (*COMPUTE_TYPES, *PACKAGES))
        for name, (needed, install) in NEEDED.items():
            for package in needed if config.formats.get(name) else ():
                if find_spec(package):
                    continue
                raise UserError(
                    f"export.formats.{name} needs the package {package}, which is not installed.",
                    f"Type: {install}, or set export.formats.{name}=false.",
                )
        if config.checkpoint not in (AVERAGED, LAST) and not config.checkpoint.isdecimal():
            raise UserError(
                f"export.checkpoint is {config.checkpoint!r}, which names no checkpoint.",
                "Use averaged, last, or the number of updates of a kept checkpoint.",
            )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task per model and format."""
        config: ExportConfig = stage.config
        models, held_out = stage.input_tasks("models"), stage.input_tasks("held_out")
        compared = {"compare": config.compare, "beam": config.beam, "max_pieces": config.max_pieces,
                    "least_agreement": config.least_agreement} if held_out and config.compare else {}  # fmt: skip
        chosen = {} if config.checkpoint == AVERAGED else {"checkpoint": config.checkpoint}
        for format_, wanted in config.formats.items():
            for item in models if wanted else []:
                checkpoint = chosen.get("checkpoint")
                engine = PACKAGES.get(format_, CTRANSLATE2)
                system = replace(labelled(item), format=format_, engine=engine, checkpoint=checkpoint)
                inputs = {"models": [item], **({"held_out": held_out} if compared else {})}
                normalise = {} if config.normalise else {"normalise": False}
                revision = {"revision": REVISIONS[format_]} if format_ in REVISIONS else {}
                identity = {"format": format_, **chosen, **normalise, **compared, **revision}
                if compared:
                    identity["beam"] = _beam(config, format_)
                yield TaskSpec(system.name, identity, inputs=inputs, subject=plain(system))

    def run(self, job: Job[ExportConfig]) -> None:
        """Convert one model to one format, and compare its translations."""
        model = job.one("models")
        with scratch_folder("kd-export-") as temporary:
            folder, checkpoint = _weights(model, job.identity.get("checkpoint"), temporary)
            languages = known_languages(folder, job.axis_value)
            _convert(job, folder, Original(languages, model.fingerprint, _run(model, checkpoint)))
            if job.inputs.get("held_out"):
                path = job.out / DESCRIPTION
                write_json(path, {**read_json(path), "agreement": _agreement(job, folder, _dev(job, folder))})

    def check(self, job: Job[ExportConfig]) -> Summary:
        """Load the export and translate a word; check that an unquantised format translates like fairseq."""
        if job.identity["format"] in PACKAGES:
            decoding = Decoding(1, 8, 100, next(iter(read_languages(job.out).target), None))
            _translated(job, job.out, ["a"], decoding)
        else:
            if ModelFolder.open(job.out).engine != CTRANSLATE2:
                raise IncompleteArtifact(f"{job.out} holds no CTranslate2 model.")
            check_translates(job.out)
        facts = read_json(job.out / DESCRIPTION)
        counts: dict[str, int | float] = {
            "bytes": sum(path.stat().st_size for path in job.out.rglob("*") if path.is_file())
        }
        if agreement := facts.get("agreement"):
            _check_agreement(job, agreement)
            counts |= {"compared": agreement["sentences"], "identical": agreement["identical"]}
            facts["note"] = _in_words(agreement)
        return Summary(counts, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work and the bytes of each export by the weights of its models."""
        tasks = {}
        for task in stage.tasks:
            models = known.models(item.task for item in task.inputs["models"])
            weights = sum(map(known.parameters, models))
            work = Work(self.name, "models", Estimate(1, "config"), float(weights) or None)
            size = weights * WEIGHT_BYTES.get(str(task.identity.get("format")), 2)
            kept = Estimate(float(size) or None, "weights x bytes of the format")
            tasks[task.name] = TaskWork((work,), kept=kept, models=tuple(models))
        return StageForecast(tasks)


def _convert(job: Job[ExportConfig], folder: Path, original: Original) -> None:
    """Convert to the format of a task."""
    from kd.engines import ctranslate2

    format_ = job.identity["format"]
    if package := packages().get(format_):
        package.export(folder, job.out, original, beam=job.config.beam)
    else:
        ctranslate2.export(folder, job.out, format_, original, normalise=job.config.normalise)


def _weights(model: Artifact, checkpoint: str | None, temporary: Path) -> tuple[Path, str]:
    """Return a model folder with the weights of a checkpoint, and the checkpoint's name."""
    if checkpoint is None:
        averaged = model.manifest["facts"].get("averaged") or []
        return model.path, f"average of {', '.join(averaged)}" if len(averaged) > 1 else "".join(averaged)
    from kd.engines.fairseq.average import average
    from kd.engines.fairseq.checkpoints import numbered

    kept = numbered(model.path / "checkpoints")
    found = [each for each in kept if checkpoint in (LAST, str(each.updates))]
    if not found:
        there = ", ".join(str(each.updates) for each in kept) or "none"
        raise UserError(
            f"{model.stage}/{model.task} kept no checkpoint {checkpoint} (export.checkpoint).",
            f"It kept the checkpoints of these updates: {there}.",
        )
    average([found[0].path], temporary / WEIGHTS)
    ModelFolder.open(model.path).copy(temporary, weights=False)
    return temporary, found[0].path.name


def _run(model: Artifact, checkpoint: str) -> dict[str, Any]:
    """Return the model's place in its run: its fingerprint and those of its inputs."""
    return {
        "model": f"{model.stage}/{model.task}@{model.fingerprint}",
        "checkpoint": checkpoint,
        "inputs": {role: list(inputs) for role, inputs in model.manifest.get("inputs", {}).items()},
        "updates": model.manifest["facts"].get("updates"),
        "parameters": model.manifest["facts"].get("parameters"),
    }


def _dev(job: Job[ExportConfig], weights: Path) -> dict[str, tuple[str | None, list[str]]]:
    """Return each language pair's target language and an equal number of dev sentences.

    Raises:
        UserError: The model does not state its language pairs.
    """
    pairs = read_languages(weights).pairs if job.axis is None else {job.axis: ("", job.axis_value["target"])}
    if not pairs:
        raise UserError(
            f"{job.one('models').stage} does not state its language pairs.",
            "Set export.compare=0, or export the model in a stage over pairs.",
        )
    count = -(-job.config.compare // len(pairs))
    held_out = job.one("held_out").path
    return {
        name: (target, [pair.source for pair in read_heldout(held_out, name, "dev")[:count]])
        for name, (_, target) in pairs.items()
    }


def _agreement(
    job: Job[ExportConfig], weights: Path, dev: Mapping[str, tuple[str | None, list[str]]]
) -> dict[str, Any]:
    """Count the dev sentences that the export translates like fairseq.

    Translations that reach the longest length do not count: fairseq ends them there, other software may continue.
    """
    from kd.models.vocabulary import Vocabulary

    config, beam = job.config, _beam(job.config, job.identity["format"])
    # CTranslate2 writes output that is longer than in the training; fairseq does not.
    longest = min(config.max_pieces, read_json(job.out / DESCRIPTION)["max_target_pieces"] or config.max_pieces)
    outputs: list[list[str]] = [[], []]
    for target in dict.fromkeys(target for target, _ in dev.values()):
        sources = [source for other, texts in dev.values() if other == target for source in texts]
        decoding = Decoding(beam, longest, batch_tokens=2000, to=target)
        for translated, folder in zip(outputs, (weights, job.out), strict=True):
            engine = "fairseq" if folder is weights else job.identity["format"]
            job.progress.update(f"comparing with fairseq: {engine}" + (f", to {target}" if len(dev) > 1 else ""))
            translated += _translated(job, folder, sources, decoding)
    pieces = Vocabulary(weights).encode_ids(outputs[0])
    fairseqs, ours = _unzipped(
        [pair for pair, ids in zip(zip(*outputs, strict=True), pieces, strict=True) if len(ids) < longest]
    )
    chrf = corpus_scores(ours, [fairseqs], ["chrf"])[0] if ours else None
    return {
        "sentences": len(ours),
        "identical": sum(one == other for one, other in zip(fairseqs, ours, strict=True)),
        "cut": len(outputs[0]) - len(ours),  # at the longest length, and not compared
        "beam": beam,
        "chrf": chrf.value if chrf else None,  # of the exported model's output, with fairseq's as the reference
        "signature": chrf.signature if chrf else None,
        "set": f"{', '.join(dev)} dev",
    }


def _beam(config: ExportConfig, format_: str) -> int:
    """Return the width of the beam with which a format is compared with fairseq."""
    return 1 if format_ in GREEDY else config.beam


def _translated(job: Job[ExportConfig], folder: Path, sources: Sequence[str], decoding: Decoding) -> list[str]:
    """Translate with the model itself, or with an export in the way that users do."""
    package = packages().get(job.identity["format"])
    if folder != job.out or package is None:
        return load([folder], decoding, threads=job.threads, device=job.device)(sources)
    return package.translate(folder, sources, decoding, threads=job.threads)


def _unzipped(pairs: Sequence[tuple[str, ...]]) -> tuple[list[str], list[str]]:
    return [one for one, _ in pairs], [other for _, other in pairs]


def _in_words(agreement: Mapping[str, Any]) -> str:
    if not agreement["sentences"]:
        return "no translation could be compared with fairseq's: all reached the longest length"
    return f"{agreement['identical']} of {agreement['sentences']} translations equal fairseq's"


def _check_agreement(job: Job[ExportConfig], agreement: dict[str, Any]) -> None:
    share = agreement["identical"] / max(1, agreement["sentences"])
    judged = job.identity["format"] in EXACT and agreement["sentences"] >= FEWEST
    if judged and share < job.config.least_agreement:
        raise IncompleteArtifact(
            f"The exported model translates {agreement['identical']} of {agreement['sentences']} sentences as fairseq "
            f"does, fewer than export.least_agreement={job.config.least_agreement} allows."
        )
