"""docs/_ext: plain docstrings become markup that says the same, and links lead to pages."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
from doc_pages import DOCS

import penstock


@pytest.fixture(scope="module")
def shown(extension: Callable[[str], ModuleType]) -> Callable[..., list[str]]:
    """shown(docstring, obj): its lines as reStructuredText, without the empty ones."""
    docstrings = extension("docstrings")

    def process(text: str, obj: object = None, name: str = "penstock.Limiter") -> list[str]:
        lines = text.split("\n")
        docstrings.process(None, "function", name, obj, None, lines)
        return [line for line in lines if line]

    return process


def example(key: str, cost: int, timeout: float) -> None: ...


def test_parameters_are_a_list(shown: Callable[..., list[str]]) -> None:
    text = "Take it. key: who, as it\nis. cost, timeout: units; seconds. Raises ValueError for others."
    assert shown(text, example) == [
        "Take it.", "``key``", "    who, as it is", "``cost``, ``timeout``", "    units; seconds",
        "Raises ValueError for others.",
    ]  # fmt: skip


def test_a_word_before_a_colon_need_not_be_a_parameter(shown: Callable[..., list[str]]) -> None:
    assert shown("Note: the key: it stays.", example) == ["Note: the key: it stays."]


def test_names_in_columns_are_a_list(shown: Callable[..., list[str]]) -> None:
    assert shown("allowed  it was\n         taken\nlimit    units") == [
        "``allowed``", "    it was taken", "``limit``", "    units",
    ]  # fmt: skip


def test_what_is_set_apart_stays_as_it_is(shown: Callable[..., list[str]]) -> None:
    assert shown("    a -> *b*") == ["::", "        a -> *b*"]
    assert shown(">>> 2 ** 3\n8") == [">>> 2 ** 3", "8"]


def test_public_names_are_links(shown: Callable[..., list[str]]) -> None:
    assert shown("As `hit`, with a RateLimited; `nobody` knows.") == [
        "As :py:obj:`hit <penstock.Limiter.hit>`, with a :py:obj:`RateLimited <penstock.RateLimited>`;"
        " ``nobody`` knows."
    ]
    assert shown("Limits of a Segment. Limits again.") == [
        "Limits of a :py:obj:`Segment <penstock.Segment>`. Limits again."
    ]


def test_signs_that_would_be_markup(shown: Callable[..., list[str]]) -> None:
    assert shown("2**53, a|b, name_ and `a_b`(c)") == ["2\\*\\*53, a\\|b, name\\_ and ``a_b``\\ (c)"]


def test_every_docstring_of_the_limiter_is_kept_whole(shown: Callable[..., list[str]]) -> None:
    """No word is lost on the way."""
    text = penstock.Limiter.__doc__ or ""
    words = "".join(one for one in "".join(shown(text, penstock.Limiter)) if one.isalnum())
    for word in text.split():
        assert "".join(one for one in word if one.isalnum()) in words


@pytest.fixture
def page(extension: Callable[[str], ModuleType]) -> Callable[..., str]:
    """page(name, text): what Sphinx reads of a page."""
    pages = extension("pages")
    app = SimpleNamespace(
        srcdir=str(DOCS),
        config=SimpleNamespace(pages_shown={"project/core": "ext/README.md"}, root_doc="index"),
        env=SimpleNamespace(note_dependency=lambda path: None),
    )

    def read(name: str, text: str = "") -> str:
        source = [text]
        pages.read(app, name, source)
        return source[0]

    return read


def test_links_lead_to_pages(page: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_REPOSITORY", raising=False)
    assert page("guard", "[a](guard-reference.md#the-whole)") == "[a](guard-reference.md#the-whole)"
    assert page("guard", "[core](../ext/README.md#orders)") == "[core](project/core.md#orders)"
    assert page("guide/limits", "[core](../../ext/README.md)") == "[core](../project/core.md)"
    assert page("guard", "[ext/README.md](../ext/README.md)") == "[The core, on one page](project/core.md)"
    assert page("guard", "[guard-reference.md](guard-reference.md)") == "[A guard's settings](guard-reference.md)"
    assert page("guard", "[web](https://example.org/a.md)") == "[web](https://example.org/a.md)"
    assert page("guard", "[tests](../tests/native) and `[x](../tests)`").startswith("tests and ")
    assert page("guard", "```\n[tests](../tests/native)\n```") == "```\n[tests](../tests/native)\n```"


def test_links_to_the_repository(page: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REPOSITORY", "https://example.org/owner/name/")
    assert page("guard", "[t](../tests/conftest.py)") == "[t](https://example.org/owner/name/blob/main/tests/conftest.py)"


def test_a_page_that_shows_another_file(page: Callable[..., str]) -> None:
    assert page("project/core", "# The core").startswith("# The core, on one page\n\n    key -> fingerprint")


def test_the_sidebar_is_the_first_pages_lists(page: Callable[..., str]) -> None:
    text = "# penstock\n\n## Guide\n\n- [A guard](guard.md): one\n- [Web](https://example.org)\n\n## Nothing\n"
    assert page("index", text).removeprefix(text) == (
        "\n```{toctree}\n:hidden:\n:caption: Guide\n\nA guard <guard>\n```\n"
    )
