#!/usr/bin/env bash
# The core's C tests (tests/native) as they are and under ThreadSanitizer, AddressSanitizer and
# UndefinedBehaviorSanitizer, by every compiler found of gcc and clang. Nothing is written to this checkout.
#
#   .ci/sanitize-c.sh [minutes]      after the quick runs, up to so many minutes of the long ones for each compiler
#
# CC  one compiler instead of all that are found. Needs the sanitizers' libraries that come with them.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'pytest>=9' 'hypothesis>=6.150'
export TMPDIR="$work" PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1 PENSTOCK_PURE=1 # the C tests need no extension
pytest=("$work/venv/bin/python" -m pytest -q -p no:cacheprovider tests/native)
if setarch "$(uname -m)" -R true 2>/dev/null; then # ThreadSanitizer needs its own parts of the address space free
    pytest=(setarch "$(uname -m)" -R "${pytest[@]}")
fi

compilers=("${CC:-gcc}")
[ -n "${CC:-}" ] || mapfile -O 1 -t compilers < <(compgen -c clang | grep -xE 'clang(-[0-9]+)?' | sort -V | tail -n 1)
for compiler in "${compilers[@]}"; do
    echo "== $("$compiler" --version | head -n 1)"
    CC="$compiler" "${pytest[@]}"
    if [ "${1:-0}" != 0 ]; then
        echo "== long runs, up to $1 minutes"
        CC="$compiler" timeout "$1m" "${pytest[@]}" -v -m soak || [ $? -eq 124 ] # 124: the time is over, all was well
    fi
done
