#!/usr/bin/env bash
# What a decision costs in instructions, before and after: builds BASE and this checkout (as it stands, committed or not)
# in the same way in a temporary folder, runs the cases of benchmarks/instructions.py on both under valgrind's callgrind,
# and prints them side by side. Fails when a case has become dearer by more than it may.
#
#   .ci/benchmarks.sh [BASE]          a commit; default: where this branch left main, and on main the commit before
#
# A change that is dearer on purpose says so in its commit message, with the reason: "Dearer: hot, check: they now ...".
# PYTHON         the interpreter for both (default python3)
# PENSTOCK_CASES the cases, with blanks between them (default: all)
# PENSTOCK_JOBS  cases at once; default: one for each processor
# Needs valgrind with its headers, git and a C compiler. Where GITHUB_STEP_SUMMARY is set, the table goes there too.
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

base="${1:-}"
if [ -z "$base" ]; then
    base="$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main)"
    [ "$base" != "$(git rev-parse HEAD)" ] || base=HEAD^
fi
base="$(git rev-parse --verify --quiet "$base^{commit}")" || {
    echo "BASE=${1:-} is no commit here" >&2
    exit 2
}
git log --format=%B "$base..HEAD" >"$work/messages"

echo "== build $(git log -1 --format='%h (%s)' "$base") and this checkout"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'cython>=3.1' 'setuptools>=77' 'numpy>=2.0'
mkdir "$work/old" "$work/new" # names of one length, so that nothing but the code differs
git archive "$base" | tar -x -C "$work/old"
.ci/copy.sh "$work/new"
cp benchmarks/instructions.py benchmarks/native/counted.[ch] "$work"
"${CC:-cc}" -shared -fPIC -O1 -o "$work/counted.so" "$work/counted.c"
for tree in old new; do
    (cd "$work/$tree" && CFLAGS="-include $work/counted.h" "$work/venv/bin/python" setup.py -q build_ext --inplace >"$work/$tree.log" 2>&1) || {
        cat "$work/$tree.log" >&2
        exit 1
    }
    "$work/venv/bin/python" -m compileall -q "$work/$tree/src"
done

echo "== count"
"$work/venv/bin/python" -m compileall -q "$work/venv"
cat >"$work/one" <<'ONE'
#!/usr/bin/env bash
# One case on one tree: its folder, the case. The environment is the same whoever calls.
set -euo pipefail
work="$(dirname "$0")"
mkdir -p "$work/$1.counts"
fixed=()
if setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed=(setarch "$(uname -m)" -R)
fi
code=0
"${fixed[@]}" env -i PATH="$PATH" HOME="$work" LC_ALL=C.UTF-8 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH="$work/$1/src" TMPDIR="$work" LD_PRELOAD="$work/counted.so" \
    valgrind -q --tool=callgrind --callgrind-out-file="$work/$1.counts/$2" \
    "$work/venv/bin/python" "$work/instructions.py" run "$2" >"$work/$1.counts/$2.log" 2>&1 || code=$?
case $code in
0 | 3) ;; # 3: this tree does not have it
*)
    echo "$2 on the $1 tree ended with $code:" >&2
    cat "$work/$1.counts/$2.log" >&2
    exit 255 # xargs stops
    ;;
esac
ONE
chmod +x "$work/one"
cases="${PENSTOCK_CASES:-$("$work/venv/bin/python" "$work/instructions.py" names)}"
for name in $cases; do printf '%s\n' "old $name" "new $name"; done |
    xargs -P "${PENSTOCK_JOBS:-$(nproc)}" -L 1 timeout 600 "$work/one"

"$work/venv/bin/python" "$work/instructions.py" compare "$work/old.counts" "$work/new.counts" --cases "$cases" \
    --messages "$work/messages" ${GITHUB_STEP_SUMMARY:+--markdown "$GITHUB_STEP_SUMMARY"}
