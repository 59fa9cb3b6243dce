#!/usr/bin/env bash
# Makes a virtual environment of a free-threaded CPython, with all that building penstock and its tests with threads need.
#
#   .ci/venv-free-threaded.sh FOLDER
#
# PENSTOCK_NOGIL_PYTHON  the interpreter (default: the one of .ci/python-free-threaded.sh)
set -euo pipefail
python="${PENSTOCK_NOGIL_PYTHON:-$("$(dirname "$0")/python-free-threaded.sh")}"
tools="$(mktemp -d)"
trap 'rm -rf "$tools"' EXIT

# A pip of today, run by an ordinary interpreter: older ones take wheels for 3.13 with the GIL for fitting.
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install -q -U pip
"$python" -m venv --without-pip "$1"
# numpy<2.5: the last with wheels for 3.13t.
"$tools/bin/pip" --python "$1/bin/python" install -q --only-binary=:all: \
    'cython>=3.1' 'setuptools>=77' 'numpy<2.5' 'pytest>=9' 'hypothesis>=6.150'
