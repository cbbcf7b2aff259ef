"""The plan of the largest recipe on its machine; the expected values are computed by hand."""

from __future__ import annotations

import pytest

from kd.planning.forecast import Forecast
from kd.planning.gather import forecast
from kd.planning.page import markdown

PAIRS = 498.8e6  # the talk's
ASSUMED = {
    "pairs.en-de": PAIRS, "source_pieces": 28, "target_pieces": 30, "bytes_per_pair": 260, "data_in": 130e9,
    "tflops.train": 60, "tflops.decode": 15, "seconds": 600, "gpu_watts": 330, "core_watts": 4,
    "pairs_per_second.clean": 50_000,
    "bytes.collect": 100, "bytes.clean": 100, "bytes.shard": 100, "bytes.encode": 150, "bytes.decode": 400,
    "bytes.select": 120, "bytes.encode_selected": 150,
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    """Nothing is here but the recipe: no corpus, no network, no probe, no run."""
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        assumed = [f"assume.{key}={value}" for key, value in ASSUMED.items()]
        # As in the work that the recipe follows: compute nodes without a network.
        return forecast(["recipe=en_de_general", "machine=meluxina", "machine.online=false", *assumed])


def test_node_hours_are_listed_by_partition(found: Forecast) -> None:
    parts = found.node_hours_by_partition
    assert set(parts) == {"gpu", "cpu"}
    assert sum(figure.value or 0.0 for figure in parts.values()) == pytest.approx(found.node_hours.value)
    # Every job on the GPU partition holds a whole node of four GPUs.
    assert found.gpu_hours.value == pytest.approx(4 * (parts["gpu"].value or 0.0))


def test_downloads_run_on_the_login_node_of_a_machine_without_a_network(found: Forecast) -> None:
    (collect,) = [stage for stage in found.stages if stage.stage.kind.name == "collect"]
    assert (collect.request.nodes, collect.core_hours.value) == (0, 0)
    # 9 training corpora share the pairs; dev and two test sets are small.
    assert sum(item.kept.value or 0.0 for item in collect.tasks) == pytest.approx(PAIRS * 100, rel=0.001)


def test_decoding_uses_all_gpus_of_its_job(found: Forecast) -> None:
    decode = next(stage for stage in found.stages if stage.stage.spec.name == "decode")
    # By hand: 4 members of width 1024, FFN 4096, 6 + 6 layers, 32,000 pieces; beam 5; 1.1 x 31 steps; 29 pieces.
    encoder = 6 * (4 * 1024**2 + 2 * 1024 * 4096)
    decoder = 6 * (8 * 1024**2 + 2 * 1024 * 4096) + 32_000 * 1024
    products = 4 * (29 * 2 * encoder + 5 * 34.1 * 2 * decoder)
    hours = PAIRS * products / 15e12 / 3600
    assert decode.gpu_hours.value == pytest.approx(hours, rel=0.05)  # attention is some 2 % more


def test_bytes_of_lists_and_selections_are_per_pair(found: Forecast) -> None:
    kept = {stage.stage.spec.name: stage.kept.value for stage in found.stages}
    assert kept["decode"] == pytest.approx(PAIRS * 400)
    assert kept["select"] == pytest.approx(PAIRS * 120)
    # 8 tokens of 2 bytes and their probabilities of 2 bytes for each target piece and its end: docs/distillation.md
    assert kept["soften"] == pytest.approx(PAIRS * (29 + 1) * 8 * (2 + 2), rel=0.1)
    others = (found.kept.value or 0.0) - (kept["soften"] or 0.0)
    assert 0.5e12 < others < (found.peak.value or 0.0) - (kept["soften"] or 0.0) < 1e12


def test_only_carbon_intensity_and_pue_are_unknown_on_the_page(found: Forecast) -> None:
    page = markdown(found)
    unknown = [line for line in page.split("\n") if "unknown" in line.lower() and not line.startswith("#")]
    assert len(unknown) == 2 and "PUE unknown" in unknown[0] and unknown[1] == "| emissions | unknown |"
    carbon, pue = page.split("## Unknown")[1].strip().split("\n")
    assert "machine.carbon_intensity=0.3" in carbon and "kg CO2e per kWh" in carbon and "machine.pue=1.2" in pue
    for row in ("| of them in gpu |", "| of them in cpu |", "| collect.en-de | 12 | login node |"):
        assert row in page
    assert "e+" not in page and "e-0" not in page


def test_the_page_describes_the_nodes_and_requests_of_its_rows(found: Forecast) -> None:
    page = markdown(found)
    assert "A GPU node of meluxina has 4 GPUs (A100-40GB), 64 cores" in page
    assert "in cpu 128 cores; in gpu 4 GPUs and 64 cores" in page
    assert "| 1 model |" in page and "| 1 task |" in page
    assert "30,000 validation sentences" in page and "decode.workers (64 here)" in page
    # The jobs' row is made of the same numbers as the table below it.
    jobs = page.split("## Jobs, by stage")[1].split("\n\n")[1].split("\n")[2:]
    tasks = {
        cells[1]: (int(cells[2]), cells[3]) for cells in ([cell.strip() for cell in row.split("|")] for row in jobs)
    }
    arrays = [number for number, nodes in tasks.values() if nodes != "login node"]
    assert f"{len(arrays)} job arrays with {sum(arrays)} tasks, whose jobs are restarted 12 times" in page  # 4 x 170 h
    assert f"; {tasks['collect.en-de'][0]} tasks more without a job, on the login node" in page


def test_the_page_lists_assumptions_once_and_states_that_nothing_was_measured(found: Forecast) -> None:
    page = markdown(found)
    assert "Nothing was measured on this machine" in page
    for key in ASSUMED:
        # bytes.encode= also begins no other key; seconds= stands for many stages, as one numbered source.
        assert page.count(f"assume.{key}=") == 1, key
