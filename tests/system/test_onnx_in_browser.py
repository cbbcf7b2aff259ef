"""The export to ONNX in a web page: the example of its card, with transformers.js from npm, in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kd.engines import onnx
from kd.engines.loading import Decoding, load
from kd.models.description import Languages, Original
from kd.report.card import Card, render
from tests.system.browser import tab

SENTENCES = ["eins zwei drei.", "sechs vier."]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder, as `python -m http.server` does, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.usefixtures("onnx_libraries")
def test_the_page_of_the_card_translates_when_copied(trained, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    onnx.export(trained.folder, folder, Original(Languages(("de",), ("en",))), beam=4)
    description = json.loads((folder / "model.json").read_bytes())
    card = render(Card("onnx", "onnx", "de", "en", engine=description["engine"], description=description))
    (install,) = re.findall(r"^    (npm pack .*)$", card, re.M)
    subprocess.run(["bash", "-c", install], cwd=folder, check=True, capture_output=True)
    (page,) = re.findall(r"```html\n(.*?)```", card, re.S)
    for english, german in zip(("A sentence.", "Another one."), SENTENCES, strict=True):
        page = page.replace(english, german)
    (folder / "page.html").write_text(page, "utf-8")
    expected = load([trained.folder], Decoding(1, 40, 2000), threads=1, device="cpu")(SENTENCES)
    with served(folder) as address, tab(tmp_path / "browser") as opened:
        opened.send("Page.navigate", url=f"{address}/page.html")
        opened.until("document.body && document.body.textContent.trim() && !document.querySelector('script')")
        assert opened.ask("document.body.textContent").split("\n") == expected
        assert all(url.startswith((address, "data:", "about:", "blob:")) for url in opened.requests())
