#!/usr/bin/env bash
# Lint and types, in the virtual environment that README's test command made.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/pip install -q -e '.[lint]'
export PATH="$PWD/.venv/bin:$PATH" # cython-lint calls pycodestyle by name
ruff check .
mypy
cython-lint ext/*.pyx ext/*.pxd src/penstock/_core.pxd src/penstock/__init__.pxd
