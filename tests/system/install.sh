#!/usr/bin/env bash
# Installs the programs that system tests use and pip cannot bring, where that is possible: as root, on Debian.
#
# Elsewhere it changes nothing. What is then still missing goes to stdout, one line a test file: its path, a tab, and
# what it wants. `make test` leaves those files out and says so in its closing lines. Progress goes to stderr.
# Where it could install and apt-get fails, nothing is left out: the tests then fail, since passing would hide it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
apptainer=${XDG_CACHE_HOME:-$HOME/.cache}/kd-tests/apptainer

# Test files (a pattern), a program they run, the Debian package that brings it. A line without a file costs nothing.
# `root` stands for the right to make network namespaces, which no package brings; `unstable` for Debian's suite of that
# name, whose Apptainer goes into a folder of its own (tests/system/container_runtime.py looks there as well).
needs() {
    cat <<'TABLE'
tests/system/test_page_in_browser.py  chromium    chromium
tests/serve/test_page_in_browser.py   chromium    chromium
tests/system/test_onnx_in_browser.py  chromium    chromium
tests/system/test_onnx_in_browser.py  npm         npm
tests/system/test_slurm_*.py          root        -
tests/system/test_slurm_*.py          slurmctld   slurmctld
tests/system/test_slurm_*.py          slurmd      slurmd
tests/system/test_slurm_*.py          sbatch      slurm-client
tests/system/test_slurm_*.py          sacctmgr    slurm-wlm-basic-plugins
tests/system/test_slurm_*.py          munged      munge
tests/system/test_slurm_*.py          ip          iproute2
tests/system/test_slurm_*.py          slurmdbd    slurmdbd
tests/system/test_slurm_*.py          mariadbd    mariadb-server
tests/system/test_container_*.py      apptainer   unstable
tests/system/test_container_*.py      patchelf    patchelf
tests/system/test_container_*.py      mksquashfs  squashfs-tools
tests/system/test_container_*.py      squashfuse  squashfuse
tests/system/test_container_*.py      newuidmap   uidmap
tests/system/test_container_*.py      fuse-overlayfs  fuse-overlayfs
tests/system/test_container_*.py      fakeroot    fakeroot
tests/system/test_container_*.py      debootstrap debootstrap
tests/system/test_container_*.py      skopeo      skopeo
tests/system/test_container_*.py      docker-registry  docker-registry
TABLE
}

# Whether a program of the table is there.
there() {
    if [ "$1" = root ]; then
        [ "$(id -u)" = 0 ]
    else
        command -v "$1" >/dev/null || { [ "$1" = apptainer ] && [ -x "$apptainer/bin/apptainer" ]; }
    fi
}

# The lines of the table that are short of something, one for each file.
lacking() {
    local pattern file program package
    while read -r pattern program package; do
        there "$program" && continue
        for file in $pattern; do
            if [ -e "$file" ]; then
                echo "$file $program $package"
            fi
        done
    done < <(needs)
}

packages=$(lacking | awk '$3 != "-" && $3 != "unstable" { print $3 }' | sort -u)
from_unstable=$(lacking | awk '$3 == "unstable" { print $2 }' | sort -u)
if [ -n "$packages$from_unstable" ] && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # the names are words of one list
    {
        echo "Installing for the system tests:" $packages $from_unstable
        [ -z "$packages" ] || { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $packages; }
    } >&2 || echo "tests/system/install.sh: apt-get failed, so the tests that want these packages will fail." >&2
    [ -z "$from_unstable" ] || tests/system/apptainer/install.sh "$apptainer" >&2 ||
        echo "tests/system/install.sh: Apptainer could not be fetched, so the tests of containers will fail." >&2
    exit 0
fi

lacking | awk '{
    wish = $3 == "-" ? $2 : $2 " (Debian: apt-get install " $3 ")"
    wants[$1] = wants[$1] (wants[$1] ? " and " : "") wish
} END { for (file in wants) print file "\t" wants[file] }'
