"""Secrets in typed URLs are in no file of a run, in no config, identity or description of a stage, in no message."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.base.log import print_messages
from kd.base.progress import Progress
from kd.base.urls import mask_for_children
from kd.pipeline.failures import record_failure
from kd.pipeline.frozen import frozen_stages
from kd.pipeline.run import Run
from kd.pipeline.store import ArtifactPaths, Store
from kd.recipe import compose

URL = "https://alice:hunter2@data.example/x.tsv?lang=de&token=T0PSECRET"
SHOWN = "https://data.example/x.tsv?lang=de&token=***"
SECRETS = ("alice", "hunter2", "T0PSECRET")


@pytest.mark.parametrize("url", [URL, URL.replace("T0PSECRET", "${oc.env:MY_TOKEN}")], ids=["typed", "referred to"])
def test_secrets_are_in_no_file_of_a_run_and_in_no_stage(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release's manifest holds the settings of its stage, and its folder is given away."""
    monkeypatch.setattr(os, "environ", os.environ | {"MY_TOKEN": "T0PSECRET"})
    places = [f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run"]
    request = compose.parse_request(["recipe=files", f'source="{url}"', *places])
    config = compose.compose(request)
    plan, store, run = compose.plan(config), Store(tmp_path / "store"), Run(tmp_path / "run")
    assert {"collect", "release", "report"} <= {stage.kind.name for stage in plan.stages}
    run.show(plan, store, run.freeze(compose.resolve(config), plan), request.command)
    stages = json.dumps(frozen_stages(plan))
    written = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    assert SHOWN in stages and (SHOWN if url == URL else "token=${oc.env:MY_TOKEN}") in run.command()
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


def test_records_of_unexpected_errors_have_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library reports a URL in parts, and the traceback of an error shows the messages of all errors before it."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    mask_for_children(URL)
    paths = ArtifactPaths(tmp_path / "collect" / "f" / "files")
    paths.failure.parent.mkdir(parents=True)
    try:
        try:
            raise OSError(f"Max retries exceeded with url: /x.tsv?lang=de&token=T0PSECRET (alice:hunter2), {URL}")
        except OSError as error:
            raise ValueError("a bug at T0PSECRET") from error
    except ValueError as error:
        record_failure(paths, error)
    told = paths.failure.read_text("utf-8")
    assert "Max retries exceeded with url: /x.tsv?lang=de&token=*** (***)" in told and "a bug at ***" in told
    assert not [secret for secret in SECRETS if secret in told]


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "+machine.environment.HF_TOKEN=hf_S3CRET",
            r"machine\.environment\.HF_TOKEN may hold a secret, .* `export HF_",
        ),
        ("+machine.environment.PROXY='http://alice:hunter2@host:1'", r"machine\.environment\.PROXY may hold a secret"),
        ("+teachers.a={url: 'https://alice:hunter2@host/v1'}", r"teachers\.a\.url holds a password .* OPENAI_API_KEY"),
    ],
)
def test_secrets_that_kd_would_write_or_lose_are_refused(setting: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        compose.compose(compose.parse_request(["recipe=demo", setting]))
    assert not [secret for secret in (*SECRETS, "S3CRET") if secret in str(caught.value)]


def test_messages_and_the_traceback_at_the_end_have_no_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    mask_for_children(URL)
    print_messages()
    progress = Progress(tmp_path / "progress.json")
    progress.say(f"fetched {URL}")
    progress.update("reading")
    logging.getLogger("kd.corpora").warning("slow: token=%s", "T0PSECRET")
    sys.excepthook(ValueError, ValueError(f"a bug at {URL}"), None)
    told = capsys.readouterr().err
    assert f"fetched {SHOWN}\n" in told and "slow: token=***\n" in told and f"ValueError: a bug at {SHOWN}\n" in told
    told += (tmp_path / "progress.json").read_text("utf-8")
    assert not [secret for secret in SECRETS if secret in told]
