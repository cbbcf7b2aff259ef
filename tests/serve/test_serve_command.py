"""`kd serve`: its start, its key, its end, and mistakes in its options."""

from __future__ import annotations

import configparser
import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kd.cli import _parser, main
from kd.engines.ctranslate2 import export
from kd.models.description import Languages, Original
from tests.serve.running import serving

GOOD = {"q": "eins.", "source": "de", "target": "en"}


def test_it_needs_no_training_library(folders: tuple[Path, Path]) -> None:
    from tests.engines.test_light_import import BLOCK

    code = BLOCK + "import kd.serve.app, kd.serve.server, kd.serve.models, kd.engines.ctranslate2"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_requests_need_the_key(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    with serving("--model", folders[0], "--api-key-file", tmp_path / "key") as server:
        assert server.json("/translate", GOOD)[0] == 401
        assert server.json("/translate", {**GOOD, "api_key": "wrong"})[0] == 403
        assert server.json("/translate", {**GOOD, "api_key": "s3crét"})[0] == 403
        assert server.json("/translate", {**GOOD, "api_key": "s3cret"})[0] == 200
        assert server.json("/translate", GOOD, Authorization="Bearer s3cret")[0] == 200
        assert server.json("/frontend/settings")[1]["keyRequired"] is True
        assert server.json("/health")[0] == 200


def test_pages_of_other_hosts_are_allowed_by_name_only(folders: tuple[Path, Path]) -> None:
    with serving("--model", folders[0], "--allow-origin", "https://good.example") as server:
        for origin, allowed in (("https://good.example", True), ("https://bad.example", False)):
            _, _, headers = server.send("GET", "/languages", headers={"Origin": origin})
            assert (headers.get("access-control-allow-origin") == origin) is allowed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_finishes_the_requests_in_work(folders: tuple[Path, Path], number: int) -> None:
    with serving("--model", folders[0], "--beam", "8") as server:
        found: list[tuple[int, dict]] = []
        body = {**GOOD, "q": ["eins zwei drei vier fünf sechs."] * 50}
        thread = threading.Thread(target=lambda: found.append(server.json("/translate", body)))
        thread.start()
        while b"kd_requests_waiting 1.0" not in server.send("GET", "/metrics")[1] and thread.is_alive():
            time.sleep(0.005)
        assert server.stop(number) == 0
        thread.join()
        assert found[0][0] == 200 and len(found[0][1]["translatedText"]) == 50
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port))


def test_a_request_that_takes_too_long_is_given_up(folders: tuple[Path, Path]) -> None:
    with serving("--model", folders[0], "--timeout", "1", "--beam", "16", "--max-characters", "2000000") as server:
        body = {**GOOD, "q": ["eins zwei drei vier fünf sechs sieben acht neun. " * 5] * 500}
        status, answer = server.json("/translate", body)
        assert (status, answer["error"]) == (504, "The translation took more than 1 seconds.")
        until = time.monotonic() + 60
        while server.json("/translate", GOOD)[0] != 200:  # the batch in work ends first
            assert time.monotonic() < until


def test_a_client_that_leaves_takes_its_request_with_it(folders: tuple[Path, Path]) -> None:
    with serving("--model", folders[0], "--beam", "16", "--max-characters", "2000000") as server:
        body = {**GOOD, "q": ["eins zwei drei vier fünf sechs sieben acht neun. " * 5] * 500}
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/translate", json.dumps(body), {"Content-Type": "application/json"})
        until = time.monotonic() + 60
        for state in (b"kd_requests_waiting 1.0", b"kd_requests_waiting 0.0"):
            while state not in server.send("GET", "/metrics")[1]:
                assert time.monotonic() < until
            connection.close()
        assert b'kd_requests_total{path="/translate",status="499"} 1.0' in server.send("GET", "/metrics")[1]


def test_a_model_of_several_languages_is_loaded_once(trained, tmp_path: Path) -> None:
    from kd.serve.models import Models

    export(trained.folder, tmp_path / "many", "float32", Original(Languages(("de",), ("en", "fr", "de"))))
    models = Models([tmp_path / "many"], beam=1, threads=1, device="cpu", waiting=1, observe=lambda *_: None)
    assert [(each.source, each.target) for each in models.directions] == [("de", "en"), ("de", "fr")]
    loaded = {id(each.translator._engine._model._model) for each in models.directions}
    assert len(loaded) == 1
    models.close()


def test_the_unit_and_the_image_start_it_with_options_that_exist() -> None:
    folder = Path(__file__).parents[2] / "containers"
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string((folder / "kd-serve.service").read_text("utf-8"))
    start = shlex.split(unit["Service"]["ExecStart"])
    image = (folder / "serve.Dockerfile").read_text("utf-8")
    (entry,) = [line.removeprefix("ENTRYPOINT ") for line in image.split("\n") if line.startswith("ENTRYPOINT ")]
    for command in (start, [*json.loads(entry), "--model", "/models/a"]):
        options = _parser().parse_args(command[1:])
        assert Path(command[0]).name == "kd" and options.name == "serve" and options.port == 5000


def test_mistakes_are_one_sentence(
    folders: tuple[Path, Path],
    trained,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kd.serve.server.serve", lambda *_, **__: pytest.fail("It serves."))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = [
            (["--model", str(tmp_path / "none")], "There is no folder"),
            (["--model", str(folders[0]), str(folders[0])], "A model folder is given twice."),
            (["--model", str(trained.folder)], "does not state its languages."),
            (["--model", str(folders[0]), "--port", str(taken.getsockname()[1])], "Address already in use."),
            (["--model", str(folders[0]), "--port", "70000"], "70000 is not a port number; the highest is 65535."),
            (["--model", str(folders[0]), "--api-key-file", str(tmp_path / "none")], "cannot be read"),
        ]
        for options, sentence in cases:
            assert main(["serve", "--port", "0", *options]) == 2
            told = capsys.readouterr().err
            last = told.rstrip("\n").split("\n")[-1]
            assert last.startswith("kd: ") and sentence in last and "Traceback" not in told, told
