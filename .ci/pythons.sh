#!/usr/bin/env bash
# Prints a line "VERSION PATH" for each CPython found on this machine, and says on the other stream which are not there.
#
#   .ci/pythons.sh [VERSION]...      default: 3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t
#
# Looked at, in this order: pythonVERSION on the PATH, pyenv's versions, what .ci/python-free-threaded.sh has built and
# what .ci/python-debian.sh has unpacked. None is fetched or built here: run those two first for what they offer.
set -euo pipefail
cache="${XDG_CACHE_HOME:-$HOME/.cache}/penstock"
[ $# -gt 0 ] || set -- 3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t
for version in "$@"; do
    found=""
    for candidate in "$(command -v "python$version" || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"${version%t}".*/bin/"python$version" \
        "${PENSTOCK_PYTHON_CACHE:-$cache/python3.13t}/bin/python$version" \
        "$cache/python-$version-$(dpkg --print-architecture 2>/dev/null)/usr/bin/penstock-python"; do
        # A file of that name need not run (pyenv's, of versions that are not chosen): it is asked what it is.
        [ -x "$candidate" ] || continue
        said="$("$candidate" -c '
import sys, sysconfig
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(f"{sys.version_info.major}.{sys.version_info.minor}{free} {sys.executable}")
' 2>/dev/null)" || continue
        if [ "${said%% *}" = "$version" ]; then
            found="${said#* }"
            break
        fi
    done
    if [ -n "$found" ]; then
        echo "$version $found"
    else
        echo "CPython $version: none found on this machine" >&2
    fi
done
