"""The test sets that sacreBLEU knows by name (wmt21, wmt20/dev, mtnt2019 …) as parallel text.

sacreBLEU extracts them from their archives, so the text is the one that everybody scores on. kd does the download, and
keeps nothing in the home folder.
"""

from __future__ import annotations

import copy
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.corpora.archives import UNREADABLE
from kd.corpora.download import Say, fetch
from kd.corpora.lines import PathLike
from kd.corpora.plain import read_plain


def read_test_set(
    name: str, source: str, target: str, cache: PathLike, say: Say = lambda *_: None
) -> Iterator[tuple[str, ...]]:
    """Yield source and first reference of a test set; download its files if they are not in the cache.

    Raises UserError for a name or language pair that sacreBLEU does not have, and the errors of `fetch`.
    """
    dataset = copy.copy(_data_set(name))
    pair = f"{source}-{target}"
    if pair not in dataset.langpairs:
        raise UserError(
            f"sacreBLEU's test set {name} has no {pair}.", f"It has {', '.join(sorted(dataset.langpairs))}."
        )
    sums = dataset.md5 or [None] * len(dataset.data)
    files = [
        fetch(url, Path(cache, "downloads"), {"md5": md5} if md5 else None, say=say)
        for url, md5 in zip(dataset.data, sums, strict=True)
    ]
    with scratch_folder(".sacrebleu-", Path(cache)) as folder:
        dataset._outdir, dataset._rawdir = str(folder), str(folder / "raw")
        for url, file in zip(dataset.data, files, strict=True):
            _unpack(file, Path(dataset._rawdir), dataset._get_tarball_filename(url))
        left = dataset.get_source_file(pair)
        yield from read_plain(left, dataset.get_reference_files(pair)[0])


def check_test_set(name: str) -> None:
    """Raise UserError if sacreBLEU has no test set of this name."""
    _data_set(name)


def _data_set(name: str) -> Any:
    import difflib

    from sacrebleu.dataset import DATASETS

    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=3) or sorted(DATASETS)[-8:]
        raise UserError(
            f"sacreBLEU has no test set called {name}.", f"`sacrebleu --list` shows all; near: {', '.join(near)}."
        )
    return DATASETS[name]


def _unpack(file: Path, folder: Path, name: str) -> None:
    """Unpack the archive where sacreBLEU expects it, so that sacreBLEU does not download it again."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(file) as tar:
                tar.extractall(folder, filter="data")
        elif name.endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
    except UNREADABLE as error:
        raise UserError(
            f"The archive {file} cannot be read: {error}.", "Remove it: the next run downloads it again."
        ) from None
    shutil.copyfile(file, folder / name)
