#!/usr/bin/env bash
# Puts Apptainer into a folder, for tests on a Debian whose own suite has none: tests/system/apptainer/install.sh DEST
#
# It is that of Debian's unstable suite, unpacked beside its own libc: nothing of the system changes. DEST/bin/apptainer
# is how it is to be called. Wants root, apt-get and the programs that tests/system/install.sh lists.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dest=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
aside=$dest.installing
rm -rf "$aside"
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs,unpacked} "$aside"/{bin,glibc}
: >"$work/status"

# apt with a state of its own, on the mirror that the system uses.
mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
    sed -nE 's/^URIs: *//p; s/^deb (\[[^]]*\] )?(http[^ ]*) .*/\2/p' | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::State=$work/state" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work/debs" && "${apt[@]}" download apptainer libc6 libseccomp2 libsqlite3-0)

for package in libc6 libseccomp2 libsqlite3-0; do
    dpkg -x "$work/debs/$package"_*.deb "$work/unpacked"
done
dpkg -x "$work"/debs/apptainer_*.deb "$aside"
libraries=$work/unpacked/usr/lib/$(uname -m)-linux-gnu
cp -L "$libraries"/ld-linux-*.so.? "$libraries"/{libc.so.6,libm.so.6,libseccomp.so.2,libsqlite3.so.0} "$aside/glibc/"
loader=$(basename "$aside"/glibc/ld-linux-*.so.?)

# The program finds its own files by its place: ../etc, and from the starter's libexec ../etc and ../var.
mv "$aside/etc" "$aside/usr/etc"
mkdir -p "$aside/usr/var/lib/apptainer/mnt/session"
ln -sfn ../etc "$aside/usr/lib/etc"
ln -sfn ../var "$aside/usr/lib/var"
cp "$here/identity_namespace.py" "$aside/"
cp "$here/wrapper.sh" "$aside/bin/apptainer"
chmod +x "$aside/bin/apptainer"

# Its libraries are found by the place that it ends up at.
for binary in usr/bin/apptainer "usr/lib/$(uname -m)-linux-gnu/apptainer/bin/starter"; do
    patchelf --set-interpreter "$dest/glibc/$loader" "$aside/$binary"
    patchelf --force-rpath --set-rpath "$dest/glibc" "$aside/$binary"
done
rm -rf "$dest"
mv "$aside" "$dest"
"$dest/bin/apptainer" version
