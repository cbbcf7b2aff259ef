"""Check whether an image can be built on this computer: permissions, disk space, programs.

A missing requirement ends the command with status 2 before anything starts; a possible problem is a note.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from kd.base.errors import UserError
from kd.container.definitions import Definition

# GB that a build takes below TMPDIR (both stages unpacked, pip's downloads) and the image itself: cpu as measured
# (containers/README.md); cuda and rocm estimated from the sizes of their bases and of torch's wheels, not built yet.
TEMPORARY = {"cpu": 6, "cuda": 40, "rocm": 60}
IMAGE = {"cpu": 1, "cuda": 8, "rocm": 15}
_GB = 10**9
# File systems that lose owners and extended attributes, which unpacking an image as another user needs.
_SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.beegfs"}


def check(definition: Definition, image: Path, runtime: str, *, fakeroot: bool, local_base: bool) -> list[str]:
    """Return notes on possible problems; raise UserError that names all missing requirements."""
    missing, notes = _rights(fakeroot)
    name = definition.name
    temporary = Path(os.environ.get("APPTAINER_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")
    missing += _room(
        temporary, TEMPORARY.get(name, 6), "TMPDIR", "set TMPDIR to a folder on a local disk with enough space"
    )
    missing += _room(image.parent, IMAGE.get(name, 1), "the image", "choose another folder with --output")
    if not missing:
        kind = _file_system(temporary)
        if kind in _SHARED and os.geteuid() != 0:
            notes.append(f"TMPDIR {temporary} is on {kind}, where builds without root often fail: use a local disk")
        if _no_programs(temporary):
            missing.append(f"{temporary} is mounted noexec, so nothing built there can run: set TMPDIR")
    if not shutil.which("mksquashfs") and not _beside(runtime, "mksquashfs"):
        missing.append("mksquashfs is missing: install squashfs-tools")
    if missing:
        raise UserError(f"An image cannot be built here: {'; '.join(missing)}.")
    if not local_base and "@" not in definition.base:
        notes.append(
            f"the base {definition.base} is a tag, which may name another image tomorrow: run `kd container pin {name}`"
        )
    return notes


def _rights(fakeroot: bool) -> tuple[list[str], list[str]]:
    """Return the missing requirements for root inside a build, and notes."""
    if os.geteuid() == 0 and not fakeroot:
        return [], []
    user = pwd.getpwuid(os.geteuid()).pw_name
    if not _namespaces():
        return [
            "user namespaces are switched off (sysctl user.max_user_namespaces): build elsewhere, copy the image"
        ], []
    delegated = all(_delegated(Path(file), user) for file in ("/etc/subuid", "/etc/subgid"))
    helpers = [name for name in ("newuidmap", "newgidmap") if not shutil.which(name)]
    if delegated and not helpers:
        return [], []
    why = (
        f"{' and '.join(helpers)} missing (uidmap)"
        if delegated
        else f"no line for {user} in /etc/subuid and /etc/subgid"
    )
    if not shutil.which("fakeroot"):
        return [
            f"{why}, and the alternative, the program fakeroot, is not installed: ask an administrator for one "
            f"of the two"
        ], []
    return [], [f"{why}: building with the program fakeroot instead, in which packages cannot create users"]


def _namespaces() -> bool:
    for file in ("/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"):
        if Path(file).is_file() and Path(file).read_text().strip() == "0":
            return False
    return True


def _delegated(file: Path, user: str) -> bool:
    names = {user, str(os.geteuid())}
    return file.is_file() and any(line.split(":")[0] in names for line in file.read_text().split("\n"))


def _room(folder: Path, wanted: int, what: str, hint: str) -> list[str]:
    if not folder.is_dir():
        return [f"the folder of {what}, {folder}, does not exist"]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [f"{folder} cannot be written to: {hint}"]
    free = shutil.disk_usage(folder).free
    return [] if free >= wanted * _GB else [f"{folder} has {free / _GB:.1f} GB free and {what} takes {wanted}: {hint}"]


def _mount(folder: Path) -> tuple[str, set[str]]:
    """Return the type and the options of the file system of a folder."""
    best, found = "", ("", set[str]())
    for line in Path("/proc/self/mounts").read_text().split("\n"):
        fields = line.split()
        if len(fields) >= 4 and (folder.resolve() / "x").is_relative_to(fields[1]) and len(fields[1]) >= len(best):
            best, found = fields[1], (fields[2], set(fields[3].split(",")))
    return found


def _file_system(folder: Path) -> str:
    return _mount(folder)[0]


def _no_programs(folder: Path) -> bool:
    return "noexec" in _mount(folder)[1]


def _beside(runtime: str, program: str) -> bool:
    found = shutil.which(runtime)
    return found is not None and any((Path(found).resolve().parents[1] / "libexec").glob(f"**/{program}"))
