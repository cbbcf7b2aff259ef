"""The readers of recipes, command lines, model folders and the records of runs, each with a whole input and a check."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from kd.base import lease, progress
from kd.base.energy import Spent
from kd.base.lease import Holder
from kd.base.progress import Snapshot
from kd.launch.slurm.records import Element, Records, Submission
from kd.models.folder import ModelFolder
from kd.pipeline import attempts, failures
from kd.pipeline.run import Run
from kd.pipeline.store import BLANK_MANIFEST, ArtifactPaths
from kd.recipe.compose import compose, parse_request
from kd.recipe.overrides import prepare
from kd.run.verify import check as verify
from tests.fuzz.reader import Reader

RECIPE = """\
defaults:
  - /schema
  - _self_

pairs:
  en-xx: {}
corpus:
  root: /corpora
  sources:
    web:
      format: plain
      source: a.{source}
      target: "a.{target}"
      use: train
      weight: 2.0
shard:
  lines: 10000  # pairs
decode: {workers: 2, nbest: 4}
teacher:
  max_update: ${shard.lines}
"""


def check_recipe(path: Path) -> None:
    """Compose a recipe."""
    folder = path.parent / "mutated"
    folder.mkdir()
    shutil.copy(path, folder / "recipe.yaml")
    compose(parse_request([f"recipe={folder / 'recipe.yaml'}"]))


def check_overrides(path: Path) -> None:
    """Parse command lines."""
    request = parse_request(path.read_bytes().decode("utf-8", "replace").split("\n"))
    prepare(request.overrides)


# --- model folders ---------------------------------------------------------------------------------------------------


@cache
def vocabulary() -> tuple[bytes, list[str]]:
    """Return a sentencepiece model and its pieces."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    model = io.BytesIO()
    texts = iter([f"one two three {number} \u00e4\u00f6\u00fc" for number in range(200)])
    SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, vocab_size=40, num_threads=1, minloglevel=2, hard_vocab_limit=False
    )
    processor = SentencePieceProcessor(model_proto=model.getvalue())
    return model.getvalue(), [processor.id_to_piece(number) for number in range(processor.get_piece_size())]


def exported() -> Mapping[str, bytes]:
    """Return the files of an exported model; its weights are never loaded."""
    model, pieces = vocabulary()
    described: dict[str, Any] = {
        "format": 1,
        "engine": "ctranslate2",
        "compute_type": "int8",
        "source_languages": ["en"],
        "target_languages": ["de"],
        "pairs": {"en-de": ["en", "de"]},
        "max_source_pieces": 200,
        "preprocessing": {"pieces": len(pieces)},
    }
    return {
        "model.json": json.dumps(described).encode(),
        "vocabulary.model": model,
        "model/config.json": b"{}",
        "model/model.bin": b"weights",
        "model/shared_vocabulary.json": json.dumps(pieces).encode(),
    }


def trained() -> Mapping[str, bytes]:
    """Return the files of a trained model with a very small checkpoint."""
    model, pieces = vocabulary()
    return {
        "model.pt": checkpoint(),
        "dict.txt": "".join(f"{piece} 1\n" for piece in pieces[3:]).encode(),
        "vocabulary.model": model,
        "languages.json": json.dumps({"source_languages": ["en"], "target_languages": ["de"]}).encode(),
    }


@cache
def checkpoint() -> bytes:
    """Return a checkpoint in fairseq's format."""
    from argparse import Namespace

    import torch

    settings = Namespace(arch="transformer", encoder_layers=1, decoder_layers=1, encoder_embed_dim=4)
    state = {"cfg": {"model": settings, "task": {"_name": "translation"}}, "model": {"w": torch.ones(4, 4)}}
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


def model_file(files: Callable[[], Mapping[str, bytes]], name: str) -> Reader:
    """Return the reader of one file of a model folder, whose other files are whole."""

    def check(path: Path) -> None:
        folder = path.parent / "model"
        for other, content in files().items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(path.read_bytes() if other == name else content)
        found = ModelFolder.open(folder)
        found.check()
        if name == "model.pt":
            from kd.engines.fairseq.loading import load

            load(found.weights)

    return Reader(name, lambda: files()[name], check)


# --- records of runs -------------------------------------------------------------------------------------------------


def manifest() -> bytes:
    """Return the manifest of an artifact with one file."""
    files = {"a": {"bytes": 1, "sha256": "0" * 64}}
    return json.dumps({**BLANK_MANIFEST, "stage": "clean", "files": files}).encode()


def check_manifest(path: Path) -> None:
    """Compare an artifact with its manifest."""
    shutil.copy(path, path.with_name("manifest.json"))
    paths = ArtifactPaths(path.parent)
    verify([paths])
    paths.manifest()


def run_plan() -> bytes:
    """Return the plan of a run."""
    return json.dumps(
        {"command": "recipe=demo", "config": "ab", "store": "/s", "tasks": {"a/all": "/s/a/f/all"}}
    ).encode()


def check_run_plan(path: Path) -> None:
    """Read the plan of a run."""
    shutil.copy(path, path.with_name("plan.json"))
    run = Run(path.parent)
    run.planned()
    run.command()


def submission() -> bytes:
    """Return the record of a submission to Slurm."""
    whole = Submission("a.sh", "a", {1: Element("a/all", "a/f/all")}, "ab", "afterok:7", "8", "id", 1.0, 1)
    return json.dumps(asdict(whole)).encode()


def check_submission(path: Path) -> None:
    """Read the record of a submission to Slurm."""
    folder = path.parent / "slurm" / "submissions"
    folder.mkdir(parents=True)
    shutil.copy(path, folder / "1.json")
    Records(Run(path.parent)).read()


def beside_a_task(suffix: str, content: object, read: Callable[[ArtifactPaths], object]) -> Reader:
    """Return the reader of a file beside the folder of a task; such a file is read right or ignored."""

    def check(path: Path) -> None:
        shutil.copy(path, path.with_name(f"all{suffix}"))
        read(ArtifactPaths(path.with_name("all")))

    return Reader(suffix.removeprefix("."), lambda: json.dumps(content).encode(), check)


def read_progress(paths: ArtifactPaths) -> None:
    """Read and format the progress of a task."""
    snapshot = progress.read(paths.progress)
    if snapshot is not None:
        snapshot.line()


def read_failure(paths: ArtifactPaths) -> None:
    """Read the failure of a task."""
    failures.failure_message(paths)
    failures.failed_since(paths, 0.0)


RECORDS = (
    Reader("recipe", RECIPE.encode, check_recipe),
    Reader("overrides", lambda: b"recipe=demo\nselect.metric=chrf\n+a.b=[1,{c: d}]\nupto=select", check_overrides),
    *(model_file(exported, name) for name in ("model.json", "vocabulary.model", "model/shared_vocabulary.json")),
    *(model_file(trained, name) for name in ("model.pt", "dict.txt", "languages.json")),
    Reader("manifest", manifest, check_manifest),
    Reader("plan.json", run_plan, check_run_plan),
    Reader("submission", submission, check_submission),
    beside_a_task(".progress.json", asdict(Snapshot("training", 1, 2, "updates", notes={"loss": "1"})), read_progress),
    beside_a_task(".failed.json", {"message": "a", "time": "2026-11-30T00:00:00+00:00"}, read_failure),
    beside_a_task(".energy.json", asdict(Spent()), lambda paths: Spent.load(paths.energy)),
    beside_a_task(".lease", asdict(Holder.here()), lambda paths: lease.is_held(paths.lease)),
    beside_a_task(
        ".attempts.json",
        [{"started": 1.0, "cpu_before": 0.0, "submission": "x", "reached": ["training", 1], "seconds": 1.0}],
        lambda paths: attempts.is_stuck(paths, resumable=True),
    ),
)
