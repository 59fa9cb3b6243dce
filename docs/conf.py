"""How the documentation is built: Sphinx, MyST and furo over these Markdown pages. `.ci/docs.sh` runs it.

Nothing is fetched while it is built or read: no fonts, no scripts and no inventories from elsewhere.
"""

import sys
from pathlib import Path

import penstock

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

if not penstock.native:
    raise RuntimeError("the reference is read from the compiled modules, and the plain-Python engine is in use")

project = "penstock"
author = "the authors of penstock"
copyright = author
release = version = penstock.__version__

extensions = ["sphinx.ext.autodoc", "myst_parser", "pages", "docstrings", "commands"]
root_doc = "index"
exclude_patterns = ["_ext", "_static"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(?!penstock\.(guard|adapters|clock|sync)?\.?[A-Z]).*"),
    ("py:obj", r"typing\..*"),
]
"""Types in signatures that have no page here: the standard library's, other packages', and aliases."""

# ---- pages ----

smartquotes = False  # what stands in quotes is often what is to be typed
myst_heading_anchors = 4  # the anchors that a repository's own view of Markdown has
myst_enable_extensions = ["deflist"]

pages_shown = {
    "project/overview": "README.md",
    "project/core": "ext/README.md",
    "project/results": "benchmarks/RESULTS.md",
    "project/benchmarks": "benchmarks/README.md",
    "project/changelog": "CHANGELOG.md",
    "project/contributing": ".github/CONTRIBUTING.md",
    "project/reporting": ".github/SECURITY.md",
}
"""Pages of this folder that show a file from elsewhere in the repository."""

# ---- the reference ----

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("Key", "Rates", "KeyFunction", "Per")}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 120
add_module_names = False

# ---- how it looks ----

html_theme = "furo"
html_title = f"penstock {release}"
html_static_path = ["_static"]
html_css_files = ["penstock.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "native"
