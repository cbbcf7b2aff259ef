"""Secrets of URLs and of the environment are in no file that a finished run leaves, and in nothing that kd prints.

The files are artifacts, model cards, releases, the report, exports, tracking files, configs, logs, records of a crash,
the cache, and a bundle.
"""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import zstandard
from corpora.server import Server, serve
from runs_of_tiny import TINY, Workplace, new_workplace

from kd.cli import main
from kd.run.bundle import check

pytestmark = pytest.mark.system

USER, PASSWORD, TOKEN, OTHER = "alice-of-acme", "hunter2-is-weak", "T0PSECRET-4711", "AN0THER-4712"
VARIABLES = {"HF_TOKEN": "hf_S3CRET", "WANDB_API_KEY": "wandb-S3CRET", "OPENAI_API_KEY": "sk-S3CRET"}
SECRETS = (USER, PASSWORD, TOKEN, OTHER, *VARIABLES.values())
# The smallest training of the whole chain; without a control there is no baseline.
MINIMAL = [
    *(
        f"{model}.{setting}"
        for model in ("teacher", "student")
        for setting in ("max_update=4", "optimizer.warmup_updates=2")
    ),
    *(
        "checkpoint.every=2",
        "teacher.members=1",
        "decode.workers=1",
        "decode.share=0.1",
        "decode.beam=1",
        "decode.nbest=1",
    ),
    *(
        "students.control=false",
        "evaluate.baseline=null",
        "evaluate.robustness.enabled=false",
        "evaluate.bootstrap=100",
    ),
    *("chain.speed.enabled=false", "export.formats.float32=false", "export.compare=0", "release.systems.teacher=false"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that needs user, password and token."""
    with serve() as offered:
        offered.login, offered.parameters = f"{USER}:{PASSWORD}", f"token={TOKEN}"
        yield offered


@dataclass(frozen=True)
class FromUrls:
    """A run whose recipe has the URL of the source; that of the target is typed."""

    place: Workplace
    address: str
    said: str

    def settings(self, token: str) -> list[str]:
        target = f'corpus.sources.made_up.target="{self.address}/corpus.{{target}}.gz?token={token}"'
        return [target, f"corpus.cache={self.place.folder}/cache", *MINIMAL]

    def arguments(self, command: str, *words: str) -> list[str]:
        """Return the arguments of a command on this run."""
        return [*self.place.arguments(command, *self.settings(TOKEN))[3:], *words]

    def leaks(self) -> list[str]:
        return leaks(*(self.place.folder / name for name in ("runs", "store", "cache")))


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FromUrls]:
    """The run, finished."""
    folder = tmp_path_factory.mktemp("from-urls")
    address = server.url.replace("://", f"://{USER}:{PASSWORD}@")
    recipe = folder / "recipes" / "own" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    text = (TINY / "recipe.yaml").read_text("utf-8")
    url = f'"{address}/corpus.{{source}}?token={TOKEN}"'
    recipe.write_text(text.replace("source: corpus.{source}", f"source: {url}"), "utf-8")
    place = new_workplace(folder, recipe.parent)
    server.files = {f"/{path.name}": path.read_bytes() for path in (folder / "corpus").iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        done = place.kd("run", *FromUrls(place, address, "").settings(TOKEN))
        yield FromUrls(place, address, done.stdout + done.stderr)


@pytest.fixture
def run(made: FromUrls, tmp_path: Path) -> FromUrls:
    """A copy of the run that a test may change."""
    return replace(made, place=made.place.copy(tmp_path / "copy"))


def contents(path: Path) -> bytes:
    """Return the bytes of a file, unpacked."""
    packed = path.read_bytes()
    if packed.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    if packed.startswith(b"\x1f\x8b"):
        return gzip.decompress(packed)
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.decompress(packed)
    if packed.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return b"\n".join(name.encode() + archive.read(name) for name in archive.namelist())
    return packed


def leaks(*folders: Path) -> list[str]:
    """Return the files below these folders with a secret in their text or their path."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            text = str(path).encode() + (contents(path) if path.is_file() else b"")
            found += [f"{path.relative_to(folder)}: {secret}" for secret in SECRETS if secret.encode() in text]
    return found


def test_a_finished_run_from_urls_with_credentials_leaves_no_secret(made: FromUrls) -> None:
    assert not [secret for secret in SECRETS if secret in made.said], made.said
    stages = {path.parents[2].name.partition(".")[0] for path in made.place.store.glob("*/*/*/manifest.json")}
    assert stages >= {"collect", "teacher", "decode", "student", "export", "evaluate", "release", "report"}
    for pattern in (
        "logs/*/*.log",
        "release.en-xx/*/README.md",
        "report/all/index.html",
        "tracking/*/*/*/*",
        "configs/*",
    ):
        assert list(made.place.run.glob(pattern)), pattern
    assert any((made.place.folder / "cache").rglob("*-corpus.en"))
    assert not made.leaks()


def test_another_token_for_the_same_files_recomputes_nothing(run: FromUrls, server: Server) -> None:
    before, asked = run.place.published(), len(server.asked)
    done = run.place.kd("run", *run.settings(OTHER))
    assert "Nothing to do: all" in done.stderr
    assert run.place.published() == before and len(server.asked) == asked
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert not run.leaks()


@pytest.mark.parametrize(
    "words",
    [
        *[("plan",), ("plan", "--json"), ("status", "--all"), ("report",), ("release",), ("verify",)],
        *[("run", "--cfg", "job"), ("run", "student.seed=x"), ("run", "recipe=none"), ("run", "stages=[none]")],
    ],
    ids=" ".join,
)
def test_commands_on_such_a_run_show_no_secret(
    run: FromUrls, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    main(run.arguments(*words))
    said = "".join(capsys.readouterr())
    assert said and not [secret for secret in SECRETS if secret in said], said
    assert not run.leaks()


def test_a_bundle_of_such_a_run_has_no_secret(run: FromUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    file = tmp_path / "run.tar"
    assert main(run.arguments("bundle", "--output", str(file), "--without-wheels")) == 0 == check(file)
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    inside = tmp_path / "out" / "kd-bundle"
    assert "token=***" in (inside / "run.sh").read_text() and "token=***" in (
        inside / "recipes" / "own" / "recipe.yaml"
    ).read_text("utf-8")
    assert not leaks(inside)


# Makes the stage report fail as libraries do: they report a URL in parts, and the header with a token.
CRASH = """
import os, sys
if sys.orig_argv[-2:] == ["report", "all"]:
    import json, logging, threading
    from kd.stages.report import Report
    def fail(*_):
        token = json.loads(next(value for name, value in os.environ.items() if name.startswith("KD_URL_")))[1]["token"]
        url = f"https://{USER}:{PASSWORD}@host/x?token={token}"
        raise ValueError(f"a bug at /x?token={token}, {url}, header 'Bearer {os.environ['HF_TOKEN']}'")
    def run(*_):
        logging.getLogger("library").warning("Retrying: /x?token=%s", "of-a-redirect")
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        fail()
    Report.run = run
"""


def test_a_crash_in_a_later_stage_records_no_secret(
    run: FromUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = f"USER, PASSWORD = {USER!r}, {PASSWORD!r}\n"
    (tmp_path / "sitecustomize.py").write_text(names + CRASH, "utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = run.place.kd("run", *run.settings(TOKEN), "report.title=Crash", check=False)
    said = done.stdout + done.stderr
    log = (run.place.run / "logs" / "report" / "all.log").read_text("utf-8")
    assert done.returncode not in (0, 2, 75) and log.count("ValueError: a bug at /x?token=***") >= 2, log
    assert "Retrying: /x?token=***" in log
    assert list(run.place.store.glob("report/*/all.failed.json"))
    assert not [secret for secret in (*SECRETS, "of-a-redirect") if secret in said + log], said
    assert not run.leaks()
