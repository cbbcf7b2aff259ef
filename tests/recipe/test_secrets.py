"""Secrets in typed URLs are in no file of a run, and in no config, identity or description of any stage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.pipeline.frozen import frozen_stages
from kd.pipeline.run import Run
from kd.pipeline.store import Store
from kd.recipe import compose

URL = "https://alice:hunter2@data.example/x.tsv?lang=de&token=T0PSECRET"
SHOWN = "https://data.example/x.tsv?lang=de&token=***"
SECRETS = ("alice", "hunter2", "T0PSECRET")


def test_secrets_are_in_no_file_of_a_run_and_in_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release's manifest holds the settings of its stage, and its folder is given away."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    places = [f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run"]
    request = compose.parse_request(["recipe=files", f'source="{URL}"', *places])
    config = compose.compose(request)
    plan, store, run = compose.plan(config), Store(tmp_path / "store"), Run(tmp_path / "run")
    assert {"collect", "release", "report"} <= {stage.kind.name for stage in plan.stages}
    run.show(plan, store, run.freeze(compose.resolve(config), plan), request.command)
    stages = json.dumps(frozen_stages(plan))
    written = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert SHOWN in stages and SHOWN in run.command()
    assert not [secret for secret in SECRETS for text in [stages, *written] if secret in text]


def test_the_folder_of_a_sweep_is_named_without_secrets() -> None:
    request = compose.parse_request(["recipe=files", f'source="{URL}"', "student.seed=1,2"])
    swept = compose.parse_request(["recipe=files", f"source='{URL}',b.tsv"])
    names = [each.variant for given in (request, swept) for each in compose.sweep(given)]
    assert names and not [name for name in names if any(secret in name for secret in SECRETS)]


@pytest.mark.parametrize("kind", [UserError, TransientError])
def test_messages_show_urls_without_secrets(kind: type[Exception]) -> None:
    assert str(kind(f"The files '{URL}' and {URL}, cannot be read ({URL}).")) == (
        f"The files '{SHOWN}' and {SHOWN}, cannot be read ({SHOWN})."
    )
