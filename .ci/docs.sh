#!/usr/bin/env bash
# The documentation as a site, with every warning an error.
#
#   .ci/docs.sh [folder]     builds it there (default: build/docs, which git ignores)
#   .ci/docs.sh --links      asks every external link whether it answers, and builds nothing
#
# PENSTOCK_REPOSITORY: where the repository can be looked at, a URL such as https://example.org/owner/name; links to files
# that are no pages lead there, and are plain text without it. Nothing else is written to this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --links ]; then
    out=
else
    mkdir -p "${1:-build/docs}"
    out="$(cd "${1:-build/docs}" && pwd)"
    if [ -n "$(ls -A "$out")" ] && [ ! -e "$out/.buildinfo" ]; then
        echo "$out has files, and they are not an earlier build's" >&2
        exit 2
    fi
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

.ci/copy.sh "$work"
cd "$work"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q '.[docs]'
if [ -z "$out" ]; then
    venv/bin/python -m sphinx -q -b linkcheck docs "$work/links"
    echo "every external link answers"
else
    rm -rf "$out"
    venv/bin/python -m sphinx -q -b html -W --keep-going -n -d "$work/doctrees" docs "$out"
    echo "$out/index.html"
fi
