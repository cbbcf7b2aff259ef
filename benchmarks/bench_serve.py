"""`kd serve` beside bare CTranslate2, on the same CPU, in one run: requests/s and latency at 1, 8 and 64 clients.

    python -m benchmarks.bench_serve --model runs/demo/release.en-de/student-int8 --text test.en
    python -m benchmarks.bench_serve --model DIR --text test.en --clients --memory 100000

Each request is one sentence. `ours` goes over HTTP, a connection for each client; the stock work is CTranslate2's own
`translate_batch` on the tokens of one sentence, called by as many threads as there are clients on a model with as many
threads. `--memory N` sends N requests of at most `--words` words each from `--memory-clients` connections, prints the
server's resident memory before them and after each tenth, and its growth since the first tenth.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.ratio import alternate, heading
from kd.engines.ctranslate2 import load
from kd.models.folder import ModelFolder
from kd.models.matching import load_processor

CLIENTS = (1, 8, 64)


def main() -> None:
    """Measure both at each number of clients, then the memory if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="an exported model")
    add("--text", type=Path, required=True, help="sentences of its source language, one on a line")
    add("--clients", type=int, nargs="*", default=list(CLIENTS), help="none: only --memory")
    add("--requests", type=int, default=600, help="in each round")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2, help="of the model")
    add("--beam", type=int, default=4)
    add("--memory", type=int, metavar="N", help="send N requests and follow the server's memory")
    add("--memory-clients", type=int, default=64)
    add("--words", type=int, default=8, help="longest sentence, in words, of the requests of --memory")
    options = parser.parse_args()
    lines = [line for line in options.text.read_text("utf-8").split("\n") if line.strip()]
    source, target = (codes[0] for codes in (ModelFolder.open(options.model).languages.source,
                                             ModelFolder.open(options.model).languages.target))  # fmt: skip
    body = {"source": source, "target": target}
    print(heading(f"kd serve beside CTranslate2, {options.threads} threads, beam {options.beam}"))
    with serving(options) as port:
        for clients in options.clients:
            texts = list(islice(cycle(lines), options.requests))
            latencies: tuple[list[float], list[float]] = ([], [])
            ours = over_http(port, body, clients, texts, latencies[0])
            stock = bare(options, clients, texts, latencies[1])
            found = alternate(ours, stock, options.rounds)
            tails = ", ".join(f"{name} p50 {percentile(each, 50):.1f} ms, p99 {percentile(each, 99):.1f} ms"
                              for name, each in zip(("ours", "stock"), latencies, strict=True))  # fmt: skip
            print(f"{clients} clients: {found.speedup()} as fast; {found.rates(len(texts), 'requests')}; {tails}")
        if options.memory:
            short = [line for line in lines if len(line.split()) <= options.words]
            follow_memory(port, body, short, options.memory, options.memory_clients)


def over_http(
    port: int, body: dict[str, str], clients: int, texts: Sequence[str], latencies: list[float]
) -> Callable[[], None]:
    """Return work that sends all texts over `clients` connections."""

    def client(share: Sequence[str]) -> Iterator[None]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for text in share:
            connection.request(
                "POST", "/translate", json.dumps({**body, "q": text}), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content
            yield
        connection.close()

    return lambda: in_threads(client, clients, texts, latencies)


def bare(options: argparse.Namespace, clients: int, texts: Sequence[str], latencies: list[float]) -> Callable[[], None]:
    """Return work that translates all texts by CTranslate2 alone, from `clients` threads."""
    model = ModelFolder.open(options.model)
    processor = load_processor(model.vocabulary)
    translator = load(model.weights.parent, compute_type="default", threads=options.threads, device="cpu")

    def client(share: Sequence[str]) -> Iterator[None]:
        for text in share:
            found = translator.translate_batch([processor.encode(text, out_type=str)], beam_size=options.beam)
            processor.decode(found[0].hypotheses[0])
            yield

    return lambda: in_threads(client, clients, texts, latencies)


def in_threads(
    client: Callable[[Sequence[str]], Iterator[None]], clients: int, texts: Sequence[str], latencies: list[float]
) -> None:
    """Share the texts among threads, and keep the seconds of each request."""
    failed: list[BaseException] = []

    def run(share: Sequence[str]) -> None:
        try:
            start = time.perf_counter()
            for _ in client(share):
                latencies.append(time.perf_counter() - start)
                start = time.perf_counter()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(texts[number::clients],)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def percentile(seconds: Sequence[float], share: int) -> float:
    """Return a percentile in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def follow_memory(port: int, body: dict[str, str], lines: Sequence[str], requests: int, clients: int) -> None:
    """Send requests in ten parts and print the server's memory before them and after each.

    The growth is counted from the first part on, in which the server's buffers reach their size.
    """
    if not lines:
        raise SystemExit("No sentence is that short. Give a larger --words.")
    texts, start = cycle(lines), time.perf_counter()
    print(f"memory before the first of {requests:,} requests from {clients} clients: {memory(port):.1f} MB", flush=True)
    measured = []
    for part in range(1, 11):
        sent = requests * part // 10 - requests * (part - 1) // 10
        over_http(port, body, clients, list(islice(texts, sent)), [])()
        measured.append(memory(port))
        print(f"memory after {requests * part // 10:,} requests, {time.perf_counter() - start:.0f} s: "
              f"{measured[-1]:.1f} MB", flush=True)  # fmt: skip
    growth = measured[-1] - measured[0]
    print(f"growth since the first tenth: {growth:+.1f} MB ({growth / measured[0]:+.1%})")


def memory(port: int) -> float:
    """Return the server's resident memory in megabytes, as its own metrics state it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    found = re.search(r"^process_resident_memory_bytes (\S+)", connection.getresponse().read().decode(), re.M)
    assert found
    return float(found[1]) / 1e6


@contextmanager
def serving(options: Any) -> Iterator[int]:
    """Run the server; yield its port."""
    command = [sys.executable, "-m", "kd", "serve", "--model", str(options.model), "--port", "0", "--beam",
               str(options.beam), "--threads", str(options.threads)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        ports = (re.search(r"serving at http://[^ ]*:(\d+)/", line) for line in process.stderr)
        yield next(int(port[1]) for port in ports if port)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
