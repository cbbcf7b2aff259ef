"""How well `kd plan --probe` foretells a run: the forecast of a CPU recipe, then the run, stage by stage.

The recipe has a size and widths of its own (--pairs, --width), so that no earlier run says anything; store and cache of
probes are empty. Where other work shares the machine, wall times drift: CPU seconds are the fairer comparison. Or it is
a recipe of the project (--recipe demo), whose run may be there already (--store).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ratio import heading
from text import pairs

RECIPE = """\
defaults: [base, override /teacher: tiny_3_3, override /student: tiny_4_2, _self_]
pairs: {{xx-yy: {{}}}}
corpus:
  root: ???
  sources: {{generated: {{format: plain, source: corpus.xx, target: corpus.yy}}}}
split: {{dev: 100, test: 100}}
shard: {{lines: 1000}}
vocabulary: {{size: {vocabulary}}}
encode: {{max_pieces: 64}}
checkpoint: {{every: {every}, keep: 2, average: 2}}
teacher:
  model: {{width: {width}, ffn: {ffn}}}
  batch: {{target_tokens: 1100}}
  optimizer: {{warmup_updates: 20}}
  max_update: {updates}
student:
  model: {{width: {narrow}, ffn: {ffn}}}
  batch: {{target_tokens: 1100}}
  optimizer: {{warmup_updates: 20}}
  max_update: {updates}
decode: {{beam: 4, nbest: 4, max_pieces: 64, workers: 2}}
evaluate: {{bootstrap: 200, translate: {{max_pieces: 64}}, speed: {{sentences: 30, repeats: 1}}}}
"""


def main() -> None:
    """Probe, plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--words", type=int, default=12, help="of a sentence")
    parser.add_argument("--width", type=int, default=160, help="of the teachers; the student has three quarters of it")
    parser.add_argument("--vocabulary", type=int, default=1500)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--recipe", nargs="+", metavar="WORD", help="another recipe, and what else to tell kd")
    parser.add_argument("--store", type=Path, help="where that recipe has run; the plan does not see it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd-plan-") as name:
        folder = Path(name)
        if options.recipe:
            name, *others = options.recipe
            arguments = [f"recipe={name}", *others, f"store.dir={folder}/store", f"run.dir={folder}/run"]
            title = f"Forecast and run of {name}"
        else:
            arguments = _recipe(folder, options)
            title = f"Forecast and run of {options.pairs:,} pairs, {options.width} wide"
        began = time.perf_counter()
        plan = json.loads(_kd(folder, "plan", "--probe", "--json", *arguments))
        print(heading(title))
        print(f"Probe and plan: {time.perf_counter() - began:.0f} s, {_cpu():.0f} s of CPU")
        if options.store:
            _compare(options.store, plan, None)
            return
        before, began = _cpu(), time.perf_counter()
        _kd(folder, "run", *arguments)
        _compare(folder / "store", plan, (time.perf_counter() - began, _cpu() - before))


def _recipe(folder: Path, options: argparse.Namespace) -> list[str]:
    """Write recipe and corpus; return the arguments that all commands share."""
    values = {
        "vocabulary": options.vocabulary,
        "width": options.width,
        "narrow": options.width * 3 // 4,
        "ffn": options.width * 3,
        "updates": options.updates,
        "every": max(1, options.updates // 4),
    }
    (folder / "foretold").mkdir()
    (folder / "foretold" / "recipe.yaml").write_text(RECIPE.format(**values), "utf-8")
    rows = list(pairs(options.pairs, 5, options.words))
    for column, side in enumerate(("xx", "yy")):
        (folder / f"corpus.{side}").write_text("".join(f"{row[column]}\n" for row in rows), "utf-8", newline="\n")
    places = [f"corpus.root={folder}", f"store.dir={folder}/store", f"run.dir={folder}/run", "corpus.cache=cache"]
    return [f"recipe={folder}/foretold", *places]


def _kd(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kd", *arguments],
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _between(manifests: list[dict[str, Any]]) -> float:
    """Seconds from the begin of the first task to the end of the last."""
    ends = [datetime.fromisoformat(manifest["finished"]).timestamp() for manifest in manifests]
    begins = [end - manifest["seconds"] for end, manifest in zip(ends, manifests, strict=True)]
    return max(ends) - min(begins)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _compare(store: Path, plan: dict[str, Any], taken: tuple[float, float] | None) -> None:
    """taken: seconds of the run, on the clock and of CPU; None: by its manifests, which know nothing of the second."""
    seconds: defaultdict[str, float] = defaultdict(float)
    kept: defaultdict[str, float] = defaultdict(float)
    found = (json.loads(path.read_text("utf-8")) for path in store.glob("*/*/*/manifest.json"))
    # Where a task was made more than once, with other settings, the last one counts.
    latest = {(each["stage"], each["task"]): each for each in sorted(found, key=lambda each: str(each["finished"]))}
    manifests = [each for each in latest.values() if each["stage"] in {stage["stage"] for stage in plan["stages"]}]
    for manifest in manifests:
        seconds[manifest["stage"]] = max(seconds[manifest["stage"]], manifest["seconds"])
        kept[manifest["stage"]] += manifest["bytes"]
    print("| stage | longest task foretold, s | took, s | ratio | kept foretold, kB | kept, kB | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for stage in plan["stages"]:
        name, told, size = stage["stage"], stage["seconds_of_a_task"]["value"], stage["bytes_kept"]["value"]
        print(f"| {name} | {told:.1f} | {seconds[name]:.1f} | {told / seconds[name]:.2f} "
              f"| {size / 1e3:,.0f} | {kept[name] / 1e3:,.0f} | {size / kept[name]:.2f} |")  # fmt: skip
    wall = taken[0] if taken else _between(manifests)
    told = plan["totals"]["wall_time"]["value"]
    used = sum(stage["cpu_seconds"] or 0.0 for stage in plan["stages"])
    print(f"Wall time: foretold {told:.0f} s, took {wall:.0f} s, ratio {told / wall:.2f}")
    if not taken:
        return
    cpu = taken[1]
    print(f"CPU time: foretold {used:.0f} s, took {cpu:.0f} s, ratio {used / cpu:.2f}")


if __name__ == "__main__":
    main()
