"""Builds the extension modules, one for each bridge ext/_*.pyx; everything else is in pyproject.toml.

First a trial module is built, which needs what they need: a C11 compiler, Python's headers, 16 bytes exchanged at
once. If that fails, the build says what is missing and installs the plain-Python reference alone; after it, whatever
fails is an error.

PENSTOCK_PURE=1       no native code: the plain-Python reference runs
PENSTOCK_NATIVE=1     native code or nothing: what is missing is an error, as for wheels and in CI
PENSTOCK_DEBUG=1      no optimisation, debug symbols, assertions, C warnings as errors; native code or nothing
PENSTOCK_SANITIZE=... "address,undefined" or "thread": a sanitizer build (see tests/native); native code or nothing
"""

import contextlib
import os
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, PlatformError


def asked(switch: str) -> bool:
    return os.environ.get(switch, "") not in ("", "0")


PURE = asked("PENSTOCK_PURE")
DEBUG = asked("PENSTOCK_DEBUG")
SANITIZE = os.environ.get("PENSTOCK_SANITIZE", "")
NATIVE = asked("PENSTOCK_NATIVE") or DEBUG or SANITIZE != ""

# Modules that need a little more each: the first that can't be built names what is missing.
TRIALS = {
    "a C compiler that works is missing": "",
    "the headers of this Python are missing (Python.h; see python3-dev or python3-devel)": "#include <Python.h>",
    "the C compiler is too old: C11 with atomics is needed": "#ifndef _MSC_VER\n#include <stdatomic.h>\n#endif",
    "16 bytes can't be exchanged at once on this processor, by this compiler": '#include "platform/atomics.h"',
}
TRIAL_MODULE = "{0}\nvoid *PyInit_trial(void);\nvoid *PyInit_trial(void) {{ return 0; }}\n"
EVERYTHING = "\n".join(TRIALS.values())


def native_files(*endings: str) -> list[str]:
    """Every file under ext/ with one of these endings, so that a change rebuilds."""
    return sorted(
        f"{folder}/{name}".replace(os.sep, "/")
        for folder, _, names in os.walk("ext")
        for name in names
        if name.endswith(endings)
    )


def flags() -> tuple[list[str], list[str]]:
    """The arguments of the compiler and of the linker."""
    compile_args, link_args = [], []
    if sys.platform == "win32":
        compile_args += ["/std:c11", "/experimental:c11atomics", "/O2"]
    else:
        link_args.append("-lm")
        compile_args += ["-ffp-contract=off"]  # shared.h: the reference engine's doubles, to the last bit
        compile_args += ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-missing-field-initializers"]
        if DEBUG:  # some Pythons ask for _FORTIFY_SOURCE, which warns where nothing is optimised
            compile_args += ["-O0", "-g3", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-Werror"]
        else:
            compile_args += ["-O3", "-g0"]
        # The slot's exchange must be one instruction, never a call that may lock. Apple's x86-64 has it without asking,
        # and its compiler may be building for two processors at once. The platform is the one that is built for.
        if sys.platform != "darwin" and sysconfig.get_platform().endswith(("x86_64", "amd64")):
            compile_args.append("-mcx16")
        if SANITIZE:
            compile_args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
            link_args.append(f"-fsanitize={SANITIZE}")
            if "undefined" in SANITIZE:
                compile_args += ["-fno-wrapv", "-fno-sanitize-recover=undefined"]
        elif not DEBUG:
            link_args.append("-Wl,-x" if sys.platform == "darwin" else "-Wl,-s")  # names that nobody looks up
    return compile_args, link_args


def extension(name: str, source: str) -> Extension:
    compile_args, link_args = flags()
    return Extension(
        name,
        [source],
        include_dirs=["ext"],
        depends=[*native_files(".h", ".pxd"), "src/penstock/_core.pxd"],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


@contextlib.contextmanager
def streams_into(file):
    """What is written to the standard streams, by compilers too, goes to a file meanwhile."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in enumerate(kept, start=1):
            os.dup2(copy, stream)
            os.close(copy)


class PenstockDistribution(Distribution):
    """Has extension modules if they can be built: the wheel's tag and its folders follow from that."""

    missing = None  # not asked yet; then "" or what there is not, and the compiler's words

    def has_ext_modules(self):
        return bool(self.ext_modules) and not self.what_is_missing()

    def what_is_missing(self) -> str:
        if self.missing is None:
            self.missing = ""
            if sys.implementation.name != "cpython":
                self.missing = f"the native code is for CPython, and this is {sys.implementation.name}"
            elif self.trial(EVERYTHING) is not None:
                attempts = ((what, self.trial(program)) for what, program in TRIALS.items())
                self.missing = next((f"{what}: {words}" for what, words in attempts if words is not None), "")
        return self.missing

    def trial(self, program: str) -> "str | None":
        """Builds a module with such a program, as the real ones are built: None, or what the compiler said."""
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", errors="replace") as output:
            source = Path(folder, "trial.c")
            source.write_text(TRIAL_MODULE.format(program))
            other = Distribution({"name": "trial", "ext_modules": [extension("trial", str(source))]})
            for command in ("build", "build_ext"):
                other.get_option_dict(command).update(self.get_option_dict(command))
            attempt = build_ext(other)
            attempt.build_lib = attempt.build_temp = folder
            try:
                with streams_into(output):
                    attempt.ensure_finalized()
                    attempt.inplace = False
                    attempt.run()
            except (BaseError, CCompilerError, OSError) as error:
                output.seek(0)
                lines = [line.strip() for line in output if line.strip()]
                words = next((line for line in lines if "error" in line.lower()), str(error))
                return textwrap.shorten(words, 240)
        return None


class Build(build):
    sub_commands = tuple((name, None if name == "build_ext" else wanted) for name, wanted in build.sub_commands)


class BuildExtensions(build_ext):
    """Always called, so that it can say why there is nothing to build."""

    def finalize_options(self):
        super().finalize_options()
        if not self.distribution.has_ext_modules():
            self.extensions = []

    def run(self):
        if self.extensions:
            self.build_all()
        elif self.distribution.ext_modules:
            missing = self.distribution.what_is_missing()
            if NATIVE:
                raise PlatformError(f"penstock's native code can't be built here, and was asked for. {missing}")
            print(
                "penstock: NO NATIVE CODE. The plain-Python engine is installed alone: as exact, but about a hundred\n"
                "penstock: times slower, without penstock.guard, and with a warning at import.\n"
                f"penstock: {missing}",
                file=sys.stderr,
            )

    def build_all(self):
        from Cython.Build import cythonize

        generated = cythonize(self.extensions, include_path=["ext", "src"], build_dir="build", language_level=3)
        for mine, other in zip(self.extensions, generated, strict=True):
            mine.sources = other.sources
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            raise type(error)(
                f"{error}\npenstock: the compiler passed the trial, but not this: please report it with the output"
                " above. PENSTOCK_PURE=1 installs the plain-Python engine alone meanwhile."
            ) from error


if PURE and NATIVE:
    raise SystemExit("PENSTOCK_PURE asks for no native code, another switch of setup.py's for nothing but: choose one")
bridges = sorted(path.stem for path in Path("ext").glob("_*.pyx"))
setup(
    ext_modules=[] if PURE else [extension(f"penstock.{bridge}", f"ext/{bridge}.pyx") for bridge in bridges],
    distclass=PenstockDistribution,
    cmdclass={"build": Build, "build_ext": BuildExtensions},
)
