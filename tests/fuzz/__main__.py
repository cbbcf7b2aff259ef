"""`python -m tests.fuzz [INPUTS [READER …]]`: run mutated inputs of each reader and print the ones that fail."""

from __future__ import annotations

import sys

from tests.fuzz.readers import READERS
from tests.fuzz.running import failures

if __name__ == "__main__":
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    failed = 0
    for reader in READERS:
        if sys.argv[2:] and reader.name not in sys.argv[2:]:
            continue
        found = failures(reader, inputs)
        failed += len(found)
        print(f"{reader.name}: {inputs} inputs, {len(found)} failures", *found[:20], sep="\n  ", flush=True)
    sys.exit(bool(failed))
