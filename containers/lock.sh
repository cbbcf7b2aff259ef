#!/usr/bin/env bash
# Makes the locks: containers/locks/VARIANT.txt (what kd runs with) and containers/locks/tools.txt (tests and linters).
#
#   containers/lock.sh [VARIANT]        VARIANT: cpu (default), cuda or rocm; each has a containers/locks/VARIANT.in
#
# cpu resolves pyproject.toml's ranges, with cpu.in as constraints, in a fresh temporary environment, and writes what pip
# then lists, and the same for tools.txt. cuda is cpu.txt with what torch's CUDA build brings: resolved by pip, and not
# downloaded (gigabytes). rocm is cpu.txt without torch, which the base image has. So make cpu first, then the others.
# Each entry has the SHA-256 of every file of that version on the package index, so that another Python or processor has
# its own; torch also that of the CPU wheel that pip finds here. Nothing is replaced unless all of it worked.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

variant=${1:-cpu}
locks=containers/locks
python=${PYTHON:-python3.11}

if [ ! -f "$locks/$variant.in" ]; then
    echo "lock.sh: there is no $locks/$variant.in: write one, it holds the versions that must not move." >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    echo "lock.sh: locks are made with Python 3.11, the oldest that kd supports, and $python is not one: set PYTHON=…" >&2
    exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The requirements that pyproject.toml states: of everything that runs, or of the extras named.
stated() {
    "$python" - "$@" <<'PYTHON'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    tables = tomllib.load(file)
project = tables["project"]
extras = project["optional-dependencies"]
# Without build isolation kd's own build needs its backend in the environment: it belongs to what runs.
wanted = sys.argv[1:] or ["train", "comet", "ja", "ko"]
lines = [line for extra in wanted for line in extras[extra]]
print(*(lines if sys.argv[1:] else project["dependencies"] + lines + tables["build-system"]["requires"]), sep="\n")
PYTHON
}

# Every package but kd and fairseq, which have steps of their own. A local version (+cpu) depends on where pip found the
# wheel, not on what is in it: left out, the lock installs from either kind of index.
frozen() {
    "$work/venv/bin/python" -m pip list --format freeze |
        sed -E '/^(kd|fairseq|uv)==/d; s/\+[^+]*$//' | LC_ALL=C sort -f
}

# Fails early rather than write a "cpu" lock that drags in CUDA.
cpu_only() {
    if [ "$variant" = cpu ] && grep -qiE '^(nvidia-(cublas|nccl)|triton)' "$work/run"; then
        echo "lock.sh: pip found torch's CUDA build, which does not belong into the cpu lock: point pip to an index or" >&2
        echo "folder that has the CPU wheel (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS) and call again." >&2
        exit 2
    fi
}

# A list of package==version, with hashes.
hashed() {
    "$work/venv/bin/uv" pip compile --quiet --no-config --no-deps --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --python-version 3.11 "$1" | plus_cpu_torch
}

# The CPU wheel of torch may come from another index or a folder: its hash goes with the others.
plus_cpu_torch() {
    local text digest=
    text=$(cat)
    if grep -q '^torch==' <<<"$text"; then
        "$work/venv/bin/python" -m pip install --quiet --no-input --dry-run --no-deps --ignore-installed --report \
            "$work/torch" "$(grep -o '^torch==[^ ]*' <<<"$text")"
        digest=$("$work/venv/bin/python" -c '
import json, sys
print(json.load(open(sys.argv[1]))["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"])' "$work/torch")
        if ! grep -q "$digest" <<<"$text"; then
            text=$(awk -v line="    --hash=sha256:$digest \\\\" '{ print } /^torch==/ { print line }' <<<"$text")
        fi
    fi
    printf '%s\n' "$text"
}

header() {
    echo "# $1"
    echo "# Made by 'make lock' (containers/lock.sh $variant) on $(date -u +%F) with Python $("$python" -c \
        'import platform; print(platform.python_version())') on $(uname -sm); not to be edited by hand."
}

install() {
    "$work/venv/bin/python" -m pip install --quiet --no-input --progress-bar off --upgrade "$@"
}

# What pip would install, by its own report: package==version, one a line.
reported() {
    "$work/venv/bin/python" -c '
import json, re, sys
for item in json.load(open(sys.argv[1]))["install"]:
    print(re.sub(r"\+.*", "", "{name}=={version}".format(**item["metadata"])))' "$1"
}

cuda_only() {
    if ! grep -qE '^nvidia-(cublas|nccl)' "$work/run"; then
        echo "lock.sh: pip found torch's CPU build, which does not belong into the cuda lock: point pip to an index whose" >&2
        echo "torch is the CUDA one, as the plain package index is." >&2
        exit 2
    fi
}

if [ "$variant" = rocm ]; then
    { header "What kd runs with, rocm variant: exact versions and hashes. torch is the base image's."
      awk '/^#/ { next } /^[^ ]/ { torch = /^torch==/ } !torch' "$locks/cpu.txt"; } > "$work/run.txt"
    mv "$work/run.txt" "$locks/rocm.txt"
    exit 0
fi

"$python" -m venv "$work/venv"
install pip wheel uv

if [ "$variant" = cuda ]; then
    echo "lock.sh: resolving what torch's CUDA build brings …" >&2
    stated > "$work/run.in"
    # (pip and wheel are no requirements of anything: the cpu lock has them because an installation begins with them.)
    grep -oE '^(pip|wheel)==[^ ]+' "$locks/cpu.txt" >> "$work/run.in"
    grep -oE '^[^ #]+==[^ ]+' "$locks/cpu.txt" > "$work/cpu"
    "$work/venv/bin/python" -m pip install --quiet --no-input --dry-run --ignore-installed --only-binary :all: \
        --no-binary antlr4-python3-runtime --report "$work/report" -c "$work/cpu" -c "$locks/cuda.in" -r "$work/run.in"
    reported "$work/report" | LC_ALL=C sort -f > "$work/run"
    cuda_only
    { header "What kd runs with, cuda variant: exact versions and hashes."; hashed "$work/run"; } > "$work/run.txt"
    mv "$work/run.txt" "$locks/cuda.txt"
    exit 0
fi

echo "lock.sh: resolving what kd runs with ($variant) …" >&2
stated > "$work/run.in"
install -c "$locks/$variant.in" -r "$work/run.in"
frozen > "$work/run"
cpu_only
{ header "What kd runs with, $variant variant: exact versions and hashes."; hashed "$work/run"; } > "$work/run.txt"

if [ "$variant" = cpu ]; then
    echo "lock.sh: resolving the tools for tests, lint and documentation …" >&2
    stated test lint docs > "$work/tools.in"
    install -c "$work/run" -r "$work/tools.in"
    { header "Tools for tests, lint and documentation, on top of cpu.txt."; frozen | grep -vxFf "$work/run" > "$work/tools"; hashed "$work/tools"; } > "$work/tools.txt"
    mv "$work/tools.txt" "$locks/tools.txt"
fi
mv "$work/run.txt" "$locks/$variant.txt"
"$work/venv/bin/python" -m pip check >&2
