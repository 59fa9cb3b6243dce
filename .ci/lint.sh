#!/usr/bin/env bash
# Lint and types: Python, Cython, the workflows and forms of .github, and the scripts here.
#
#   .ci/lint.sh [ruff | mypy | cython-lint | github | scripts]...      default: all, each until its end
#
# In the virtual environment that README's test command made (.venv; an empty one is made where there is none), with the
# tools of pyproject.toml's extra `lint`. Once they are installed, no network is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
mapfile -t tools < <(.venv/bin/python -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"]["lint"], sep="\n")')
.venv/bin/pip install -q --no-index "${tools[@]}" >/dev/null 2>&1 || .venv/bin/pip install -q "${tools[@]}"
export PATH="$PWD/.venv/bin:$PATH" # cython-lint calls pycodestyle by name

github() {
    zizmor --offline --quiet --persona=pedantic . || return 1
    fits github-workflows .github/workflows/*.yml || return 1
    fits github-issue-forms .github/ISSUE_TEMPLATE/[1-9]*.yml || return 1
    fits github-issue-config .github/ISSUE_TEMPLATE/config.yml || return 1
    fits dependabot .github/dependabot.yml
}
fits() { check-jsonschema --quiet --builtin-schema "vendor.$1" "${@:2}"; }

failed=()
[ $# -gt 0 ] || set -- ruff mypy cython-lint github scripts
for check in "$@"; do
    case "$check" in
    ruff) ruff check --quiet . ;;
    mypy) mypy ;;
    cython-lint) cython-lint ext/*.pyx ext/*.pxd src/penstock/_core.pxd src/penstock/__init__.pxd ;;
    github) github ;;
    scripts) shellcheck --exclude=SC2016 .ci/run .ci/*.sh ;; # what is in single quotes is meant so
    *)
        echo "no check is called $check" >&2
        exit 2
        ;;
    esac || failed+=("$check")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: ${failed[*]} found something" >&2
    exit 1
fi
echo "lint: $* found nothing"
