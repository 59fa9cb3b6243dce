"""Builds the extension modules, one for each bridge ext/_*.pyx; everything else is in pyproject.toml.

PENSTOCK_PURE=1       no native code: the plain-Python reference runs
PENSTOCK_DEBUG=1      no optimisation, debug symbols, assertions, C warnings as errors
PENSTOCK_SANITIZE=... "address,undefined" or "thread": a sanitizer build (see tests/native)
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

PURE = os.environ.get("PENSTOCK_PURE", "") not in ("", "0")
DEBUG = os.environ.get("PENSTOCK_DEBUG", "") not in ("", "0")
SANITIZE = os.environ.get("PENSTOCK_SANITIZE", "")


def native_files(*endings: str) -> list[str]:
    """Every file under ext/ with one of these endings, so that the sdist carries them and a change rebuilds."""
    return sorted(
        f"{folder}/{name}".replace(os.sep, "/")
        for folder, _, names in os.walk("ext")
        for name in names
        if name.endswith(endings)
    )


def extension(bridge: str) -> Extension:
    compile_args, link_args = [], []
    if sys.platform == "win32":
        compile_args += ["/std:c11", "/experimental:c11atomics", "/O2"]
    else:
        link_args.append("-lm")
        compile_args += ["-ffp-contract=off"]  # shared.h: the reference engine's doubles, to the last bit
        compile_args += ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-missing-field-initializers"]
        compile_args += ["-O0", "-g3", "-UNDEBUG"] if DEBUG else ["-O3", "-g0"]
        if os.uname().machine in ("x86_64", "amd64", "AMD64"):
            compile_args.append("-mcx16")  # the slot's exchange must be one instruction, never a call that may lock
        if SANITIZE:
            compile_args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
            link_args.append(f"-fsanitize={SANITIZE}")
            if "undefined" in SANITIZE:
                compile_args += ["-fno-wrapv", "-fno-sanitize-recover=undefined"]
    return Extension(
        f"penstock.{bridge}",
        [f"ext/{bridge}.pyx"],
        include_dirs=["ext"],
        depends=[*native_files(".h", ".pxd"), "src/penstock/_core.pxd"],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


def ext_modules() -> list[Extension]:
    if PURE:
        return []
    from Cython.Build import cythonize

    bridges = sorted(path.stem for path in Path("ext").glob("_*.pyx"))
    extensions = [extension(bridge) for bridge in bridges]
    return cythonize(extensions, include_path=["ext", "src"], build_dir="build", language_level=3)


setup(ext_modules=ext_modules())
