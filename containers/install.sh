#!/usr/bin/env bash
# The one way kd's environment is installed: by make, by CI and inside the containers.
#
#   containers/install.sh VENV [VARIANT] [--with-tools] [--kd editable|none|WHEEL] [--torch-of PYTHON]
#
#   VENV          the folder of the virtual environment; made if missing
#   VARIANT       which lock: containers/locks/VARIANT.txt; cpu if not given
#   --with-tools  what tests and lint need as well (containers/locks/tools.txt)
#   --kd          editable (default): this checkout itself; a wheel's path: that wheel; none: everything but kd
#   --torch-of    a Python that has torch, for a variant whose lock has none: its packages stand behind those of VENV
#
# PYTHON=… names the interpreter; without it: the one VENV has, else python3.11, python3.12 or python3, whichever fits.
# pip is used as the user configured it: indexes, certificates and caches are the user's to choose.
#
# Each finished step leaves a stamp in VENV/.kd-install. A second call does what changed, and takes a moment if nothing
# did. Another lock, another Python, a moved folder, or an installation that was killed: VENV is made afresh.
# Exit codes: 0 installed, 1 a step failed (its log is named), 2 something needed is missing or an argument is wrong.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
locks=$here/locks

# ---- arguments -------------------------------------------------------------------------------------------------------

refuse() {
    printf 'install.sh: %s\n' "$@" >&2
    exit 2
}

arguments=("$@")
venv=
variant=
tools=no
kd=editable
torch_of=
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --with-tools) tools=yes ;;
        --kd)
            [ $# -ge 2 ] || refuse "--kd wants editable, none or the path of a wheel."
            kd=$2
            shift
            ;;
        --torch-of)
            [ $# -ge 2 ] || refuse "--torch-of wants the path of a Python that has torch."
            torch_of=$2
            shift
            ;;
        -*) refuse "there is no option $1; --help lists those there are." ;;
        *)
            if [ -z "$venv" ]; then
                venv=$1
            elif [ -z "$variant" ]; then
                variant=$1
            else
                refuse "what is '$1'? Only VENV and VARIANT are given without an option's name."
            fi
            ;;
    esac
    shift
done
[ -n "$venv" ] || refuse "say where to install: containers/install.sh .venv"
variant=${variant:-cpu}
lock=$locks/$variant.txt
[ -f "$lock" ] || refuse "there is no lock for the variant '$variant': $locks holds $(cd "$locks" && echo *.in | sed 's/\.in//g')."
case $kd in
    editable) [ -f "$checkout/pyproject.toml" ] || refuse "$checkout is no checkout of kd: give a wheel with --kd." ;;
    none) ;;
    *.whl) [ -f "$kd" ] || refuse "there is no wheel $kd." ;;
    *) refuse "--kd wants editable, none or the path of a wheel, not '$kd'." ;;
esac
if grep -q '^torch==' "$lock"; then
    [ -z "$torch_of" ] || refuse "the lock of $variant has a torch of its own: leave --torch-of away."
else
    [ -n "$torch_of" ] || refuse "the lock of $variant has no torch: name a Python that has it by --torch-of."
    "$torch_of" -c 'import importlib.metadata; importlib.metadata.version("torch")' 2>/dev/null ||
        refuse "$torch_of has no torch."
    # The two share packages with compiled parts: they must be of one Python.
    PYTHON=$torch_of
fi

# An absolute path, because programs installed in an environment hold it in their first line.
case $venv in
    /*) ;;
    *) venv=$PWD/$venv ;;
esac
stamps=$venv/.kd-install
log=$stamps/install.log

# ---- which Python ----------------------------------------------------------------------------------------------------

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

# Sets `python`, or leaves it empty and `no_python` a sentence.
find_python() {
    local candidate
    python=
    if [ -n "${PYTHON:-}" ]; then
        if fits "$PYTHON"; then
            python=$PYTHON
        elif "$PYTHON" -c '' >/dev/null 2>&1; then
            no_python="kd needs Python 3.11 or 3.12, and PYTHON=$PYTHON is $("$PYTHON" --version 2>&1)."
        else
            no_python="PYTHON=$PYTHON does not run: give the path of a Python 3.11 or 3.12."
        fi
    else
        for candidate in "$venv/bin/python" python3.11 python3.12 python3; do
            if fits "$candidate"; then
                python=$candidate
                break
            fi
        done
        no_python="Python 3.11 or 3.12 is missing: none of python3.11, python3.12 and python3 is one; install it, or name it with PYTHON=…."
    fi
    # Of an environment's Python take the one it was made from: the environment may be the one that is about to go.
    if [ -n "$python" ]; then
        python=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)')
    fi
}

# ---- what is done already --------------------------------------------------------------------------------------------

digest() {
    sha256sum | cut -c 1-32
}

done_already() { # STEP DIGEST
    [ "$(cat "$stamps/$1" 2>/dev/null)" = "$2" ]
}

find_python
script=$(digest <"${BASH_SOURCE[0]}")
base=$( (echo "$script $venv $torch_of"; "${python:-false}" --version 2>&1; cat "$lock") | digest)
fairseq=$( (echo "$base"; cat "$locks/fairseq.txt") | digest)
with_tools=$( (echo "$base"; cat "$locks/tools.txt") | digest)
case $kd in
    editable) this_kd=$( (echo "$base editable $checkout"; cat "$checkout/pyproject.toml" "$checkout/kd/__init__.py") | digest) ;;
    none) this_kd=none ;;
    *) this_kd=$( (echo "$base"; cat "$kd") | digest) ;;
esac

# Left by an installation that was killed: what pip was doing then may look whole and not be.
unfinished=$stamps/unfinished
afresh=yes
if [ -n "$python" ] && [ ! -e "$unfinished" ] && done_already base "$base" && "$venv/bin/python" -c '' 2>/dev/null; then
    afresh=no
fi
steps=
need() { # STEP DIGEST
    if [ $afresh = yes ] || ! done_already "$1" "$2"; then
        steps="$steps $1"
    fi
}
need fairseq "$fairseq"
[ "$kd" = none ] || need kd "$this_kd"
[ $tools = no ] || need tools "$with_tools"
[ "$afresh$steps" != no ] || exit 0

# ---- what has to be there before anything starts ---------------------------------------------------------------------

missing=
want() { # SENTENCE
    missing=yes
    printf 'install.sh: %s\n' "$1" >&2
}

if [ -z "$python" ]; then
    want "$no_python"
else
    name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # A Debian without python3-venv has the module venv and lacks ensurepip.
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        want "$python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install $name-venv)."
    "$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
        want "$python lacks its C headers, which building fairseq needs (Debian, Ubuntu: apt-get install $name-dev)."
fi
command -v g++ >/dev/null ||
    want "g++ is missing, and building fairseq needs it (Debian, Ubuntu: apt-get install g++)."
if [ "$kd" = editable ] && ! command -v make >/dev/null; then
    want "make is missing, and the tasks of a checkout are its targets (Debian, Ubuntu: apt-get install make)."
fi
if [ $afresh = yes ]; then
    if [ -e "$venv" ] && [ ! -d "$stamps" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
        want "$venv exists and was not made by this script: remove it, or choose another folder."
    fi
    # 1.8 GB is what the CPU variant takes; the rest is for what pip unpacks on the way.
    place=$venv
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free=$(df -Pk "$place" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge 3000 ] || [ -d "$stamps" ] ||
        want "$place has $free MB of free space, and an installation needs 3000."
    [ -w "$place" ] || want "$place cannot be written to: choose another folder."
fi
[ -z "$missing" ] || exit 2

# ---- one at a time ---------------------------------------------------------------------------------------------------

# Two installations into one environment would spoil it. The lock goes with this process, however it ends; where the
# machine or the file system knows no flock, this goes on without.
exec 9<"${BASH_SOURCE[0]}"
code=0
flock --nonblock --conflict-exit-code 9 9 2>/dev/null || code=$?
if [ $code = 9 ]; then
    echo "install.sh: another installation is running from this checkout; waiting for it to end …" >&2
    flock 9
    # What is left to do is another question now.
    exec "$BASH" "${BASH_SOURCE[0]}" "${arguments[@]}"
fi

# ---- the steps -------------------------------------------------------------------------------------------------------

pip() {
    # -I: nothing of the user's PYTHONPATH or user site gets in.
    "$venv/bin/python" -I -m pip --no-input --disable-pip-version-check "$@"
}

step() { # TEXT COMMAND…
    local text=$1 start=$SECONDS
    shift
    printf '  %-36s ' "$text" >&2
    if ! "$@" >>"$log" 2>&1; then
        # pip ended in order and left nothing half-done: the next call goes on from here.
        rm -f "$unfinished"
        printf 'failed after %d s\n\n' $((SECONDS - start)) >&2
        grep -v '^WARNING: Location' "$log" | tail -n 15 >&2
        printf '\ninstall.sh: this step failed; %s has all of it. Mend it and call again: finished steps are kept.\n' "$log" >&2
        exit 1
    fi
    printf '%4d s\n' $((SECONDS - start)) >&2
}

# pip, asked to stop, ends as if it had merely failed; the trap makes sure that it counts as killed.
# (To what standard error was when this began: a step's own goes to the log.)
exec 3>&2
trap 'printf "\ninstall.sh: interrupted.\n" >&3; exit 130' INT
trap 'exit 143' TERM HUP

# (Each of these is called in a condition, where bash's errexit sleeps: hence the &&.)
make_venv() {
    # The pip that comes with Python is too old to be told what an isolated build may use.
    "$python" -m venv "$venv" &&
        entries "$lock" pip setuptools wheel >"$stamps/first.txt" &&
        pip install --no-deps --require-hashes -r "$stamps/first.txt" &&
        behind
}

# Python looks in the folders of a .pth file after its own: what the lock has wins, torch is found behind it.
behind() {
    [ -n "$torch_of" ] || return 0
    local own theirs
    own=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') &&
        theirs=$("$torch_of" -c 'import importlib.metadata as m; print(m.distribution("torch").locate_file(""))') &&
        echo "$theirs" >"$own/behind.pth" &&
        # What needs torch must be installed with the one that is there, whatever version the lock's cousins have.
        "$venv/bin/python" -c 'import importlib.metadata; importlib.metadata.version("torch")'
}

# The lock's entries of some packages, hashes included.
entries() { # LOCK NAME…
    awk -v names=" ${*:2} " '/^[^ #]/ { split($1, part, "=="); wanted = index(names, " " part[1] " ") } wanted' "$1"
}

# Versions alone: an isolated build gets its tools from this, and pip takes no hashes there.
versions() {
    sed -nE 's/^([^ #=]+==[^ ]+).*/\1/p' "$lock" >"$stamps/versions.txt"
}

# Without dependencies, because the lock is complete and pip must not add a package that has no hash.
install_lock() {
    versions &&
        awk '/^[^ #]/ { torch = /^torch==/ } !torch' "$lock" >"$stamps/rest.txt" &&
        pip install --no-deps --require-hashes -r "$stamps/rest.txt" --build-constraint "$stamps/versions.txt" &&
        install_torch
}

# Separately, since several builds of torch share a version: pip, left alone, prefers the CPU build that it is pointed to, but
# with several hashes to choose from it would prefer any file whose hash its index states, the gigabytes for CUDA.
install_torch() {
    local torch digest
    torch=$(grep -oE '^torch==[^ ]+' "$lock") || return 0 # the variant takes its base's torch
    pip install --dry-run --no-deps --ignore-installed --report "$stamps/torch.json" "$torch" || return 1
    digest=$("$venv/bin/python" -I -c '
import json, sys
print(json.load(open(sys.argv[1]))["install"][0]["download_info"]["archive_info"]["hashes"]["sha256"])' "$stamps/torch.json") ||
        return 1
    if ! grep -q "sha256:$digest" "$lock" && [ "$digest" != "${TORCH_SHA256:-}" ]; then
        echo "The file of $torch that pip finds here has SHA-256 $digest, which $lock does not list."
        echo "Compare it with what its publisher states, then call again with TORCH_SHA256=$digest."
        return 1
    fi
    echo "$torch --hash=sha256:$digest" >"$stamps/torch.txt" &&
        pip install --no-deps --require-hashes -r "$stamps/torch.txt" && with_cuda
}

# On an index that has torch built for CUDA alone, torch needs the libraries that the cuda lock has beyond the cpu lock.
with_cuda() {
    local -a more
    [ "$variant" = cpu ] || return 0
    "$venv/bin/python" -I -c 'import importlib.metadata as m, sys
sys.exit("+cpu" in m.version("torch") or not any(line.startswith("nvidia-") for line in m.requires("torch")))' || return 0
    mapfile -t more < <(comm -13 <(names "$lock") <(names "$locks/cuda.txt"))
    entries "$locks/cuda.txt" "${more[@]}" >"$stamps/cuda.txt" &&
        pip install --no-deps --require-hashes -r "$stamps/cuda.txt"
}

names() {
    sed -nE 's/^([^ #=]+)==.*/\1/p' "$1" | LC_ALL=C sort
}

# Without dependencies and isolated; containers/locks/fairseq.txt says why.
install_fairseq() {
    versions && pip install --no-deps --require-hashes -r "$locks/fairseq.txt" --build-constraint "$stamps/versions.txt"
}

install_kd() {
    if [ "$kd" = editable ]; then
        pip install --no-deps --no-build-isolation --editable "$checkout"
    else
        pip install --no-deps --force-reinstall "$kd"
    fi
}

install_tools() {
    pip install --no-deps --require-hashes -r "$locks/tools.txt"
}

# Only ever an environment of this script's making. Its stamps go last: they are what says so. The folder itself stays,
# since it may be a mount.
clear_old() {
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .kd-install -exec rm -rf {} + &&
        find "$stamps" -type f ! -name unfinished ! -name install.log -delete
}

mkdir -p "$stamps"
was_killed=no
[ ! -e "$unfinished" ] || was_killed=yes
touch "$unfinished"
: >"$log"
echo "Installing into $venv ($("$python" --version), $variant)" >&2
[ $was_killed = no ] || echo "An earlier installation was killed half-way: starting afresh." >&2
if [ $afresh = yes ]; then
    [ "$(ls -A "$venv")" = .kd-install ] || step "removing what was there" clear_old
    step "virtual environment" make_venv
    step "$(names "$lock" | wc -l) packages of the lock" install_lock
    echo "$base" >"$stamps/base"
fi
for name in $steps; do
    case $name in
        fairseq)
            step "$(sed -n 's/^\(fairseq==[^ ]*\).*/\1/p' "$locks/fairseq.txt"), from source" install_fairseq
            echo "$fairseq" >"$stamps/fairseq"
            ;;
        kd)
            step "kd ($kd)" install_kd
            echo "$this_kd" >"$stamps/kd"
            ;;
        tools)
            step "tools for tests and lint" install_tools
            echo "$with_tools" >"$stamps/tools"
            ;;
    esac
done
rm -f "$unfinished"
echo "Installed in $SECONDS s." >&2
