"""Implement `kd serve`: models behind LibreTranslate's HTTP API, with a page to try them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kd.base.errors import UserError
from kd.cli.translate import positive

EXAMPLE = "kd serve --model runs/demo/release.en-de/student-int8"
KEY = "KD_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="model folders; the first one for a direction serves it unless a request names another model",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    add("--port", type=int, default=5000, metavar="N", help="port; 0 chooses a free one (default 5000)")
    add(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the key that requests must send as api_key (default: the variable {KEY}, if it is set)",
    )
    add("--allow-origin", nargs="+", default=[], metavar="URL", help="web pages of other hosts that may use the API")
    add("--beam", type=positive, default=4, metavar="N", help="width of the search (default 4)")
    add("--threads", type=positive, metavar="N", help="CPU threads of each model (default: all cores)")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add(
        "--max-characters",
        type=positive,
        default=10_000,
        metavar="N",
        help="most characters in a request (default 10000)",
    )
    add("--max-texts", type=positive, default=500, metavar="N", help="most texts in a request (default 500)")
    add(
        "--queue", type=positive, default=256, metavar="N", help="most requests that may wait for a model (default 256)"
    )
    add("--timeout", type=positive, default=60, metavar="SECONDS", help="time limit of a request (default 60)")


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it. Return the exit status."""
    from kd.serve.app import application
    from kd.serve.limits import Limits
    from kd.serve.metrics import Metrics
    from kd.serve.models import Models
    from kd.serve.server import CONNECTIONS, is_local, listen, serve

    key = _key(options.api_key_file)
    limits = Limits(options.max_characters, options.max_texts, options.queue, options.timeout)
    metrics = Metrics()
    listening = listen(options.host, options.port)
    models = Models(
        options.model,
        beam=options.beam,
        threads=options.threads,
        device=options.device,
        waiting=limits.waiting,
        observe=metrics.batch,
    )
    app = application(models, metrics, limits, beam=options.beam, key=key, origins=options.allow_origin)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    for each in models.directions:
        print(f"kd: {each.model} translates {each.source} to {each.target}.", file=sys.stderr)
    if not is_local(listening) and key is None:
        print("kd: other machines can reach this server, and it requires no API key (--api-key-file).", file=sys.stderr)
    print(f"kd: serving at http://{address}:{port}/ (Ctrl-C stops it)", file=sys.stderr, flush=True)
    connections = limits.waiting * len(options.model) + CONNECTIONS
    serve(app, listening, connections=connections, reading=limits.reading)
    return 0


def _key(file: Path | None) -> str | None:
    """Read the API key."""
    if file is None:
        return os.environ.get(KEY) or None
    try:
        key = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}.", "Give --api-key-file a text file with the key.") from None
    if not key:
        raise UserError(f"{file} is empty.", "Write the key into this file.")
    return key
