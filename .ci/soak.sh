#!/usr/bin/env bash
# The long tests in Python (marked soak): laws and histories by the thousand, leaks over a million calls.
#
#   .ci/soak.sh [pytest arguments]
#
# The core's long tests in C are .ci/sanitize-c.sh's, its models .ci/model.sh's. Nothing is written to this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

.ci/copy.sh "$work"
cd "$work"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q -e '.[test]'
venv/bin/python -m pytest -p no:cacheprovider -m soak --ignore=tests/native --ignore=tests/model "$@"
