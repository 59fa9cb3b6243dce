#!/usr/bin/env bash
# The tests against wheels of .ci/wheels.sh as they are installed: each in a fresh environment of its CPython, in a folder
# that has the tests but not src/. Which packages and which tests: pyproject.toml, [tool.cibuildwheel].
#
#   .ci/wheels-test.sh FOLDER [WHEEL]...      FOLDER has the sdist, which has the tests; default: all wheels in it
#
# x86_64: .ci/pythons.sh finds the interpreter. aarch64 on another processor: Debian's, under qemu-user-static, where the
# part of the suite that is told below runs ten to twenty times slower than it would. A wheel whose interpreter can't be
# had here is named at the end, and is a failure.
#
# PENSTOCK_SUITE   the tests to run instead, such as "tests/parity tests/concurrency"
# PENSTOCK_PYTEST  more arguments for pytest
set -euo pipefail
folder="$(cd "${1:?where are the wheels?}" && pwd)"
shift
[ $# -gt 0 ] || set -- "$folder"/*.whl
wheels=()
for wheel in "$@"; do wheels+=("$(realpath "$wheel")"); done
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
chmod 755 "$work" # a test becomes another user, who must be able to import what is installed here
trap 'rm -rf "$work"' EXIT
unset PENSTOCK_PURE PYTHONPATH
export PENSTOCK_LEAN=1 # as pyproject.toml says for cibuildwheel
read -r -a more <<<"${PENSTOCK_PYTEST:-}"

"${PYTHON:-python3}" -m venv "$work/tools"
pip="$work/tools/bin/pip"
"$pip" install -q -U pip
mkdir "$work/tree" "$work/temporary"
tar -x --strip-components=1 -C "$work/tree" -f "$folder"/penstock-*.tar.gz
rm -r "$work/tree/src" # what is tested is what was installed
setting() {
    "$work/tools/bin/python" -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    value = tomllib.load(file)["tool"]["cibuildwheel"][sys.argv[2]]
print(value if isinstance(value, str) else "\n".join(value))' "$work/tree/pyproject.toml" "$1"
}
mapfile -t requirements < <(setting test-requires)
read -r -a suite <<<"$(setting test-command)"
suite=("${suite[@]:1}") # without "python"

# Under emulation a thread's turn is long and a process takes seconds to start: what is about arithmetic, states and
# threads is run, what is about processes, servers and C programs of the host's is not.
cat >"$work/brief.py" <<'PLUGIN'
"""hypothesis tries less, where everything is slow."""
from hypothesis import HealthCheck, settings

settings.register_profile("brief", deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
PLUGIN
emulated=(-m pytest -q tests/unit tests/parity tests/properties tests/concurrency tests/guard
    --deselect tests/unit/test_backend.py --ignore=tests/guard/test_admin_page.py)
if [ -n "${PENSTOCK_SUITE:-}" ]; then
    read -r -a emulated <<<"-m pytest -q $PENSTOCK_SUITE"
    suite=("${emulated[@]}")
fi

installed() { # installed ENVIRONMENT: the package comes from there, and is compiled
    (cd "$work/temporary" && "$1/bin/python" -W error -c '
import sys, penstock
assert penstock.native and penstock.__file__.startswith(sys.argv[1]), penstock.__file__
print("CPython", sys.version.split()[0], "penstock", penstock.__version__)' "$1")
}

failed=()
for wheel in "${wheels[@]}"; do
    name="$(basename "$wheel")"
    abi="$(echo "$name" | cut -d- -f4)" # cp313t
    version="${abi:2:1}.${abi:3}"
    processor="${name##*_}"
    processor="${processor%.whl}"
    [ "$processor" != 64 ] || processor=x86_64
    echo "== $name"
    environment="$work/$abi-$processor"
    begun=$SECONDS
    if [ "$processor" = "$(uname -m)" ]; then
        read -r _ python <<<"$(.ci/pythons.sh "$version")"
        command=("${suite[@]}")
    else
        python="$(.ci/python-debian.sh "${version%t}" arm64)" || python=""
        command=("${emulated[@]}" -p brief --hypothesis-profile=brief)
    fi
    if [ -z "$python" ]; then
        failed+=("$name: no interpreter")
        continue
    fi
    "$python" -m venv --without-pip "$environment"
    if [ "$processor" = "$(uname -m)" ]; then
        "$pip" --python "$environment/bin/python" install -q --prefer-binary "${requirements[@]}" "$wheel"
    else # put there from outside: pip itself takes minutes under emulation
        "$pip" install -q --target "$environment/lib/python$version/site-packages" --only-binary=:all: \
            --platform "manylinux_2_17_$processor" --platform "manylinux_2_28_$processor" \
            --python-version "$version" --implementation cp --abi "$abi" --abi none "${requirements[@]}" "$wheel"
    fi
    installed "$environment"
    [ "$processor" = "$(uname -m)" ] || cp "$work/brief.py" "$environment/lib/python$version/site-packages"
    (cd "$work/tree" && TMPDIR="$work/temporary" nice -n 10 "$environment/bin/python" "${command[@]}" \
        -p no:cacheprovider ${more[@]+"${more[@]}"}) || failed+=("$name: tests")
    echo "took $((SECONDS - begun)) s"
    rm -rf "$environment"
done
if [ ${#failed[@]} -gt 0 ]; then
    printf '%s\n' "${failed[@]}" >&2
    exit 1
fi
