#!/usr/bin/env bash
# Copies this checkout as it stands, committed or not, without what was built, installed or left behind in it: for the
# scripts that build it in another way than you did.
#
#   .ci/copy.sh FOLDER
set -euo pipefail
target="$(cd "$1" && pwd)"
cd "$(dirname "$0")/.."
tar -c --exclude=./.git --exclude=./build --exclude=./dist --exclude='./.venv*' --exclude='./.*_cache' \
    --exclude=./.hypothesis --exclude=./.benchmarks --exclude='*.egg-info' --exclude=__pycache__ --exclude='*.so' . |
    tar -x -C "$target"
