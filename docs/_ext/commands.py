"""The directive `command-help`: what `penstock COMMAND --help` prints, asked of the command itself while building.

    ```{command-help} replay
    ```
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from penstock.cli.__main__ import main

COLUMNS = "92"
"""Characters in a line, which a page has room for."""


class CommandHelp(SphinxDirective):
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = [*shlex.split(self.arguments[0] if self.arguments else ""), "--help"]
        text = help_of(words)
        return [nodes.literal_block(text, text, language="text")]


def help_of(words: list[str]) -> str:
    """What the command prints for these arguments, of which the last is --help."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            main(words)
    except SystemExit as end:
        if end.code:
            raise ValueError(f"penstock {shlex.join(words)} ends with {end.code}") from None
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue().rstrip()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
