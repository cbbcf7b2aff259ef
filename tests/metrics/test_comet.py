"""COMET by tiny checkpoints of the real classes: scores are those of unbabel-comet called directly, and scored once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metrics.tiny_comet import make_checkpoint

from kd.base.errors import UserError
from kd.metrics import comet_models
from kd.metrics.comet import Comet, bootstrap_duel, compare, t_test
from kd.metrics.comet_models import find_checkpoint
from kd.metrics.score_cache import ScoreCache
from kd.metrics.significance import Resampling

SEGMENTS = 40


def text(seed: int, empty: int | None = None) -> list[str]:
    drawn = random.Random(seed)
    words = [
        "the",
        "committee",
        "shall",
        "adopt",
        "rules",
        "of",
        "procedure",
        "by",
        "majority",
        "Mehrheit",
        "beschließt",
    ]
    lines = [" ".join(drawn.choices(words, k=drawn.randint(1, 30))) for _ in range(SEGMENTS)]
    lines[3] = f"{seed}: white space\u2028that is content \u0085 and a last blank "
    if empty is not None:
        lines[empty] = ""
    return lines


SOURCES, REFERENCE, OTHER_REFERENCE = text(1), text(2), text(3)
ONE, TWO = text(4, empty=7), text(5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = ["regression_metric", "referenceless_regression_metric", "unified_metric"]
    made = {kind: make_checkpoint(tmp_path_factory.mktemp(kind), SOURCES + REFERENCE, kind) for kind in kinds}
    return {"COMET": made[kinds[0]], "QE": made[kinds[1]], "unified": made[kinds[2]]}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many samples each call of `predict` was given."""
    from comet.models.base import CometModel

    calls: list[int] = []
    original = CometModel.predict

    def predict(self: Any, samples: list[Any], *arguments: Any, **options: Any) -> Any:
        calls.append(len(samples))
        return original(self, samples, *arguments, **options)

    monkeypatch.setattr(CometModel, "predict", predict)
    yield calls


def directly(model: Path, hypotheses: list[str], reference: list[str] | None) -> list[float]:
    """unbabel-comet as its documentation says; comet-score strips lines."""
    from comet.models import load_from_checkpoint

    loaded = load_from_checkpoint(str(model / "checkpoints" / "model.ckpt"), local_files_only=True)
    columns = {"src": SOURCES, "mt": hypotheses} | ({"ref": reference} if reference else {})
    samples = [
        dict(zip(columns, map(str.strip, values), strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return loaded.predict(samples, batch_size=16, gpus=0, num_workers=0, progress_bar=False).scores


@pytest.mark.parametrize(
    ("name", "references", "metric"),
    [
        ("COMET", [REFERENCE], "COMET"),
        ("QE", [], "COMET-QE"),
        ("QE", [REFERENCE], "COMET-QE"),  # not read
        ("unified", [REFERENCE], "COMET"),
        ("unified", [], "COMET-QE"),
    ],
)
def test_equals_unbabel_comet(
    models: dict[str, Path], tmp_path: Path, name: str, references: list[list[str]], metric: str
) -> None:
    comet = Comet(str(models[name]), cache=ScoreCache(tmp_path), device="cpu")
    found = comet.scores({"one": ONE, "two": TWO}, SOURCES, references)
    used = references[0] if references and name != "QE" else None
    assert found.segments == {"one": directly(models[name], ONE, used), "two": directly(models[name], TWO, used)}
    assert len(set(found.segments["one"])) > SEGMENTS // 2  # the model tells segments apart
    assert found.metric == metric
    assert found.signature.startswith(f"nrefs:{int(used is not None)}|model:{models[name].name}|sha256:")
    # What the cache gives back is what was put in.
    again = Comet(str(models[name]), cache=ScoreCache(tmp_path), device="cpu")
    assert again.scores({"one": ONE, "two": TWO}, SOURCES, references) == found


def test_several_references(models: dict[str, Path]) -> None:
    by_reference = [directly(models["COMET"], ONE, texts) for texts in (REFERENCE, OTHER_REFERENCE)]
    references = [REFERENCE, OTHER_REFERENCE]

    def scored(way: str) -> tuple[list[float], str]:
        found = Comet(str(models["COMET"]), several_references=way).scores({"one": ONE}, SOURCES, references)
        return found.segments["one"], found.signature

    pairs = list(zip(*by_reference, strict=True))
    assert scored("mean")[0] == pytest.approx([sum(pair) / 2 for pair in pairs], abs=1e-12)
    assert scored("mean")[1].startswith("nrefs:2|refs:mean|")
    assert scored("max")[0] == [max(pair) for pair in pairs]
    assert scored("first")[0] == by_reference[0]
    assert scored("first")[1].startswith("nrefs:1|model:")


def test_a_blank_reference_beside_another_is_left_out(models: dict[str, Path]) -> None:
    partial = ["" if place % 2 else line for place, line in enumerate(OTHER_REFERENCE)]
    comet = Comet(str(models["COMET"]), device="cpu")
    alone = comet.scores({"one": ONE}, SOURCES, [REFERENCE]).segments["one"]
    both = comet.scores({"one": ONE}, SOURCES, [REFERENCE, OTHER_REFERENCE]).segments["one"]
    found = comet.scores({"one": ONE}, SOURCES, [REFERENCE, partial]).segments["one"]
    # Scores differ in their last bits (some 1e-8) with the batch that a segment is in.
    assert found == pytest.approx([alone[i] if i % 2 else both[i] for i in range(SEGMENTS)], abs=1e-6)


def test_a_second_run_scores_what_is_new_alone(models: dict[str, Path], tmp_path: Path, counted: list[int]) -> None:
    def run(systems: dict[str, list[str]], model: str = "COMET", references: list[list[str]] | None = None) -> int:
        before = sum(counted)
        Comet(str(models[model]), cache=ScoreCache(tmp_path)).scores(systems, SOURCES, references or [REFERENCE])
        return sum(counted) - before

    assert run({"one": ONE}) == SEGMENTS
    assert run({"one": ONE}) == 0
    assert run({"one": ONE, "two": TWO}) == SEGMENTS
    assert run({"renamed": [*ONE[:-1], "another end"]}) == 1
    assert run({"one": ONE}, references=[OTHER_REFERENCE]) == SEGMENTS  # other content: other scores
    assert run({"one": ONE}, model="unified") == SEGMENTS  # another model


def test_a_repeated_segment_is_scored_once(models: dict[str, Path], counted: list[int]) -> None:
    lines, sources = ["the same", "the same", "other"], ["s", "s", "s"]
    scores = Comet(str(models["QE"])).scores({"one": lines}, sources, []).segments["one"]
    assert counted == [2]
    assert scores[0] == scores[1] != scores[2]


def test_another_checkpoint_of_the_same_name_is_another_model(models: dict[str, Path], tmp_path: Path) -> None:
    def score() -> list[float]:
        comet = Comet(str(tmp_path / "model"), cache=ScoreCache(tmp_path / "cache"))
        return comet.scores({"one": ONE}, SOURCES, [REFERENCE]).segments["one"]

    make_checkpoint(tmp_path / "model", SOURCES + REFERENCE)
    first = score()
    other = make_checkpoint(tmp_path / "other", SOURCES + REFERENCE, seed=1)
    (other / "checkpoints" / "model.ckpt").replace(tmp_path / "model" / "checkpoints" / "model.ckpt")
    assert score() != first


def test_what_is_cached_needs_no_comet(models: dict[str, Path], tmp_path: Path) -> None:
    Comet(str(models["QE"]), cache=ScoreCache(tmp_path)).scores({"one": ONE}, SOURCES, [])
    code = (
        "import sys\nfrom pathlib import Path\nfrom kd.metrics.comet import Comet\n"
        "from kd.metrics.score_cache import ScoreCache\nfrom test_comet import ONE, SOURCES\n"
        f"before = set(sys.modules)\ncomet = Comet({str(models['QE'])!r}, cache=ScoreCache(Path({str(tmp_path)!r})))\n"
        "found = comet.scores({'one': ONE}, SOURCES, []).segments['one']\n"
        "print(len(found), 'comet.models' in set(sys.modules) - before)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.split() == [str(SEGMENTS), "False"], done.stderr


@pytest.mark.parametrize("damage", ["garbage", "folder"])
def test_a_cache_that_cannot_be_used_is_told_and_does_no_harm(
    models: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    if damage == "garbage":
        (tmp_path / "comet.sqlite").write_bytes(b"no database" * 100)
    else:
        (tmp_path / "comet.sqlite").mkdir()
    comet = Comet(str(models["QE"]), cache=ScoreCache(tmp_path))
    assert comet.scores({"one": ONE}, SOURCES, []).segments["one"] == directly(models["QE"], ONE, None)
    assert comet.cache_problem


def test_loading_a_folder_asks_nothing_of_the_network(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert len(Comet(str(models["QE"])).scores({"one": ONE}, SOURCES, []).segments["one"]) == SEGMENTS
    assert "HF_HUB_OFFLINE" not in os.environ


def test_the_hub_can_be_asked_again_after_a_folder_was_loaded() -> None:
    from huggingface_hub.utils import get_session

    def adapter() -> str:
        return type(get_session().get_adapter("https://hub.example")).__name__

    before = adapter()
    with comet_models._offline(True):
        assert adapter() == "OfflineAdapter" != before
    assert adapter() == before


# --- significance ----------------------------------------------------------------------------------------------------


def test_comparison_is_that_of_comet_compare(models: dict[str, Path]) -> None:
    from comet.cli.compare import bootstrap_resampling, calculate_bootstrap
    from scipy.stats import ttest_rel

    drawn = np.random.default_rng(3)
    one = drawn.normal(0.8, 0.05, 200)
    other = one + drawn.normal(0.003, 0.05, 200)
    assert t_test(list(one), list(other)) == ttest_rel(one, other).pvalue
    np.random.seed(77)
    resampled = bootstrap_resampling(np.array([one, other]), sample_size=80, num_splits=300)
    theirs = calculate_bootstrap(*resampled, "one", "other")["bootstrap_resampling"]
    duel = bootstrap_duel(list(one), list(other), seed=77)
    assert (duel.wins, duel.losses, duel.ties) == (theirs["x_wins (%)"], theirs["y_wins (%)"], theirs["ties (%)"])
    assert duel.wins and duel.losses and duel.ties


def test_records(models: dict[str, Path]) -> None:
    scores = Comet(str(models["QE"])).scores({"one": ONE, "two": TWO, "same": list(ONE)}, SOURCES, [])
    one, two, same = compare(scores, "one", Resampling(samples=200, seed=5))
    assert one.value == pytest.approx(sum(scores.segments["one"]) / SEGMENTS, abs=1e-12)
    assert one.interval[0] < one.value < one.interval[1]
    assert (one.p_value, one.duel) == (None, None)
    assert two.p_value == t_test(scores.segments["two"], scores.segments["one"])
    assert (same.p_value, same.duel.ties) == (1.0, 1.0)
    assert "|bs:200|seed:5|model:" in two.signature
    assert compare(scores, None, None)[0].interval is None


# --- what can be wrong -----------------------------------------------------------------------------------------------


def test_a_model_that_is_not_there_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a machine without a network finds out later, and says the same
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="COMET model Unbabel/wmt22-none is not in the cache") as error:
        Comet("wmt22-none")
    assert "hf download Unbabel/wmt22-none --local-dir" in error.value.hint
    for path in ("/nowhere/model", "./model", "model.ckpt"):
        with pytest.raises(UserError, match="There is no COMET model at"):
            Comet(path)


def test_models_of_the_first_generation_are_found_where_unbabel_comet_keeps_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models: dict[str, Path]
) -> None:
    place = tmp_path / ".cache" / "torch" / "unbabel_comet" / "wmt20-comet-da"
    (place / "checkpoints").mkdir(parents=True)
    (place / "checkpoints" / "epoch=1.ckpt").write_bytes((models["COMET"] / "checkpoints" / "model.ckpt").read_bytes())
    (place / "hparams.yaml").write_text((models["COMET"] / "hparams.yaml").read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("wmt20-comet-da") == (place / "checkpoints" / "epoch=1.ckpt", "wmt20-comet-da")
    assert len(Comet("wmt20-comet-da").scores({"one": ONE}, SOURCES, [REFERENCE]).segments["one"]) == SEGMENTS


def test_a_folder_that_is_no_model(tmp_path: Path, models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="has no COMET checkpoint"):
        Comet(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    checkpoint = tmp_path / "checkpoints" / "model.ckpt"
    checkpoint.write_bytes((models["QE"] / "checkpoints" / "model.ckpt").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"has no hparams\.yaml"):
        Comet(str(tmp_path))
    (tmp_path / "hparams.yaml").write_text("model: CometEstimator\n")  # what releases before 1.0 wrote
    with pytest.raises(UserError, match="class_identifier"):
        Comet(str(tmp_path))
    (tmp_path / "hparams.yaml").write_text((models["QE"] / "hparams.yaml").read_text())
    with pytest.raises(UserError, match=r"cannot be loaded|damaged"):
        Comet(str(tmp_path)).scores({"one": ONE}, SOURCES, [])


def test_a_missing_tokeniser_is_named(tmp_path: Path) -> None:
    """A model of the hub holds weights alone: its encoder's tokeniser is another download."""
    import torch

    made = make_checkpoint(tmp_path / "model", SOURCES)
    content = torch.load(made / "checkpoints" / "model.ckpt")
    content["hyper_parameters"]["pretrained_model"] = "nobody/no-encoder"
    torch.save(content, made / "checkpoints" / "model.ckpt")
    hparams = made / "hparams.yaml"
    hparams.write_text(hparams.read_text().replace(str(made / "encoder"), "nobody/no-encoder"))
    with pytest.raises(UserError, match=r"cannot be loaded.*hf download nobody/no-encoder"):
        Comet(str(made)).scores({"one": ONE}, SOURCES, [REFERENCE])


def test_sides_that_do_not_fit(models: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="reads a reference"):
        Comet(str(models["COMET"])).scores({"one": ONE}, SOURCES, [])
    with pytest.raises(UserError, match="one has 39 lines, but the source has 40"):
        Comet(str(models["QE"])).scores({"one": ONE[:-1]}, SOURCES, [])
    with pytest.raises(UserError, match="Reference 1 has 2 lines, but the source has 40"):
        Comet(str(models["COMET"])).scores({"one": ONE}, SOURCES, [["a", "b"]])
    with pytest.raises(UserError, match="no method 'median'"):
        Comet(str(models["COMET"]), several_references="median")
