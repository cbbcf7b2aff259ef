"""A real image, built by Apptainer from kd-cpu.def on a small Debian; the build runs its `%test`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from container_runtime import kd, path_with_apptainer, registry

from kd.container import checking, definitions
from kd.container.images import Record

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("image")]


@pytest.fixture(scope="session")
def path() -> str:
    """Return a PATH with apptainer."""
    return path_with_apptainer()


def inside(path: str, image: Path, *arguments: str, verb: str = "exec", cwd: Path) -> str:
    """Return the output of a command in an image, run by Apptainer itself."""
    command = ["env", f"PATH={path}", "apptainer", verb, *arguments[:0], str(image), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", definitions.names())
def test_apptainers_parser_takes_every_definition(path: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)
    assert checking.parse_fault("apptainer", definitions.find(name).path) is None
    assert [finding.what for finding in checking.check(definitions.find(name)) if finding.good is False] == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("%runscript", "%runscrpt", "invalid section"),
        ("Stage: run", "Stgae: run", "invalid header keyword"),
        ("From: {{ BASE }}", "From: {{ BAZE }}", "BAZE is not defined"),
    ],
)
def test_apptainers_parser_names_the_fault_of_a_definition(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, told: str
) -> None:
    monkeypatch.setenv("PATH", path)
    broken = tmp_path / "kd-cpu.def"
    broken.write_text(definitions.find("cpu").path.read_text("utf-8").replace(before, after))
    assert told in str(checking.parse_fault("apptainer", broken))


def test_a_tag_is_pinned_by_asking_a_real_registry(path: str, tmp_path: Path) -> None:
    layout, definition = tmp_path / "layout", tmp_path / "kd-cpu.def"
    digest = write_empty_image(layout)
    (tmp_path / "locks").mkdir()
    text = definitions.find("cpu").path.read_text("utf-8")
    with registry(tmp_path) as address:
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{address}/base:1"]
        subprocess.run(copy, check=True, capture_output=True)
        definition.write_text(text.replace("debian:bookworm-slim", f"{address}/base:1"))
        said = kd("container", "pin", str(definition), "--", "--tls-verify=false", path=path, cwd=tmp_path).stdout
        assert f"{address}/base@{digest}" in said
        refused = kd("container", "pin", str(definition), path=path, cwd=tmp_path, check=False, HTTPS_PROXY="")
        assert refused.returncode == 2
        assert "skopeo does not resolve" in refused.stderr
    pinned = definition.read_text("utf-8")
    assert pinned.count(f"BASE={address}/base@{digest}") == 2
    assert "skopeo inspect --no-tags" in pinned


def write_empty_image(layout: Path) -> str:
    """Write an OCI image without layers to a folder; return its digest, the hash of its manifest."""
    import hashlib

    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    kind = "application/vnd.oci.image"
    empty = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": {}}
    config = {"mediaType": f"{kind}.config.v1+json", **put(empty)}
    manifest = put({"schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json", "config": config, "layers": []})
    entry = {
        "mediaType": f"{kind}.manifest.v1+json",
        **manifest,
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return str(manifest["digest"])


def test_the_record_beside_the_image_describes_its_content(image: Path) -> None:
    record = Record(**json.loads(Path(f"{image}.json").read_text("utf-8")))
    assert record.bytes == image.stat().st_size
    assert record.sha256 == subprocess.check_output(["sha256sum", str(image)], text=True).split()[0]
    lock = definitions.find("cpu").lock
    assert record.lock_sha256 == subprocess.check_output(["sha256sum", str(lock)], text=True).split()[0]
    assert record.versions["fairseq"] == "0.12.2"
    log = Path(f"{image}.log").read_text("utf-8")
    assert "trained and decoded:" in log
    assert "versions: those of containers/locks/cpu.txt" in log


def test_its_programs_labels_and_help(image: Path, path: str, tmp_path: Path) -> None:
    labels = inside(path, image, verb="inspect", cwd=tmp_path)
    assert "org.opencontainers.image.licenses: Apache-2.0" in labels
    assert inside(path, image, verb="run-help", cwd=tmp_path).count("apptainer run ") == 3
    assert inside(path, image, "--version", verb="run", cwd=tmp_path).startswith("kd ")
    (tmp_path / "ref").write_text("a b c d e\n")
    (tmp_path / "out").write_text("a b c d e\n")
    app = ["env", f"PATH={path}", "apptainer", "run", "--app", "sacrebleu", str(image), "ref", "-i", "out", "-b"]
    assert subprocess.check_output(app, cwd=tmp_path, text=True).strip() == "100.0"
    app[app.index("sacrebleu")] = "fairseq-score"
    assert "usage: fairseq-score" in subprocess.check_output([*app[:7], "--help"], cwd=tmp_path, text=True)


def test_evaluate_prints_the_same_inside_and_outside(image: Path, path: str, tmp_path: Path) -> None:
    (tmp_path / "ref.de").write_text("eine Katze auf der Matte\nnoch einmal die ganze Welt\n" * 20)
    (tmp_path / "a.de").write_text("eine Katze auf der Matte\nnoch einmal die Welt\n" * 20)
    (tmp_path / "b.de").write_text("die Katze auf einer Matte\nnoch einmal die ganze Welt\n" * 20)
    words = ["evaluate", "--reference", "ref.de", "--hypothesis", "a.de", "b.de"]
    outside = kd(*words, path=path, cwd=tmp_path, COLUMNS="80").stdout
    assert "BLEU" in outside and "b.de" in outside
    assert inside(path, image, *words, verb="run", cwd=tmp_path).strip() == outside.strip()


def test_a_shell_inside_has_the_images_programs(image: Path, path: str, tmp_path: Path) -> None:
    """Whatever the user's .bashrc puts first on the PATH: home is in there too."""
    (tmp_path / "python").write_text("#!/bin/sh\necho the host\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / ".bashrc").write_text(f"export PATH={tmp_path}:$PATH\n")
    ours, theirs = pty.openpty()
    shell = [sys.executable, "-m", "kd", "container", "exec", str(image)]
    environment = {**os.environ, "PATH": path, "APPTAINER_HOME": str(tmp_path)}
    with subprocess.Popen(shell, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path) as process:
        os.close(theirs)
        os.write(ours, b"command -v python kd; pwd; touch /opt/kd/x; exit 7\n")
        said = b""
        with suppress(OSError):  # so a terminal tells that nobody is at its other end
            while piece := os.read(ours, 4096):
                said += piece
    os.close(ours)
    assert process.returncode == 7, said
    for wanted in ("/opt/kd/bin/python", "/opt/kd/bin/kd", str(tmp_path), "'/opt/kd/x': Read-only file system"):
        assert f"{wanted}\r\n".encode() in said, said


def test_users_without_a_home_can_use_the_read_only_image(image: Path, path: str, tmp_path: Path) -> None:
    """As a user without a home of its own, whose only folder is the one it stands in."""
    script = (
        "import numba, os, pathlib, sys\n"
        "assert sys.prefix == '/opt/kd', sys.prefix\n"
        "assert not any('site-packages' in p and not p.startswith('/opt/kd') for p in sys.path), sys.path\n"
        "cache = os.environ['NUMBA_CACHE_DIR']\n"
        "assert cache.startswith('/tmp/kd-cache-'), cache\n"
        "from kd.metrics import compiled\n"
        "try: pathlib.Path('/opt/kd/x').write_text('')\n"
        "except OSError as error: print(error.errno)\n"
    )
    (tmp_path / "script.py").write_text(script)
    tmp_path.chmod(0o777)
    flags = ["--no-home", "--bind", str(tmp_path), "--pwd", str(tmp_path)]
    command = ["apptainer", "exec", *flags, str(image), "python", "script.py"]
    done = subprocess.run(["env", f"PATH={path}", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "30"  # EROFS, "Read-only file system"


def test_kd_container_exec_and_list(image: Path, path: str) -> None:
    said = kd("container", "exec", image.name, "--", "python", "-m", "kd", "--version", path=path, cwd=image.parent)
    assert said.stdout.startswith("kd ")
    failed = kd("container", "exec", str(image), "--", "sh", "-c", "exit 7", path=path, cwd=image.parent, check=False)
    assert failed.returncode == 7
    listed = kd("container", "list", path=path, cwd=image.parent).stdout
    assert [line for line in listed.split("\n") if line.split()[:1] == ["cpu"] and "kd-cpu.sif" in line]
    checked = kd("container", "check", "cpu", path=path, cwd=image.parent).stdout
    assert "was built from this lock" in checked
