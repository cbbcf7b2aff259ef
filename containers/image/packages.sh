#!/bin/sh
# Installs what an image needs from its base's own distribution (Debian, Ubuntu), where it is not there yet.
#
#   packages.sh build     what installing needs: Python with venv and headers, a compiler for fairseq
#   packages.sh run       what running needs: Python and certificates
#
# Two stages of a definition call it, so that compilers stay out of the image that is kept.
set -eu

case ${1:-} in
    build) wanted="python3 python3-venv python3-dev g++ ca-certificates" ;;
    run) wanted="python3 ca-certificates" ;;
    *)
        echo "packages.sh: say build or run." >&2
        exit 2
        ;;
esac

missing=
for package in $wanted; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "packages.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086  # a list of words
apt-get -qq install --yes --no-install-recommends $missing
apt-get clean
rm -rf /var/lib/apt/lists/*
