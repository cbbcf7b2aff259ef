"""Look a corpus up in mtdata's index, in a separate process: `python -m kd.corpora.mtdata_index ID SOURCE TARGET`.

Making the index takes 0.8 GB of memory, and importing mtdata configures logging; both end with this process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from kd.base.text import did_you_mean


def look_up(name: str, source: str, target: str) -> dict[str, Any]:
    """Return mtdata's entry for an id, as JSON types, or `{"error": …, "hint": …}`. MTDATA is the index's folder."""
    from mtdata.entry import DatasetId
    from mtdata.index import INDEX
    from mtdata.iso.bcp47 import BCP47Tag, bcp47

    form = "An id is GROUP-NAME-VERSION-SOURCE-TARGET, as `mtdata list -id -l eng-deu` prints it."
    try:
        wanted = DatasetId.parse(name)
    except Exception as error:  # mtdata raises assertions, ValueError and bare exceptions here
        return {"error": f"{name} is not an id of mtdata: {_flat(error)}.", "hint": form}
    if wanted not in INDEX and len(wanted.langs) == 2:  # ids name the languages in an order of their own
        group_name_version, one, other = name.rsplit("-", 2)
        swapped = DatasetId.parse(f"{group_name_version}-{other}-{one}")
        wanted = swapped if swapped in INDEX else wanted
    if wanted not in INDEX:
        alike = [str(other) for other in INDEX.entries if other.name == wanted.name or other.langs == wanted.langs]
        return {
            "error": f"mtdata has no corpus {name}.",
            "hint": did_you_mean(name, alike, count=3) or form,
        }
    entry = INDEX[wanted]
    try:
        fits, swaps = BCP47Tag.check_compat_swap((bcp47(source), bcp47(target)), wanted.langs)
    except Exception as error:
        return {"error": f"{name} cannot be matched with {source}-{target}: {_flat(error)}.", "hint": ""}
    if len(wanted.langs) != 2 or not fits:
        return {
            "error": f"{name} is not a corpus of {source}-{target}.",
            "hint": "Name another corpus, or set corpus.sources.….pairs to the pairs that it is read for.",
        }
    return {
        "urls": [entry.url] if isinstance(entry.url, str) else list(entry.url),
        "filename": entry.filename,
        "extension": entry.ext,
        "kind": entry.in_ext or entry.ext,
        "members": list(entry.in_paths or []),
        "columns": list(entry.cols or []),
        "swapped": bool(swaps),
    }


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


if __name__ == "__main__":
    print(json.dumps(look_up(*sys.argv[1:])))
