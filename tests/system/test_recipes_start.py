"""Recipes that are too large for a test are started: collected, encoded, and trained for a few updates."""

from __future__ import annotations

import gzip
import json
import random
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, open_dict

from kd.engines.fairseq.loading import load
from kd.pipeline.execute import execute
from kd.pipeline.model import Stage
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.schema import SourceConfig
from tests.engines.test_converted import marian
from tests.engines.test_converted_languages import nllb
from tests.recipe.test_recipes import commands

pytestmark = pytest.mark.system

LINES = {"train": 12_000, "val": 60, "test_2016_flickr": 60}  # enough for 8,000 pieces; validating takes longest


@pytest.fixture(scope="module")
def multi30k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write made-up files with the names of Multi30k's own."""
    folder = tmp_path_factory.mktemp("multi30k")
    random_ = random.Random(3)
    words = ["".join(random_.choices(string.ascii_lowercase, k=random_.randint(2, 9))) for _ in range(9000)]
    for name, count in LINES.items():
        for language in ("en", "de"):
            file = f"{name}.{language}.gz"
            with gzip.open(folder / file, "wt", encoding="utf-8", newline="\n") as handle:
                handle.writelines(" ".join(random_.choices(words, k=10)) + "\n" for _ in range(count))
    return folder


def parameters(vocabulary: int, layers: int, width: int, ffn: int, norms: int) -> int:
    """Count by hand the parameters of a Transformer with equally many layers on both sides and one embedding matrix."""
    attention, feed_forward = 4 * (width * width + width), 2 * width * ffn + ffn + width
    encoder = attention + feed_forward + 2 * 2 * width
    decoder = 2 * attention + feed_forward + 3 * 2 * width
    return vocabulary * width + layers * (encoder + decoder) + norms * 2 * width


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        # Pre-norm has a norm more at the end of each side.
        ("multi30k_en_de", parameters(8000, 6, 512, 1024, norms=2)),
        ("multi30k_en_de_small", parameters(4000, 3, 128, 512, norms=2)),
    ],
)
def test_multi30k_starts(recipe: str, expected: int, multi30k: Path, tmp_path: Path) -> None:
    settings = [
        f"corpus.root={multi30k}", f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run", "upto=teacher",
        "teacher.members=1", "teacher.max_update=2", "checkpoint.every=2", "checkpoint.keep=1", "checkpoint.average=1",
        "teacher.optimizer.warmup_updates=1",  # a linear schedule ends after the warm-up
        # 8,000 tokens an update and BLEU of a model that cannot stop yet would take minutes here.
        "teacher.batch.target_tokens=300", "teacher.validate_bleu=false",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "kd", "run", f"recipe={recipe}", *settings],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "teacher.en-de" / "member-1" / "manifest.json").read_text("utf-8"))
    assert manifest["counts"]["updates"] == 2
    assert manifest["facts"]["parameters"] == expected
    held_out = json.loads((tmp_path / "run" / "split" / "all" / "manifest.json").read_text("utf-8"))["counts"]
    assert held_out["test pairs of en-de"] == LINES["test_2016_flickr"]  # as given, not drawn from train
    # What shows a training in other tools stands in the run, and is no part of what it made.
    assert list((tmp_path / "run" / "tracking" / "tensorboard" / "teacher.en-de" / "member-1").glob("events.*"))
    assert manifest["energy"]["source"] == "not measured"


# --- every recipe, on a few made-up sentences of its languages, its models tiny ---------------------------------------

WITH_RUNS_OF_THEIR_OWN = ("multi30k_en_de", "multi30k_en_de_small")  # above
CONVERTED = {"opus_mt_teacher": marian, "nllb_teacher": nllb}  # recipe -> a tiny model in the place of its teacher
SIDES = ("source", "target")
TINY: dict[str, Any] = {
    "split": {"dev": 10, "test": 10},
    "shard": {"lines": 150},
    "vocabulary": {"size": 320, "max_placeholders": 0},
    "checkpoint": {"every": 2, "keep": 1, "average": 1, "keep_best": 0, "keep_every": 0},
    "teacher": {
        "model": {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "ffn": 16, "heads": 2},
        "optimizer": {"warmup_updates": 1},
        "batch": {"target_tokens": 200, "max_tokens": 1000},
        "members": 1, "max_update": 2, "precision": "fp32", "validate_bleu": False, "stop": {"patience": 0},
    },
    "student": {"start": {"layers": False}},  # the teachers are narrower than it
}  # fmt: skip


def small(config: DictConfig, folder: Path) -> Plan:
    """Plan the recipe with tiny models and 200 made-up sentences below `folder` for every corpus."""
    random_ = random.Random(5)
    words = ["".join(random_.choices(string.ascii_lowercase, k=random_.randint(2, 8))) for _ in range(500)]
    with open_dict(config):
        config.merge_with(TINY)
        config.clean.filters = {}  # they know that this is no language
        config.store.dir = str(folder / "store")
        config.corpus.root = str(folder)
        for name, source in config.corpus.sources.items():
            places = {side: f"{name}.{{source}}-{{target}}.{side}" for side in SIDES}
            config.corpus.sources[name] = SourceConfig("plain", source.use, dict(source.pairs), **places)
            for pair, languages in config.pairs.items():
                left, _, right = pair.partition("-")
                codes = f"{languages.source or left}-{languages.target or right}"
                for side in SIDES:
                    text = "".join(" ".join(random_.choices(words, k=7)) + "\n" for _ in range(200))
                    (folder / f"{name}.{codes}.{side}").write_text(text, "utf-8")
    return compose.plan(config)


def run(plan: Plan, stages: Sequence[Stage], folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Run these stages and their inputs; return folder and manifest of the first task of each stage."""
    store = Store(folder / "store")
    found = {}
    for stage in plan.needed_for(stages):
        for task in stage.tasks:
            execute(task, store, threads=1, device="cpu", machine={})
        place = store.paths(stage.tasks[0]).final
        found[stage.name] = place, json.loads((place / "manifest.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", sorted(set(compose.recipes()) - set(WITH_RUNS_OF_THEIR_OWN)))
def test_every_other_recipe_starts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for side in ("en", "de"):
        (tmp_path / f"a.{side}").touch()  # of recipe=files
    config = compose.compose(compose.parse_request(commands(name, tmp_path)[0]))
    if name in CONVERTED:
        model, tokenizer = CONVERTED[name](tmp_path)
        (given,) = config.teachers.values()
        model.save_pretrained(given.model)
        tokenizer.save_pretrained(given.model)
    plan = small(config, tmp_path)
    teacher = plan.find("teacher")[0]
    _, manifest = run(plan, [teacher], tmp_path)[teacher.name]
    if name == "llm_teacher":  # its server is not asked here
        assert manifest["counts"] == {"examples": 5}
    elif name in CONVERTED:
        assert manifest["counts"] == {"parameters": model.num_parameters()}
    else:
        assert manifest["counts"]["updates"] == 2


def test_fine_tuning_starts_from_the_students_weights_on_gold_or_in_domain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    switches = ["students.finetuned=true", "students.in_domain=true", "+in_domain.law=true"]
    # What is distilled is not the question here: the student learns gold as well.
    switches += ["chain.student.inputs.data=encode", "finetune.max_update=2", "finetune.optimizer.warmup_updates=1"]
    switches += ["finetune.checkpoint.every=2", "finetune.optimizer.learning_rate=1e-7"]
    config = compose.compose(compose.parse_request(["recipe=demo", *switches]))
    with open_dict(config):
        config.corpus.sources = {name: SourceConfig("plain") for name in ("news", "law")}
        config.merge_with({"student": {**TINY["teacher"], "max_update": 4}})
    plan = small(config, tmp_path)
    made = run(plan, [*plan.find("finetuned"), *plan.find("in_domain")], tmp_path)
    weights = {
        name: load(made[f"{name}.en-de"][0] / "model.pt")["model"] for name in ("student", "finetuned", "in_domain")
    }
    for name in ("finetuned", "in_domain"):
        assert made[f"{name}.en-de"][1]["counts"]["updates"] == 2
        changed = [float((weights[name][key] - tensor).abs().max()) for key, tensor in weights["student"].items()]
        assert 0 < max(changed) < 1e-5, "as little as two updates at such a rate can change"
    gold, in_domain = (made[f"{name}.en-de"][1] for name in ("encode", "encode_in_domain"))
    pairs, of_others = in_domain["counts"]["pairs out"], in_domain["dropped"]["of other corpora"]
    assert pairs + of_others == gold["counts"]["pairs out"]
    assert 100 < pairs < 200 < pairs + of_others
