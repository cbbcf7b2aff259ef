"""Forecasts of recipes without measurements, such as half a billion pairs on a cluster."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from kd.base.errors import UserError
from kd.base.estimate import Estimate
from kd.base.records import plain
from kd.pipeline.model import Kind
from kd.planning import page, values
from kd.planning.forecast import Forecast, StageForecast
from kd.planning.gather import forecast
from kd.planning.probe import Probe, cache_folder
from kd.planning.rates import BYTES, Observation

# As MeluXina's GPU partition: 4 A100 a node.
MACHINE = """\
name: cluster
device: cuda
gpus_per_node: 4
cores_per_node: 64
memory_per_node: 512
gpu: A100-40GB
account: ???
pue: 1.25
carbon_intensity: 0.1
resources:
  train: {nodes: 2, gpus: 4, cores: 64, hours: 24}
  decode: {gpus: 1, cores: 16, hours: 48, side_by_side: 16}
  cpu: {cores: 64, hours: 24}
  light: {cores: 1, hours: 1}
"""
BIG = [
    *("recipe=multi30k_en_de", "machine=cluster", "teacher=transformer_big", "student=deep_shallow_12_1"),
    *("vocabulary.size=32000", "decode.workers=64", "teacher.max_update=50000"),
]
PAIRS = 498_800_000  # French-English of WMT and OPUS, as the eTranslation team had it
ASSUMED = [
    *(f"assume.pairs.en-de={PAIRS}", "assume.source_pieces=28", "assume.target_pieces=30", "assume.bytes_per_pair=260"),
    *("assume.tokens_per_second.teacher=20000", "assume.sentences_per_second.decode=50", "assume.seconds=600"),
    *("assume.tflops.train=50", "assume.tflops.decode=10", "assume.gpu_watts=400", "assume.core_watts=0"),
]


def work_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A folder with a machine file of the user's own, and no probes."""
    (folder / "conf" / "machine").mkdir(parents=True)
    (folder / "conf" / "machine" / "cluster.yaml").write_text(MACHINE)
    patch.chdir(folder)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a folder, to stand in."""
    work_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forecast]:
    """Half a billion pairs, by assumptions; made once, since composing a recipe takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("big")
        work_in(folder, patch)
        found = forecast([*BIG, *ASSUMED, "assume.data_in=130e9"])
        assert sorted(path.name for path in folder.iterdir()) == ["conf"]  # nothing is written where the run would be
    yield found


def stage(found: Forecast, name: str) -> StageForecast:
    return next(each for each in found.stages if each.stage.spec.name == name)


def keep(*observations: Observation) -> None:
    """Put a probe into the cache."""
    lengths = {"source_tokens": 28.0, "target_tokens": 30.0, "pair_bytes": 260.0, "steps": 45.0}
    probe = Probe("multi30k_en_de", "cluster", "node", "2026-11-21 12:00", "some text", 0.9, lengths, observations)
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "one.json").write_text(json.dumps(plain(probe)))


def test_an_unmeasured_estimate_is_unknown_with_a_hint(elsewhere: Path) -> None:
    found = forecast([*BIG, f"assume.pairs.en-de={PAIRS}"])
    assert found.wall.value is None and found.gpu_hours.value is None and found.kwh.value is None
    questions = "\n".join(page.open_questions(found))
    assert "train was not measured on cluster" in questions and "decode ensemble was not measured" in questions
    assert "assume.gpu_watts" in questions and "assume.data_in" in questions
    assert "unknown" in page.markdown(found)


def test_a_forecast_is_work_divided_by_speed(big: Forecast) -> None:
    found = big
    teacher = stage(found, "teacher")
    # 50,000 updates of 400,000 target tokens, by 8 GPUs of 20,000 tokens/s each.
    training = 50_000 * 400_000 / (20_000 * 8)
    assert teacher.tasks[0].seconds.value == pytest.approx(training, rel=0.02)  # and validations
    assert len(teacher.tasks) == 4 and teacher.request.nodes == 2 and teacher.request.gpus == 4
    assert teacher.gpu_hours.value == pytest.approx(4 * 8 * training / 3600, rel=0.02)
    # A job of 35 hours goes on once after its limit of 24.
    assert teacher.runs_of_jobs == 8
    decode = stage(found, "decode")
    assert decode.tasks[0].seconds.value == pytest.approx(PAIRS / 64 / 50)
    assert "assumed by you (assume.sentences_per_second.decode=50)" in decode.seconds.source


def test_the_wall_time_follows_the_chain_and_the_throttle_of_arrays(big: Forecast) -> None:
    found = big
    names = [task.stage.spec.name for task in found.critical]
    assert names[-1] in ("report", "release") and "decode" in names and "select" in names
    assert names.count("decode") == 4  # 64 workers, 16 at once
    decode = PAIRS / 64 / 50
    assert found.wall.value is not None and found.wall.value > 4 * decode
    # All four members at once, and the control while students train, are not added up.
    added = sum(each.seconds.value or 0 for each in found.stages for _ in each.tasks)
    assert found.wall.value < added
    assert found.peak_gpus == 4 * 8
    assert found.peak_nodes == 64  # selecting: each of 64 tasks holds a node


def test_node_hours_count_the_share_of_a_node_that_is_held(big: Forecast) -> None:
    found = big
    decode = stage(found, "decode")
    each = (decode.tasks[0].seconds.value or 0) / 3600
    assert decode.hours(1).value == pytest.approx(64 * each)
    expected = sum(
        (stage_.hours(1).value or 0.0)
        * {"train": 2.0, "decode": 0.25, "cpu": 1.0, "light": 1 / 64}[stage_.stage.kind.resources]
        for stage_ in found.stages
    )
    assert found.node_hours.value == pytest.approx(expected)


def test_energy_includes_pue_and_emissions_use_the_grids_intensity(big: Forecast) -> None:
    found = big
    gpu_hours = found.gpu_hours.value
    assert gpu_hours is not None
    assert found.kwh.value == pytest.approx(gpu_hours * 0.4 * 1.25)
    assert found.co2.value == pytest.approx(gpu_hours * 0.4 * 1.25 * 0.1)


def test_lists_of_half_a_billion_pairs_are_hundreds_of_gigabytes(elsewhere: Path) -> None:
    # 1,000 lists of 5 had 600 kB in the probe.
    keep(Observation(BYTES + "decode", 1000, 260 / 2 * 5, 600e3, None, "cluster", "cuda", 1, "a probe"))
    decode = stage(forecast([*BIG, *ASSUMED]), "decode")
    assert decode.kept.value == pytest.approx(0.9 * PAIRS * 600)  # 0.9 stay after cleaning
    assert "a probe" in decode.kept.source


def test_a_probe_is_scaled_and_used_for_its_machine_only(elsewhere: Path) -> None:
    seen = Observation("clean", 10_000, 260.0, 2.0, 2.0, "cluster", "cuda", 1, "probe on node, 2026-11-21 12:00")
    keep(seen)
    found = forecast([*BIG, f"assume.pairs.en-de={PAIRS}"])
    assert stage(found, "clean").seconds.value == pytest.approx(2.0 * PAIRS / 10_000)
    assert stage(found, "clean").tasks[0].cpu_seconds == pytest.approx(2.0 * PAIRS / 10_000)
    here = [item for item in BIG if not item.startswith("machine=")]
    assert stage(forecast([*here, f"assume.pairs.en-de={PAIRS}"]), "clean").seconds.value is None


def test_a_measurement_without_a_gpu_is_used_on_a_machine_with_gpus(elsewhere: Path) -> None:
    """A run's manifests say `cpu` of such jobs, and as many threads as they had cores."""
    job = Observation("clean", 10_000, 260.0, 2.0, 60.0, "cluster", "cpu", 64, "a run")
    probed = Observation("clean", 10_000, 260.0, 9.0, 9.0, "cluster", "cuda", 1, "probe on node, 2026-11-21 12:00")
    trained = Observation("train", 10_000, 1e9, 2.0, 2.0, "cluster", "cpu", 64, "a run")
    keep(job, probed, trained)
    found = forecast([*BIG, f"assume.pairs.en-de={PAIRS}"])
    assert stage(found, "clean").seconds.value == pytest.approx(2.0 * PAIRS / 10_000)
    assert stage(found, "teacher").seconds.value is None, "on a GPU"


def test_a_training_keeps_the_forecast_checkpoints(big: Forecast) -> None:
    teacher = stage(big, "teacher")
    # Vaswani et al. (2017), table 3: 213 million parameters with 37,000 pieces; here 32,000 of 1024 each.
    weights = 213e6 - 5000 * 1024
    five = 5 * 12 + 4
    assert teacher.tasks[0].kept.value == pytest.approx(weights * five, rel=0.02)
    assert teacher.tasks[0].temporary.value == pytest.approx(weights * 12, rel=0.02)


def test_the_page_has_the_sections_of_an_application(big: Forecast) -> None:
    text = page.markdown(big)
    headings = ("Resources requested", "Jobs, by stage", "Work and storage", "Software", "Sources of the figures")
    assert all(f"## {heading}" in text for heading in headings)
    rows = ("jobs", "GPUs at once", "GPU hours", "node hours", "disk at the fullest", "data in", "data out", "energy")
    assert all(f"| {row} |" in text for row in rows)
    assert "| data in | 130 GB |" in text
    assert "498,800,000 sentence pairs" in text
    assert "assumed by you (assume.tokens_per_second.teacher=20,000)" in text
    assert "4 GPUs (A100-40GB), 64 cores, 512 GB" in text
    widths = {line.count(" | ") for line in text.split("\n") if line.startswith("| decode.en-de | 64 | ")}
    assert widths  # a row of its own in both tables


def test_the_terminal_prints_each_hint_once(elsewhere: Path) -> None:
    console = Console(file=io.StringIO())
    page.show(forecast([*BIG, f"assume.pairs.en-de={PAIRS}"]), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for question in ("times on cluster were not measured: ", "set assume.gpu_watts=", "assume.pairs.en-de=498,800,000"):
        assert text.count(question) == 1, question
    (line,) = (line for line in text.split("\n") if "times on cluster were not measured" in line)
    assert re.search(r"\[\d+\] train, .*\[\d+\] decode ensemble, .*add --probe", line), "one line for all of them"
    assert "--probe" in text and "of them at work" not in text  # nobody knows how much


def test_measured_values_are_not_listed_as_assumptions(elsewhere: Path) -> None:
    assert not forecast([*BIG, *ASSUMED]).measured
    keep(Observation("clean", 10_000, 260.0, 2.0, 2.0, "cluster", "cuda", 1, "probe on node, 2026-11-21 12:00"))
    found = forecast([*BIG, *[item for item in ASSUMED if item != "assume.seconds=600"]])
    assert found.measured and "Nothing was measured on this machine" not in page.markdown(found)


def test_json_has_every_figure_with_its_source(big: Forecast) -> None:
    plain = json.loads(json.dumps(page.to_json(big)))
    decode = next(each for each in plain["stages"] if each["stage"] == "decode.en-de")
    assert decode["work"][0]["amount"]["value"] == pytest.approx(PAIRS / 64)
    assert plain["totals"]["GPU_hours"]["value"] > 0 and plain["totals"]["GPU_hours"]["source"]
    assert plain["critical_path"][0].startswith("collect")


def test_a_kind_without_forecast_does_not_affect_the_others(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kd.stages.select import Select

    monkeypatch.setattr(Select, "forecast", Kind.forecast)
    found = forecast([*BIG, *[item for item in ASSUMED if item != "assume.seconds=600"]])
    select = stage(found, "select")
    assert select.seconds.value is None and "the kind select has no forecast" in select.seconds.source
    assert stage(found, "decode").seconds.value is not None


def test_missing_corpora_without_assumption_are_an_error_with_a_hint(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"assume\.pairs\.en-de=NUMBER"):
        forecast(BIG)
    with pytest.raises(UserError, match="members") as wrong:  # which no number of pairs would mend
        forecast([*BIG, "teacher.members=0"])
    assert "assume" not in str(wrong.value)


def test_a_machine_without_nodes_is_refused(elsewhere: Path) -> None:
    (elsewhere / "conf" / "machine" / "cluster.yaml").write_text(MACHINE.replace("cores: 64, hours: 24", "hours: 24"))
    with pytest.raises(UserError, match=r"machine\.resources\.\w+\.cores"):
        forecast([*BIG, *ASSUMED])


def test_sizes_and_times_have_suitable_units() -> None:
    assert [values.size(value) for value in (None, 0, 1.5e4, 2.5e7, 3e9, 4.2e12)] == [
        *("unknown", "0 B", "15.0 kB", "25.0 MB", "3.0 GB", "4.2 TB")
    ]
    assert values.hours(None) == "unknown" and values.hours(12345.6) == "12,346" and values.hours(0.25) == "0.25"
    assert values.hours(3e-5) == "< 0.001" and values.hours(0.003) == "0.003"
    assert [values.count(value, "hypotheses") for value in (1, 2)] == ["1 hypothesis", "2 hypotheses"]
    assert values.shown(Estimate(None, "x", 7.0), values.hours) == "unknown, at least 7"


@pytest.mark.parametrize("machine", ["discoverer", "deucalion"])
def test_a_plan_needs_no_account_where_other_settings_are_built_from_it(elsewhere: Path, machine: str) -> None:
    found = forecast([*BIG[:1], f"machine={machine}", *ASSUMED, "stages=[teacher]"])
    assert found.machine.resources["train"].cores == 128


def test_a_plan_without_a_needed_fact_of_the_machine_names_it(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"machine\.gpus_per_node"):
        forecast([*BIG[:1], "machine=daedalus", *ASSUMED])


def test_the_page_has_what_forms_for_computing_time_ask_for(elsewhere: Path) -> None:
    asked = [*BIG, *ASSUMED, f"run.dir={elsewhere}/runs/big"]
    text = page.markdown(forecast(asked))
    assert "Run `kd scaling recipe=multi30k_en_de launcher=slurm machine=cluster nodes=1,2,4`" in text
    for heading in ("Data management", "Ethics and personal data", "Licences of the software"):
        assert f"\n## {heading}\n" in text
    assert re.search(r"^\| multi30k +\| ", text, re.MULTILINE), text
    points = [
        {"number": 1, "tokens_per_second": 50_000.0, "speedup": 1.0, "efficiency": 1.0},
        {"number": 4, "tokens_per_second": 180_000.0, "speedup": 3.6, "efficiency": 0.9},
    ]
    record = {"unit": "nodes", "stage": "teacher", "updates": 40, "weak": False, "points": points}
    (elsewhere / "runs" / "big.scaling").mkdir(parents=True)
    (elsewhere / "runs" / "big.scaling" / "scaling.json").write_text(json.dumps(record))
    rows = page.markdown(forecast(asked)).split("## Scalability")[1].split("##")[0]
    assert [cell.strip() for cell in rows.strip().split("\n")[-3].strip("|").split("|")] == [
        "4",
        "180,000",
        "3.60",
        "90%",
    ]
    assert "strong scaling" in rows
