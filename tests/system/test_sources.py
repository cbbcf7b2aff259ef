"""A recipe with corpora in many formats, one of them piped in."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kd.corpora.shards import Corpus

pytestmark = pytest.mark.system

RECIPE = """
defaults: [/base, _self_]
pairs:
  en-de: {}
corpus:
  root: ???
  sources:
    pair:
      format: plain
      source: part?.{source}.gz
      target: part?.{target}.gz
      scores: {bicleaner: "part?.scores"}
    table:     {format: tsv, source: table.tsv.xz, columns: {source: 2, target: 1, laser: 3}, licence: CC-BY-4.0}
    memory:    {format: tmx, source: memories.zip, keep: {creationdate: true}, weight: 2.0}
    messages:  {format: catalogue, root: ".", files: "po/{language}.po"}
    piped:     {format: auto, source: "-"}
"""
TMX = """<?xml version="1.0"?>
<tmx version="1.4"><body><tu creationdate="20260101T000000Z"><tuv xml:lang="EN-GB"><seg>good <ph>x</ph>night</seg></tuv>
<tuv xml:lang="FR"><seg>bonne nuit</seg></tuv><tuv xml:lang="DE"><seg>gute Nacht</seg></tuv></tu></body></tmx>"""


def write(folder: Path) -> None:
    """Write the files that the recipe names."""

    (folder / "mixed").mkdir()
    (folder / "mixed" / "recipe.yaml").write_text(RECIPE, "utf-8")
    for part in "21":
        (folder / f"part{part}.en.gz").write_bytes(gzip.compress(f"part {part}".encode()))
        (folder / f"part{part}.de.gz").write_bytes(gzip.compress(f"Teil {part}".encode()))
        (folder / f"part{part}.scores").write_text(f"0.{part}\n", "utf-8")
    (folder / "table.tsv.xz").write_bytes(lzma.compress(b"Tisch\ttable\t0.9\n"))
    with zipfile.ZipFile(folder / "memories.zip", "w") as archive:
        archive.writestr("a.tmx", TMX)
    (folder / "po").mkdir()
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    (folder / "po" / "de.po").write_text(head + 'msgid "open"\nmsgstr "öffnen"\n', "utf-8")


def test_a_recipe_collects_corpora_of_many_formats(tmp_path: Path) -> None:
    write(tmp_path)
    command = [sys.executable, "-m", "kd", "run", f"recipe={tmp_path}/mixed", f"corpus.root={tmp_path}", "upto=collect"]
    command += [f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run", f"corpus.cache={tmp_path}/cache"]
    for told in ("0 of 5 tasks are done, 5 to do", "Nothing to do"):  # the same text again is no other corpus
        done = subprocess.run(command, input="piped\tgeleitet\n", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert told in done.stderr
    folders = {path.name: path for path in (tmp_path / "run" / "collect.en-de").iterdir()}
    found = {
        name: [(pair.source, pair.target, *values) for shard in corpus.shards
               for pair, values in shard.rows(*corpus.columns[3:])]
        for name, corpus in ((name, Corpus(path)) for name, path in folders.items())
    }  # fmt: skip
    assert found == {
        "pair": [("part 1", "Teil 1", "0.1"), ("part 2", "Teil 2", "0.2")],
        "table": [("table", "Tisch", "0.9")],
        "memory": [("good night", "gute Nacht", "20260101T000000Z")],
        "messages": [("open", "öffnen")],
        "piped": [("piped", "geleitet")],
    }
    facts = json.loads((folders["memory"] / "manifest.json").read_text("utf-8"))["facts"]
    assert facts == {"use": "train", "licence": "unknown", "weight": 2.0}
    (kept,) = (tmp_path / "cache" / "stdin").iterdir()
    assert kept.read_text("utf-8") == "piped\tgeleitet\n"


def test_without_a_network_a_file_placed_by_hand_replaces_a_download_of_mtdata(tmp_path: Path) -> None:
    """mtdata's real index, which is made within the cache; the home folder stays empty."""
    (tmp_path / "home").mkdir()
    nowhere = "http://127.0.0.1:9"  # the port of "discard": nothing goes out
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "http_proxy": nowhere, "https_proxy": nowhere}
    for name in ("MTDATA", "no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "kd", "run", "recipe=files", "~pairs.source-target", "+pairs={en-de: {}}"]
    command += ["source=mtdata:Statmt-news_commentary-16-deu-eng", f"corpus.cache={tmp_path}/cache", "upto=collect"]
    command += [f"store.dir={tmp_path}/store", f"run.dir={tmp_path}/run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, told
    # The address is the one that statmt.org gives for version 16 (https://data.statmt.org/news-commentary/v16/training/).
    path = tmp_path / "cache/downloads/data.statmt.org/news-commentary/v16/training/news-commentary-v16.de-en.tsv.gz"
    assert "cannot be reached: " in told
    assert f"Connection refused. Fetch it on a machine that reaches the network and put it there as {path}." in told
    path.write_bytes(gzip.compress(b"eins\tone\n"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (pair,) = Corpus(tmp_path / "run" / "collect.en-de" / "files").read()
    assert (pair.source, pair.target) == ("one", "eins")
    assert list((tmp_path / "home").iterdir()) == []
