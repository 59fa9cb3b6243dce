#!/usr/bin/env bash
# The core's protocols under the model checker (tests/model), every model and every mutant, the large ones too.
#
#   .ci/model.sh [pytest arguments]
#
# Nothing is written to this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'pytest>=9' 'hypothesis>=6.150'
export TMPDIR="$work" PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1 PENSTOCK_PURE=1 # the models need no extension
"$work/venv/bin/python" -m pytest -p no:cacheprovider -m 'soak or not soak' tests/model "$@"
