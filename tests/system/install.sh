#!/usr/bin/env bash
# Installs the programs that system tests use and pip cannot bring, where that is possible: as root, on Debian.
#
# Elsewhere it changes nothing. What is then still missing goes to stdout, one line a test file: its path, a tab, and
# what it wants. `make test` leaves those files out and says so in its closing lines. Progress goes to stderr.
# Where it could install and apt-get fails, nothing is left out: the tests then fail, since passing would hide it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The test file, a program it runs, the Debian package that brings it. A line whose file does not exist costs nothing.
needs() {
    cat <<'TABLE'
tests/system/test_page_in_browser.py  chromium  chromium
TABLE
}

# The lines of the table that are short of something.
lacking() {
    local file program package
    while read -r file program package; do
        if [ -e "$file" ] && ! command -v "$program" >/dev/null; then
            echo "$file $program $package"
        fi
    done < <(needs)
}

packages=$(lacking | awk '{ print $3 }' | sort -u)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # the names are words of one list
    {
        echo "Installing for the system tests:" $packages
        apt-get -qq update && apt-get -qq install --yes --no-install-recommends $packages
    } >&2 || echo "tests/system/install.sh: apt-get failed, so the tests that want these packages will fail." >&2
    exit 0
fi

lacking | awk '{
    wants[$1] = wants[$1] (wants[$1] ? " and " : "") $2 " (Debian: apt-get install " $3 ")"
} END { for (file in wants) print file "\t" wants[file] }'
