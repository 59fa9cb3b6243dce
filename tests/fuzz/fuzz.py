"""Fuzzes one target of targets.py, guided by the coverage of penstock's Python code where atheris is installed.

    python fuzz.py <target> [libFuzzer's options and folders]      with atheris
    python fuzz.py <target> -max_total_time=<seconds>              without: known inputs turned about at random

Ends with status 1 and the input in a file when a promise is broken.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def guided(name: str, options: list[str]) -> None:
    """libFuzzer's own loop; does not return."""
    import atheris

    with atheris.instrument_imports(include=["penstock"]):
        import targets
    program = f"{sys.executable} {__file__} {name}"  # which libFuzzer calls again, with other options, to merge
    atheris.Setup([program, *options], targets.TARGETS[name])
    atheris.Fuzz()


def unguided(name: str, options: list[str]) -> int:
    """Tries the corpus, then random changes of it, until the time is up."""
    import mutate
    import targets

    check, known = targets.TARGETS[name], mutate.corpus(name)
    seconds = next((float(o.partition("=")[2]) for o in options if o.startswith("-max_total_time=")), 10.0)
    end, count = time.monotonic() + seconds, 0
    inputs = iter(known)
    changed = mutate.mutations(known, time.time_ns())
    while time.monotonic() < end:
        data = next(inputs, None)
        data = next(changed) if data is None else data
        count += 1
        try:
            check(data)
        except Exception:
            found = Path(f"crash-{name}")
            found.write_bytes(data)
            print(f"{name}: broken by the input now in {found}", file=sys.stderr)
            raise
    print(f"{name}: {count} inputs in {seconds:.0f} s, without coverage (atheris is not installed)")
    targets.remove_file()
    return 0


if __name__ == "__main__":
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.exit(unguided(sys.argv[1], sys.argv[2:]))
    guided(sys.argv[1], sys.argv[2:])
