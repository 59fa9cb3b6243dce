#!/usr/bin/env bash
# Fuzzes every target for a bounded time, and says what it did: Python's with atheris, the core's with libFuzzer.
#
#   .ci/fuzz.sh [seconds for each target, default 30] [targets...]
#
# PYTHON  the interpreter to make an environment with (default python3); CLANG  with libFuzzer (default: clang, or
# the newest clang-N there is).
# Where there is no atheris for it the Python targets run without coverage in view; without libFuzzer core is left out.
# An input that breaks a promise ends the run, and is in build/fuzz/found, with its name on the last lines; new inputs
# that reach new code are in build/fuzz/<target>. How they come into the corpus: tests/fuzz/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD" seconds="${1:-30}" fuzz="$PWD/tests/fuzz"
[ $# -eq 0 ] || shift
targets="${*:-rate keys columns times logs files history saved segment feeds words guard core}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export TMPDIR="$work" # atheris ends without cleaning up
mkdir -p build/fuzz/found
.ci/copy.sh "$work"
cd "$work"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q '.[test]'
venv/bin/pip install -q atheris || echo "atheris cannot be had for $(venv/bin/python -V): without coverage"

clang="${CLANG:-$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -uV | sed -n 's/^clang$/&/p;t;$p' | head -1)}"
fuzz_core() {
    local machine=() name="core"
    [ "$(uname -m)" != x86_64 ] || machine=(-mcx16)
    if ! "${clang:-clang}" -std=gnu11 -g -O1 "${machine[@]}" -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=undefined "-I$root/tests/native" "-I$root/ext" "$fuzz/core.c" -o "$work/$name" -lpthread -lm; then
        echo "core: no clang with libFuzzer here; tests/fuzz/test_corpus.py has tried it without"
        return
    fi
    ASAN_OPTIONS=detect_leaks=1 "$work/$name" "$@"
}

cd "$root/build/fuzz/found"
for target in $targets; do
    mkdir -p "$root/build/fuzz/$target"
    options=("-max_total_time=$seconds" -max_len=1500 -timeout=20 -print_final_stats=1 -verbosity=1)
    folders=("$root/build/fuzz/$target" "$fuzz/corpus/$target")
    run=("$work/venv/bin/python" "$fuzz/fuzz.py" "$target")
    [ "$target" != core ] || run=(fuzz_core)
    echo "== $target"
    if ! "${run[@]}" "${options[@]}" "${folders[@]}" >"$work/log" 2>&1; then
        grep -v '^#' "$work/log" | tail -40
        echo "$target: a promise is broken; the input is in build/fuzz/found"
        exit 1
    fi
    grep -E '^(core|[a-z]+):|^Done|new_units_added' "$work/log" | sed 's/^stat:://' || cat "$work/log"
done
