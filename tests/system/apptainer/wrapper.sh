#!/bin/sh
# Apptainer for a root that may lack capabilities, as inside another container: whatever runs, runs in a user namespace.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
if [ "${1:-}" = build ]; then
    exec python3 "$root/identity_namespace.py" "$root/usr/bin/apptainer" "$@"
fi
export APPTAINER_USERNS=1
exec "$root/usr/bin/apptainer" "$@"
