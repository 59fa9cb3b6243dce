#!/usr/bin/env bash
# Builds CPython 3.13 without the GIL from Debian's source package, once, and prints the path of its interpreter.
#
#   .ci/python-free-threaded.sh          about ten CPU-minutes the first time, nothing after
#
# PENSTOCK_PYTHON_CACHE   where it is kept; default ${XDG_CACHE_HOME:-$HOME/.cache}/penstock/python3.13t
# PENSTOCK_DEBIAN_MIRROR  where Debian's archive is; default: the one that this machine's apt uses
# PENSTOCK_JOBS           compilers at once; default: one for each processor
#
# Needs a Debian or Ubuntu-like machine with apt, dpkg-dev, a C compiler and the headers of libssl, libffi, zlib,
# bzip2, lzma. Debian ships no free-threaded interpreter of its own. apt checks the source against the archive's
# signature; lists and sources live in a folder of their own, nothing of the machine's configuration is changed.
set -euo pipefail

cache="${PENSTOCK_PYTHON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock/python3.13t}"
python="$cache/bin/python3.13t"
if [ -x "$python" ] && "$python" -c 'import ssl, ctypes' >/dev/null 2>&1; then
    echo "$python"
    exit 0
fi

mirror="${PENSTOCK_DEBIAN_MIRROR:-}"
if [ -z "$mirror" ]; then
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)"
fi
if [ -z "$mirror" ]; then
    echo "no Debian mirror in this machine's apt configuration: set PENSTOCK_DEBIAN_MIRROR" >&2
    exit 2
fi
jobs="${PENSTOCK_JOBS:-$(nproc)}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)")
{
    echo "building CPython 3.13t into $cache"
    "${apt[@]}" update
    (cd "$work/source" && "${apt[@]}" source --download-only python3.13)
    # Upstream's code as it is: Debian's patches are about Debian's own paths.
    dpkg-source --skip-patches -x "$work"/source/*.dsc "$work/tree"
    cd "$work/tree"
    ./configure --quiet --prefix="$cache" --disable-gil --without-ensurepip --disable-test-modules
    nice -n 15 make -j"$jobs" --quiet
    nice -n 15 make --quiet install
} >&2
"$python" -c 'import ssl, ctypes, sys; assert not sys._is_gil_enabled()'
echo "$python"
