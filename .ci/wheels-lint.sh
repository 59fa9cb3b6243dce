#!/usr/bin/env bash
# Asks cibuildwheel, of the version in wheels.yml, what it would build with pyproject.toml's settings: every Python and
# platform that .ci/complete.py will look for, and nothing else. Builds nothing, and needs no container.
#
#   .ci/wheels-lint.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q "$(grep -o 'cibuildwheel==[0-9.]*' .github/workflows/wheels.yml)"
ask() { "$work/venv/bin/cibuildwheel" --print-build-identifiers --platform "$1" --archs "$2"; }
{
    ask linux x86_64,aarch64
    ask macos arm64,x86_64
    ask windows AMD64,ARM64
} >"$work/identifiers"
PYTHONPATH=.ci PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" - "$work/identifiers" <<'PROGRAM'
import sys
from collections import Counter

from complete import promised

with open(sys.argv[1]) as file:
    asked = {tuple(line.split()[0].split("-", 1)) for line in file if line.strip()}
names = {
    "manylinux x86_64": "manylinux_x86_64", "manylinux aarch64": "manylinux_aarch64",
    "musllinux x86_64": "musllinux_x86_64", "musllinux aarch64": "musllinux_aarch64",
    "macOS arm64": "macosx_arm64", "macOS x86_64": "macosx_x86_64",
    "Windows AMD64": "win_amd64", "Windows ARM64": "win_arm64",
}
wanted = {(python, names[platform]) for python, platform in promised()}
for python, platform in sorted(wanted ^ asked):
    print(f"{python}-{platform}: {'promised, not built' if (python, platform) in wanted else 'built, not promised'}")
for platform, count in sorted(Counter(platform for _, platform in asked).items()):
    print(f"{platform:<20} {count} wheels: {' '.join(sorted(python for python, other in asked if other == platform))}")
sys.exit(wanted != asked)
PROGRAM
