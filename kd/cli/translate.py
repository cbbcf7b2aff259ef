"""Implement `kd translate`: translate standard input with any model folder, one output line per input line.

Lines are translated as they arrive, a few thousand at most at once, so memory does not grow with the input.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import UserError

READ_BYTES = 1 << 16
WAITING = 4096  # lines read ahead
EXIT_INTERRUPTED = 130
EXAMPLE = "kd translate --model runs/demo/release.en-de/student-int8 < source.en > target.de"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folder of an exported model, or folders of trained models",
    )
    add("--to", metavar="LANGUAGE", help="target language, for a model with several: de")
    add("--from", dest="source", metavar="LANGUAGE", help="source language, for a multilingual fairseq model: en")
    add("--beam", type=positive, default=4, metavar="N", help="width of the search (default 4)")
    add(
        "--nbest",
        type=positive,
        metavar="N",
        help="print the N best translations of each line in the Moses format, with scores; the beam is at least N",
    )
    add("--score", action="store_true", help="print each translation's score and a tab before it")
    add("--max-pieces", type=positive, metavar="N", help="longest translation of a sentence, in tokens (default 256)")
    add(
        "--length-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="length penalty: exponent of the length (default 1.0)",
    )
    add("--batch-tokens", type=positive, default=2000, metavar="N", help="source tokens per batch (default 2000)")
    add("--threads", type=positive, metavar="N", help="CPU threads (default: all cores)")
    add("--allow-unk", action="store_true", help="allow unknown symbols and broken UTF-8 in translations")
    add("--as-is", action="store_true", help="read text unchanged, without the normalisation of training text")
    add("--device", choices=["cpu", "cuda"], default="cpu")


def positive(text: str) -> int:
    """Read a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def run(options: argparse.Namespace) -> int:
    """Translate standard input. Return the exit status."""
    from kd.engines.translator import Translation, Translator

    nbest = options.nbest or 1
    translator = Translator(
        options.model,
        beam=max(options.beam, nbest),
        nbest=nbest,
        max_pieces=options.max_pieces,
        length_penalty=options.length_penalty,
        batch_tokens=options.batch_tokens,
        threads=options.threads,
        device=options.device,
        to=options.to,
        source=options.source,
        as_is=options.as_is,
        disable_unk=not options.allow_unk,
    )
    number = 0
    out = sys.stdout.buffer

    def lines_of(found: list[Translation]) -> Iterator[str]:
        if options.nbest:
            from kd.corpora.moses import SEPARATOR, escape

            for each in found:
                features = f"F0= {each.score!r}"
                yield SEPARATOR.join((str(number), escape(each.text), features, repr(each.score)))
        elif options.score:
            yield f"{found[0].score!r}\t{found[0].text}"
        else:
            yield found[0].text

    try:
        for window in windows(sys.stdin.fileno()):
            for found in translator.window(window.lines):
                for line in lines_of(found):
                    out.write(line.encode("utf-8", "replace") + b"\n")
                number += 1
            out.flush()  # the answer is visible before more input is read
            if window.error:
                raise window.error
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


@dataclass
class Window:
    """Lines that arrived together, and the error that follows them if there is one."""

    lines: list[str]
    error: UserError | None = None


def windows(source: int) -> Iterator[Window]:
    """Yield the lines of a file descriptor in windows: all lines that have arrived, a few thousand at most.

    Invalid UTF-8 ends the input; the last window carries a UserError.
    """
    from kd.engines.translator import WINDOW

    waiting: queue.Queue[bytes | None] = queue.Queue(WAITING)
    threading.Thread(target=_feed, args=(source, waiting), daemon=True).start()
    number = 0
    ended = False
    while not ended:
        raw = [waiting.get()]
        while raw[-1] is not None and len(raw) < WINDOW:
            try:
                raw.append(waiting.get_nowait())
            except queue.Empty:
                break
        ended = raw[-1] is None
        window = Window([])
        for line in raw[:-1] if ended else raw:
            number += 1
            try:
                assert line is not None
                window.lines.append(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                what = f"Standard input, line {number}: byte {error.start + 1} of the line is not valid UTF-8."
                window.error = UserError(what, "Convert it to UTF-8 (iconv does); the lines before it are translated.")
                ended = True
                break
        yield window


def _feed(source: int, waiting: queue.Queue[bytes | None]) -> None:
    """Put lines into a queue. Reads the descriptor itself, since a thread waiting in sys.stdin would block the exit."""
    rest = b""
    while data := os.read(source, READ_BYTES):
        *lines, last = data.split(b"\n")
        if lines:
            waiting.put(rest + lines[0])
            for line in lines[1:]:
                waiting.put(line)
            rest = last
        else:
            rest += last
    if rest:
        waiting.put(rest)
    waiting.put(None)
