#!/usr/bin/env bash
# The core without the GIL: builds penstock for a free-threaded CPython, checks that importing it leaves the GIL off, runs
# the tests with threads, and prints what two threads decide in the time one needs alone.
#
#   .ci/free-threaded.sh [pytest arguments]
#
# The interpreter is made by .ci/python-free-threaded.sh and kept (see there), or another one that PENSTOCK_NOGIL_PYTHON
# names. Nothing is written to this checkout.
# PENSTOCK_SCALING=0 leaves the measurement out; it takes two idle processors and about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

.ci/copy.sh "$work"
.ci/venv-free-threaded.sh "$work/venv"

cd "$work"
export PYTHONPATH="$work/src"
echo "== build"
venv/bin/python setup.py -q build_ext --inplace

echo "== the GIL stays off"
venv/bin/python -W error - <<'PROGRAM'
import sys
from importlib import import_module
from pathlib import Path

import penstock

assert penstock.native, "the compiled core is not there"
bridges = sorted(path.stem for path in Path("ext").glob("_*.pyx"))
for bridge in bridges:
    import_module(f"penstock.{bridge}")
    assert not sys._is_gil_enabled(), f"importing penstock.{bridge} switched the GIL on"
print(*bridges, "on", sys.version)
PROGRAM

echo "== tests with threads"
timeout 1800 venv/bin/python -m pytest -q -p no:cacheprovider tests/concurrency "$@"

if [ "${PENSTOCK_SCALING:-1}" != 0 ]; then
    echo "== two threads against one, nanoseconds for each decision"
    timeout 600 venv/bin/python benchmarks/threads.py | venv/bin/python -c '
import json, sys
result = json.load(sys.stdin)
print("python", result["python"], "GIL", "on" if result["gil"] else "off")
for name, case in result["cases"].items():
    print("%-18s one thread %6.1f   two threads %6.1f   scaling %.2f" % (name, case["one"], case["two"], case["one"] / case["two"]))
'
fi
