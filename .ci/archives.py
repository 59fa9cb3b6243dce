"""Checks what is in an sdist or a wheel, and how large it is; for the scripts here, the release and tests/packaging.

    python .ci/archives.py FILE...      one line for each; leaves with an error if one breaks a rule
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

BRIDGES = ("_anomaly", "_core", "_match", "_records", "_scan")
LARGEST = {"any": 600_000, "x86_64": 1_500_000, "other": 3_000_000, "sdist": 4_000_000}  # bytes

# Of these, a wheel has what is needed to run, to be typed and to be cimported, and nothing else.
WHEEL_ENDINGS = (".py", ".pyi", ".pxd", ".typed", ".lua", ".html", ".css", ".js", ".svg", ".so", ".pyd")
WHEEL_NEEDS = {
    "penstock/__init__.py", "penstock/__init__.pxd", "penstock/_core.pxd", "penstock/_core.pyi", "penstock/py.typed",
    "penstock/sync/merge.lua", "penstock/guard/admin/page.html", "penstock/guard/admin/page.css",
    "penstock/guard/admin/page.js", "penstock/guard/admin/icon.svg",
}  # fmt: skip
SDIST_NEEDS = {
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "PKG-INFO", ".gitignore",
    "ext/README.md", "ext/_core.pyx", "ext/native.pxd", "ext/limiter.h", "ext/platform/atomics.h",
    "src/penstock/__init__.py", "src/penstock/sync/merge.lua", "src/penstock/guard/admin/page.html",
    "tests/conftest.py", "tests/test_readme.py", "tests/packaging/test_archives.py", "tests/native/claim.c",
    "tests/model/mutants.py", "benchmarks/README.md", "benchmarks/RESULTS.md", "docs/index.md", ".ci/run",
    ".ci/archives.py", ".github/workflows/ci.yml",
}  # fmt: skip
SDIST_ROOMS = {"ext", "src", "tests", "benchmarks", "docs", ".ci", ".github"}
GENERATED = re.compile(
    r"(^|/)(__pycache__|build|dist|\.hypothesis|\.pytest_cache|\.mypy_cache|\.ruff_cache|\.venv|\.git|_build)/"
    r"|\.(so|pyd|pyc|o|obj|dll|dylib)$|^ext/[^/]*\.c(pp)?$|^src/.*\.(c|cpp|h|pyx)$"
)


def faults_of_sdist(names: Iterable[str]) -> list[str]:
    """What is wrong with an sdist of these files, their first folder left out."""
    names = set(names)
    faults = [f"{name} is missing" for name in sorted(SDIST_NEEDS - names)]
    faults += [f"{name} is generated" for name in sorted(names) if GENERATED.search(name)]
    rooms = {name.split("/")[0] for name in names if "/" in name}
    faults += [f"nothing of {room}/" for room in sorted(SDIST_ROOMS - rooms)]
    return faults + [f"{room}/ does not belong there" for room in sorted(rooms - SDIST_ROOMS)]


def faults_of_wheel(names: Iterable[str], tag: str) -> list[str]:
    """What is wrong with a wheel of these files and this tag, such as cp313-cp313-manylinux_2_17_x86_64."""
    names = set(names)
    faults = [f"{name} is missing" for name in sorted(WHEEL_NEEDS - names)]
    for name in sorted(names):
        room = name.split("/")[0]
        if room != "penstock" and not room.endswith(".dist-info"):
            faults.append(f"{name} is outside of the package")
        elif room == "penstock" and not name.endswith(WHEEL_ENDINGS):
            faults.append(f"{name} is not needed to run")
    compiled = {PurePosixPath(name).name.split(".")[0] for name in names if name.endswith((".so", ".pyd"))}
    wanted = set() if tag == "py3-none-any" else set(BRIDGES)
    faults += [f"{name} is compiled, in a wheel for {tag}" for name in sorted(compiled - wanted)]
    faults += [f"{name} is not compiled, in a wheel for {tag}" for name in sorted(wanted - compiled)]
    if not any(re.fullmatch(r"penstock-[^/]*\.dist-info/licenses/LICENSE", name) for name in names):
        faults.append("the licence is missing")
    return faults


def unstripped(name: str, content: bytes) -> list[str]:
    """An ELF module whose section names tell that symbols or debugging data were left in it."""
    if not content.startswith(b"\x7fELF"):
        return []
    return [f"{name} has {left.decode()}" for left in (b".symtab", b".debug_info") if b"\0" + left + b"\0" in content]


def look_at(file: Path) -> list[str]:
    """Prints one line about an archive, and gives what is wrong with it."""
    size = file.stat().st_size
    if file.name.endswith(".tar.gz"):
        with tarfile.open(file) as archive:
            members = [member.name for member in archive if not member.isdir()]
        kind = "sdist"
        faults = faults_of_sdist(name.partition("/")[2] for name in members)
    else:
        tag = "-".join(file.stem.split("-")[-3:])
        kind = next((end for end in ("any", "x86_64") if tag.endswith(end)), "other")
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
            faults = faults_of_wheel(members, tag)
            for name in members:
                faults += unstripped(name, archive.read(name))
    if size > LARGEST[kind]:
        faults.append(f"{size:,} bytes; at most {LARGEST[kind]:,} are allowed")
    print(f"{file.name:<80} {size:>9,} bytes {len(members):>5} files")
    return [f"{file.name}: {fault}" for fault in faults]


def main(files: list[str]) -> int:
    if not files:
        print(__doc__, file=sys.stderr)
        return 2
    faults = [fault for file in files for fault in look_at(Path(file))]
    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
