#!/usr/bin/env bash
# The extension under AddressSanitizer and UndefinedBehaviorSanitizer: builds it in a copy of this checkout, shows that
# faults planted in it are found, and runs the Python tests.
#
#   .ci/sanitize-python.sh [pytest arguments]      default: all of tests/ but what is named below
#
# PYTHON  the interpreter, as it is (default python3); CC  gcc with its sanitizers' libraries (default gcc).
# Left out: tests/native and tests/model, which test no extension (.ci/sanitize-c.sh); tests of the engine in plain
# Python; tests/typing, which runs mypy; tests/leaks, which weighs memory that AddressSanitizer keeps back.
# detect_leaks=0: CPython and NumPy keep thousands of allocations until the process ends, every table is mapped and
# not allocated, and the compilers that tests start would be checked too. Flat memory is tested without a sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

cc="${CC:-gcc}"
.ci/copy.sh "$work"
cat tests/sanitizers/planted.pyx >>"$work/ext/_core.pyx"
cd "$work"
echo "== build"
"${PYTHON:-python3}" -m venv venv
PENSTOCK_SANITIZE=address,undefined CC="$cc" CFLAGS="-include $work/tests/sanitizers/guarded_map.h" \
    venv/bin/pip install -q -e '.[test]'

preload=""
for library in libasan.so libubsan.so libstdc++.so; do # the last, so that ASan finds what it wraps for Arrow's C++
    preload="$preload $("$cc" -print-file-name=$library)"
done
# malloc: Python's own arenas would hide the ends of small objects. Tests ask for tables larger than the machine.
# log_path: into files, since pytest keeps what a process says as it dies; of UBSan gcc's goes to stderr all the same.
sanitized=(env "LD_PRELOAD=$preload" PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1
    "ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:log_path=$work/fault")
# setarch -R places nothing at random: now and then that is where AddressSanitizer wants its shadow, and the process ends.
if setarch "$(uname -m)" -R true 2>/dev/null; then
    sanitized=(setarch "$(uname -m)" -R "${sanitized[@]}")
fi

echo "== planted faults are found"
plant() { "${sanitized[@]}" venv/bin/python -c "
import sys
from penstock import Limiter, _core
_core.planted(Limiter('5/day'), sys.argv[1])" "$1"; }
plant none
for pair in heap=heap-buffer-overflow table=use-after-poison "overflow=signed integer overflow"; do
    if plant "${pair%%=*}" 2>fault.stderr || ! grep -qs "${pair#*=}" fault.*; then
        echo "not found: $pair" >&2
        exit 1
    fi
    rm fault.*
    echo "${pair#*=}"
done

echo "== tests"
[ $# -gt 0 ] || set -- tests -k 'not reference' --ignore=tests/{native,model,typing,leaks}
failed=0
time timeout 3600 "${sanitized[@]}" venv/bin/python -m pytest -q --capture=sys -p no:cacheprovider -p no:faulthandler "$@" \
    2> >(tee fault.stderr >&2) || failed=$?
if grep -qsE 'ERROR: |runtime error' fault.*; then # and not only of a table that was too large
    cat fault.* >&2
    exit 1
fi
exit "$failed"
