"""The command `penstock` and its sub-commands; each is imported only when it is asked for."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import penstock

_COMMANDS = {
    "replay": "what a limit would have done to the traffic in access logs",
    "guard": "whom a guard would have refused in access logs, and why",
    "inspect": "what is in a shared segment, or in a saved limiter",
    "bench": "what a decision costs on this machine",
    "sync-lab": "what instances that share a limit admit, on a real Redis",
}

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the signal's number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status. argv: without the program's name, or None for the process's own.

    Wrong arguments end in SystemExit(2), as argparse has it.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="penstock", description="An exact rate limiter, and what it would have done.")
    parser.add_argument("--version", action="version", version=f"penstock {penstock.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in argv if word in _COMMANDS), None)
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == asked:
            try:
                module = import_module(f"penstock.cli.{name.replace('-', '_')}")
            except ImportError as error:  # what a command needs may not be there: an extra, the compiled modules
                parser.error(f"{name}: {error}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered goes nowhere, without a word at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("penstock: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main())
