#!/usr/bin/env bash
# Builds the sdist, and from it a wheel for this interpreter, and checks both: contents, sizes, what the index asks for.
#
#   .ci/build.sh [sdist] [FOLDER]      FOLDER: where they go, default dist/; "sdist": that one alone
#
# In a job of GitHub's, the README's links and the project's addresses are made to point at the repository (release.py),
# and a tag must be the version's. PYTHON is the interpreter, default python3. Everything is built in a clean environment
# from a copy; of this checkout only FOLDER is written to.
set -euo pipefail
what=()
if [ "${1:-}" = sdist ]; then
    what=(--sdist)
    shift
fi
cd "$(dirname "$0")/.."
folder="$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export PENSTOCK_NATIVE=1

"${PYTHON:-python3}" -m venv "$work/tools"
"$work/tools/bin/pip" install -q build twine
mkdir "$work/tree"
tar -c --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=./dist --exclude='*.so' --exclude='*.egg-info' . |
    tar -x -C "$work/tree"
if [ -n "${GITHUB_REPOSITORY:-}" ]; then
    "$work/tools/bin/python" .ci/release.py "$work/tree"
fi
"$work/tools/bin/python" -m build ${what[@]+"${what[@]}"} -o "$work/built" "$work/tree" >"$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    exit 1
}
"$work/tools/bin/python" .ci/archives.py "$work"/built/*
"$work/tools/bin/python" -m twine check --strict "$work"/built/*
mv "$work"/built/* "$folder"
