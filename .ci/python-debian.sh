#!/usr/bin/env bash
# Unpacks a CPython of Debian's, for this processor or another one, and prints the path of a command that runs it.
#
#   .ci/python-debian.sh VERSION [ARCHITECTURE]      3.11, 3.13, 3.14 or 3.15; amd64 or arm64, default: this machine's
#
# The command is a script, started with its own path as the program's name: `COMMAND -m venv --without-pip FOLDER` makes
# an environment that works as any other. On another processor than its own it runs under qemu-user-static. Headers are
# in the file's ../include. Each is kept in ${XDG_CACHE_HOME:-$HOME/.cache}/penstock/python-VERSION-ARCHITECTURE and takes
# about a minute the first time. Needs mmdebstrap and Debian's archive keys (debian-archive-keyring) once. Nothing of the
# machine's configuration is changed.
#
# PENSTOCK_DEBIAN_MIRROR  where Debian's archive is; default: the one that this machine's apt uses
set -euo pipefail
export LC_ALL=C
version="${1:?which version, such as 3.14?}"
here="$(dpkg --print-architecture)"
architecture="${2:-$here}"
case "$version" in
3.11) release=bookworm ;;
3.13) release=trixie ;;
3.14 | 3.15) release=sid ;;
*)
    echo "no release of Debian is known here to have CPython $version" >&2
    exit 2
    ;;
esac
home="${XDG_CACHE_HOME:-$HOME/.cache}/penstock/python-$version-$architecture"
command="$home/usr/bin/penstock-python"

if [ ! -x "$command" ]; then
    # shellcheck disable=SC2016 # the sign is apt's
    mirror="${PENSTOCK_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1)}"
    if [ -z "$mirror" ]; then
        echo "no Debian mirror in this machine's apt configuration: set PENSTOCK_DEBIAN_MIRROR" >&2
        exit 2
    fi
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    # A copy of sid may be older than sid says its lists are good for; they are signed all the same.
    mmdebstrap --quiet --variant=extract --architectures="$architecture" --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="python$version,libpython$version-dev,libpython$version-stdlib,libstdc++6" "$release" "$work/root" "$mirror" >&2
    [ -e "$work/root/lib" ] || ln -s usr/lib "$work/root/lib" # the package that does so was not asked for
    loader="$(cd "$work/root" && find -H . lib/ -path '*-linux-gnu/ld-linux*' | head -n 1)"
    triplet="$(basename "$(dirname "$loader")")"
    if [ "$architecture" = "$here" ]; then
        start="$home/${loader#./} --library-path $home/lib/$triplet:$home/usr/lib/$triplet --argv0"
    else
        start="qemu-${triplet%%-*}-static -L $home -0"
    fi
    cat >"$work/root/usr/bin/penstock-python" <<PROGRAM
#!/bin/sh
export CPATH="$home/headers" # Python's own ask for a place that is on every system's path, without those of its C library
exec $start "\$0" $home/usr/bin/python$version "\$@"
PROGRAM
    chmod +x "$work/root/usr/bin/penstock-python"
    mkdir -p "$work/root/headers/$triplet"
    ln -s "$home/usr/include/$triplet/python$version" "$work/root/headers/$triplet/python$version"
    mkdir -p "$(dirname "$home")"
    rm -rf "$home"
    mv "$work/root" "$home"
fi
"$command" -c 'import ctypes, ssl' # it runs, and the libraries that it needs are there
echo "$command"
