#!/usr/bin/env bash
# What a stranger does: installs penstock from a wheel, from the sdist, from a checkout (editable) and without a compiler,
# each in a fresh environment; runs a few lines and the commands; uninstalls, and nothing may be left.
#
#   .ci/install.sh [PYTHON]...      default: python3; .ci/pythons.sh lists what there is
#
# PENSTOCK_DIST  a folder with an sdist and wheels (of .ci/build.sh or .ci/wheels.sh) to use; default: they are built first
#
# About three minutes for each Python on an idle processor, nearly all of it for compiling. Writes nothing to this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
here="$PWD"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
unset PENSTOCK_PURE PENSTOCK_NATIVE PENSTOCK_DEBUG PENSTOCK_SANITIZE PYTHONPATH PYTHONDONTWRITEBYTECODE
[ $# -gt 0 ] || set -- python3

"${PYTHON:-python3}" -m venv "$work/tools"
pip="$work/tools/bin/pip" # one of today, for every environment
"$pip" install -q -U pip

# What is in an environment's packages and commands, __pycache__ and all.
listing() { (cd "$environment" && find lib bin \( -type f -o -type l \) | LC_ALL=C sort); }

mkdir "$work/elsewhere"
for second in $(seq 10 59); do
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
        echo "203.0.113.7 - - [10/Oct/2025:13:55:$second +0000] \"GET /a HTTP/1.1\" 200 12 \"-\" \"test\""
    done
done >"$work/elsewhere/access.log"

# walk ENGINE NAME: the few lines that everybody tries first, and the commands
walk() {
    cat >"$work/first.py" <<'PROGRAM'
"""A first try: decides, says which engine did, and which warnings came."""
import sys
import warnings

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import penstock
    from penstock import Limiter

login = Limiter("2/minute")
assert [login.hit("user:ada") for _ in range(3)] == [True, True, False]
assert penstock.native is (sys.argv[1] == "native"), penstock.native
assert not penstock.__file__.startswith(sys.argv[2]) or sys.argv[3].startswith("editable"), penstock.__file__
messages = [(warning.category.__name__, str(warning.message)) for warning in said]
if penstock.native:
    assert messages == [], messages
    import penstock.guard
else:
    ((category, message),) = messages
    assert category == "RuntimeWarning", category
    assert message == (
        "penstock runs without its compiled core, exactly but about a hundred times slower: No module named"
        " 'penstock._core' (PENSTOCK_PURE=1 asks for that, and silences this)"
    ), message
    try:
        import penstock.guard
    except ImportError as error:
        print("penstock.guard:", error)
    else:
        raise AssertionError("penstock.guard is there without compiled code")
print(f"{sys.argv[3]}: CPython {sys.version.split()[0]}, penstock {penstock.__version__}, native {penstock.native}")
PROGRAM
    (
        cd "$work/elsewhere"
        "$environment/bin/python" "$work/first.py" "$1" "$here" "$2"
        [ "$1" = native ] || export PENSTOCK_PURE=1 # as the warning says
        "$environment/bin/python" -W error "$environment/bin/penstock" --help >/dev/null
        logs=() # native: README's command as it is, over an invented day; that takes the reference engine minutes
        [ "$1" = native ] || logs=(access.log)
        "$environment/bin/python" -W error "$environment/bin/penstock" replay ${logs[@]+"${logs[@]}"} >replay.txt
        grep -q 'refused' replay.txt
        "$environment/bin/python" -m penstock --help >/dev/null
    )
}

# stranger NAME NATIVE ARGUMENTS-OF-PIP...: installs in a fresh environment, walks, uninstalls
stranger() {
    local name="$1" native="$2" begun=$SECONDS
    shift 2
    environment="$work/environment"
    rm -rf "$environment"
    "$python" -m venv --without-pip "$environment"
    listing >"$work/before"
    "$pip" --python "$environment/bin/python" install --no-cache-dir -v "$@" >"$work/log" 2>&1 || {
        tail -n 30 "$work/log" >&2
        return 1
    }
    if [ "$native" = native ]; then
        if grep -A 2 'NO NATIVE CODE' "$work/log"; then return 1; fi
    else
        grep -A 2 'NO NATIVE CODE' "$work/log" | cut -c 1-200
    fi
    walk "$native" "$name"
    "$pip" --python "$environment/bin/python" uninstall -q -y penstock
    listing | diff "$work/before" - || {
        echo "$name: uninstalling leaves that behind" >&2
        return 1
    }
    echo "$name: uninstalled, nothing is left; $((SECONDS - begun)) s"
}

checkout() { # a copy for an editable install, whose modules are built beside its sources
    rm -rf "$work/checkout"
    mkdir "$work/checkout"
    tar -c --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=./dist --exclude='*.so' --exclude='*.egg-info' . |
        tar -x -C "$work/checkout"
}

for python in "$@"; do
    python="$(command -v "$python")"
    echo "== $("$python" -c 'import sys; print(sys.implementation.name, sys.version)')"
    dist="${PENSTOCK_DIST:-$work/dist}"
    if [ -z "${PENSTOCK_DIST:-}" ]; then
        rm -rf "$dist"
        PYTHON="$python" .ci/build.sh "$dist"
    fi
    dist="$(cd "$dist" && pwd)"
    stranger wheel native --only-binary=penstock --no-index --find-links "$dist" penstock
    stranger sdist native "$dist"/penstock-*.tar.gz
    checkout
    stranger editable native -e "$work/checkout"
    checkout
    CC=/bin/false stranger "sdist, no compiler" reference "$dist"/penstock-*.tar.gz
    CC=/bin/false stranger "editable, no compiler" reference -e "$work/checkout"
    if CC=/bin/false PENSTOCK_NATIVE=1 "$pip" install -q --target "$work/never" "$dist"/penstock-*.tar.gz >"$work/log" 2>&1; then
        echo "PENSTOCK_NATIVE=1 without a compiler went through" >&2
        exit 1
    fi
    grep -q "can't be built here, and was asked for" "$work/log"
    echo "PENSTOCK_NATIVE=1 without a compiler: refused, and says why"
done
