"""Makes sources ready for the package index: links that lead somewhere from there, its addresses, the tag checked.

    python .ci/release.py FOLDER      changes FOLDER/README.md and FOLDER/pyproject.toml: a copy, never the checkout

The README's links are relative, as they should be in a repository; on the index they would lead nowhere. What they are
made to point at is taken from the variables that GitHub sets in every job: GITHUB_SERVER_URL, GITHUB_REPOSITORY,
GITHUB_REF_TYPE, GITHUB_REF_NAME and GITHUB_SHA. On a tag, it must be "v" and the version, and the links go to that tag.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

# Code is left as it is; a link is ](target), a reference [name]: target, or an attribute of an HTML tag.
CODE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)[ ]*$|(`+)(?!`).+?(?<!`)\1(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"""(?P<image>!?)(?P<label>\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\()(?P<target>[^)\s]+)(?=[)\s])"""
    r"""|^(?P<name>\[[^\]]+\]:\s+)(?P<place>\S+)"""
    r"""|(?P<attribute>\b(?:src|srcset|href)=")(?P<value>[^"]+)""",
    re.MULTILINE,
)
ABSOLUTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


class Unfit(Exception):
    """What is to be released can't be, and why."""


def version_of(folder: Path) -> str:
    module = ast.parse((folder / "src" / "penstock" / "__init__.py").read_text(encoding="utf-8"))
    for statement in module.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    raise Unfit("src/penstock/__init__.py has no __version__")


def revision(version: str, environment: Mapping[str, str]) -> str:
    """Where links lead: the tag, which must be the version's, or else the commit."""
    if environment.get("GITHUB_REF_TYPE") != "tag":
        return environment["GITHUB_SHA"]
    tag = environment["GITHUB_REF_NAME"]
    if tag != f"v{version}":
        raise Unfit(f"the tag is {tag!r}, but __version__ is {version!r}: the tag must be 'v{version}'")
    return tag


def absolute(text: str, address: str, at: str, folder: Path) -> str:
    """A README in which every relative link points into the repository at that revision."""

    def target_of(target: str, image: bool) -> str:
        if ABSOLUTE.match(target):
            return target
        path, _, anchor = target.partition("#")
        path = path.removeprefix("./") or "README.md"
        if not (folder / path).exists():
            raise Unfit(f"README.md links to {target!r}, which is not in the repository")
        view = "raw" if image else "tree" if (folder / path).is_dir() else "blob"
        return f"{address}/{view}/{at}/{path}" + (f"#{anchor}" if anchor else "")

    def linked(match: re.Match[str]) -> str:
        if match["label"]:
            label = LINK.sub(linked, match["label"]) if "](" in match["label"][:-2] else match["label"]
            return match["image"] + label + target_of(match["target"], image=bool(match["image"]))
        if match["name"]:
            return match["name"] + target_of(match["place"], image=False)
        return match["attribute"] + target_of(match["value"], image=match["attribute"].startswith("src"))

    done, last = [], 0
    for code in CODE.finditer(text):
        done += [LINK.sub(linked, text[last : code.start()]), code[0]]
        last = code.end()
    return "".join([*done, LINK.sub(linked, text[last:])])


def with_addresses(settings: str, address: str, at: str, folder: Path) -> str:
    """pyproject.toml with the project's addresses."""
    if "urls" in tomllib.loads(settings)["project"]:
        raise Unfit("pyproject.toml names the project's addresses already")
    urls = {"Source": address, "Issues": f"{address}/issues", "Documentation": f"{address}/tree/{at}/docs"}
    if (folder / "CHANGELOG.md").exists():
        urls["Changelog"] = f"{address}/blob/{at}/CHANGELOG.md"
    line = "urls = { " + ", ".join(f'{name} = "{url}"' for name, url in urls.items()) + " }\n"
    changed = re.sub(r"^\[project\]\n", lambda match: match[0] + line, settings, count=1, flags=re.MULTILINE)
    if tomllib.loads(changed)["project"].get("urls") != urls:
        raise Unfit("pyproject.toml has no line '[project]' under which addresses could be written")
    return changed


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        address = f"{environment['GITHUB_SERVER_URL']}/{environment['GITHUB_REPOSITORY']}"
        at = revision(version_of(folder), environment)
        for name, change in (("README.md", absolute), ("pyproject.toml", with_addresses)):
            text = (folder / name).read_text(encoding="utf-8")
            (folder / name).write_text(change(text, address, at, folder), encoding="utf-8", newline="\n")
    except Unfit as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"release: {error.args[0]} is not set, which GitHub does in every job", file=sys.stderr)
        return 1
    print(f"README.md links to {address} at {at}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
