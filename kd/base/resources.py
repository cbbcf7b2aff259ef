"""Find kd's own configuration, recipes and container definitions.

In a checkout they are top-level folders, where people read and edit them. A wheel has them inside the package
(`kd/_data/…`, see pyproject.toml), so that an installed `kd` works from any folder.
"""

import os
from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: Literal["conf", "recipes", "containers"]) -> Path:
    """Return the folder of that name: inside the installed package, or beside `kd/` in the checkout."""
    carried = _PACKAGE / "_data" / name
    if carried.is_dir():
        return carried
    checkout = _PACKAGE.parent
    # Only a checkout has this file beside kd/; an installed package has other packages there.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise FileNotFoundError(f"kd's folder {name}/ is neither at {carried} nor in a checkout: install kd again.")


def cache_folder() -> Path:
    """Return the user's cache folder for kd: `$XDG_CACHE_HOME/kd`, or `~/.cache/kd` if that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "kd"
