#!/usr/bin/env bash
# The extension under ThreadSanitizer where threads of Python really run at once: builds it for a free-threaded CPython
# in a copy of this checkout, shows that a race planted in it is found, and runs the tests with threads.
#
#   .ci/tsan-python.sh [pytest arguments]          default: tests/concurrency
#
# CC  gcc with its sanitizers' libraries (default gcc). The interpreter is the one of .ci/python-free-threaded.sh.
# It is not instrumented itself: its own races are not looked for, only those of the extension with itself
# (ignore_noninstrumented_modules). What is not reported, and why, is in tests/native/suppressions.tsan, as for C, and in
# tests/sanitizers/suppressions.tsan.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

cc="${CC:-gcc}"
.ci/copy.sh "$work"
cat tests/sanitizers/planted.pyx >>"$work/ext/_core.pyx"
.ci/venv-free-threaded.sh "$work/venv"

cd "$work"
export PYTHONPATH="$work/src"
echo "== build"
PENSTOCK_SANITIZE=thread CC="$cc" venv/bin/python setup.py -q build_ext --inplace

cat tests/native/suppressions.tsan tests/sanitizers/suppressions.tsan >suppressions
# setarch -R places nothing at random: ThreadSanitizer needs its own parts of the address space free.
sanitized=(env "LD_PRELOAD=$("$cc" -print-file-name=libtsan.so)"
    "TSAN_OPTIONS=ignore_noninstrumented_modules=1:log_path=$work/race:suppressions=$work/suppressions")
if setarch "$(uname -m)" -R true 2>/dev/null; then
    sanitized=(setarch "$(uname -m)" -R "${sanitized[@]}")
fi

echo "== a planted race is found"
plant() { "${sanitized[@]}" venv/bin/python -W error -c "
import sys, threading
from penstock import Limiter, _core
assert not sys._is_gil_enabled(), 'the GIL is on'
limiter = Limiter('5/day')
threads = [threading.Thread(target=_core.planted, args=(limiter, sys.argv[1], 10_000_000)) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()" "$1"; }
plant none
if plant race || ! grep -hs "SUMMARY: .*data race.*planted_race" race.*; then
    echo "a planted race was not found" >&2
    exit 1
fi
rm race.*

echo "== tests with threads"
[ $# -gt 0 ] || set -- tests/concurrency
failed=0
time timeout 3600 "${sanitized[@]}" venv/bin/python -m pytest -q -p no:cacheprovider -p no:faulthandler "$@" || failed=$?
if compgen -G 'race.*' >/dev/null; then # in files, since pytest keeps what a process says as it dies
    cat race.* >&2
    exit 1
fi
exit "$failed"
