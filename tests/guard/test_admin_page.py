"""The administration's page in a real browser: what it shows, what its buttons do, and how it looks where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, wait_for
from doubles import Ban, Steered
from own_server import served

from penstock.guard.admin import admin_app

BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
TAB, RIGHT, ENTER = "\ue004", "\ue014", "\ue007"


class Site:
    """The page behind a real server, mounted below a path. may: whether the authoriser lets in."""

    def __init__(self) -> None:
        self.guard: Any = Steered()
        self.may = True
        self._app = admin_app(self.guard, authorise=lambda scope: self.may)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "root_path": "/tools/guard"}, receive, send)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with served(site) as base:
        yield f"{base}/tools/guard/security"  # without the slash: it leads there by itself


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as window:
        yield window


@pytest.fixture
def browser(one_browser: Browser) -> Browser:
    one_browser.logged()  # of the test before
    return one_browser


def test_what_it_shows(browser: Browser, site: Site, url: str) -> None:
    browser.open(url)
    browser.until("#contact", "Live")
    assert browser.text("#n-total").startswith("1,")
    assert browser.text("#n-refused") == "30"
    assert [browser.text(f"#tiers tr:nth-child({n}) th") for n in range(1, 5)] == [
        "Normal", "Suspicious", "Block", "Banned",
    ]  # fmt: skip
    assert browser.text("#refusals").split("\n")[0].startswith("limit address")
    assert "idle" not in browser.text("#refusals")
    assert browser.text("#top").count("203.0.x.x") == 3
    assert "58 min 42 s" in browser.text("#bans")
    assert "for ever" in browser.text("#bans tr:nth-child(2)")
    assert "14,120 entries, 2 h 1 min old" in browser.text("#health")
    assert "my detector failed\n2 times" in browser.text("#health")
    browser.until_gone("#n-rate", "\N{EN DASH}")
    assert browser.text("#top").count("203.0.x.x") == 3, "rows that look alike are rows of their own"
    assert int(browser.text("#n-rate").replace(",", "")) > 0, "it has polled again and seen a hundred more"
    assert browser.logged() == [], "nothing that its policy forbids, and nothing it looks for in vain"


def test_names_are_shown_and_never_read_as_html(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.until("#bans", "user <b>eve</b>")
    assert "<img src=x onerror=" in browser.text("#bans")
    assert browser.run("return [document.querySelectorAll('b, img').length, document.title]") == [4, "Guard"]


def test_unban_by_the_keyboard(browser: Browser, site: Site, url: str) -> None:
    browser.open(url)
    browser.until("#bans", "203.0.113.x")
    browser.run("document.querySelector('#emergency input:checked').focus()")
    browser.press(TAB)
    assert browser.run("return document.activeElement.getAttribute('aria-label')") == "Unban address 203.0.113.x"
    site.guard.list.insert(0, Ban("00000000000000a0", "address", "192.0.2.x", 60.0, 1, "new"))
    browser.until("#bans", "192.0.2.x")
    label = "return document.activeElement.getAttribute('aria-label')"
    assert browser.run(label) == "Unban address 203.0.113.x", "a new row does not move the focus"
    browser.press(ENTER)
    browser.until("#said", "Unbanned 203.0.113.x")
    assert site.guard.calls == [("unban", "00000000000000a1", "id")]
    browser.until_gone("#bans", "203.0.113.x")


def test_unbanning_the_last_one(browser: Browser, site: Site, url: str) -> None:
    del site.guard.list[1:]
    browser.open(url)
    browser.until("#bans", "203.0.113.x")
    browser.click("#bans button")
    browser.until("#no-bans", "Nobody is banned.")
    assert browser.run("return document.querySelectorAll('#bans tr').length") == 0


def test_a_ban_that_is_known_by_its_id_alone(browser: Browser, site: Site, url: str) -> None:
    site.guard.list = [Ban("00000000000000a3", "user", None, 60.0, 1, "by hand")]
    browser.open(url)
    browser.until("#bans", "user known by a hash alone, 00000000000000a3")
    browser.click("#bans button")
    browser.until("#no-bans", "Nobody is banned.")


def test_the_emergency_switch(browser: Browser, site: Site, url: str) -> None:
    browser.open(url)
    browser.until("#emergency-now", "Off")
    browser.click("#emergency label:nth-of-type(2)")
    browser.until("#emergency-now", "On for 1 min 15 s, by hand")
    browser.click("#emergency label:nth-of-type(1)")
    browser.until("#said", "Emergency mode: automatic")
    assert site.guard.calls == [("emergency", True), ("emergency", None)]
    assert wait_for(lambda: browser.run("return document.activeElement.value")) == "null"
    site.guard.manual = False  # by somebody else
    browser.until("#emergency-now", "Off, by hand")
    chosen = "return document.querySelector('#emergency input:checked').value"
    wait_for(lambda: browser.run(chosen) == "false")


def test_it_says_that_nothing_is_protected(browser: Browser, site: Site, url: str) -> None:
    site.guard.in_path = False
    browser.open(url)
    browser.until("#notices", "nothing is protected yet")
    site.guard.in_path = True
    browser.until("#health", "in the path of requests")
    browser.until_gone("#notices", "nothing is protected yet")


def test_it_says_when_contact_is_lost(browser: Browser, site: Site, tmp_path: Path) -> None:
    with served(site) as base:
        browser.open(f"{base}/tools/guard/security/")
        browser.until("#contact", "Live")
        site.may = False
        browser.until("#contact", "(Not authorised)")
        site.may = True
        browser.until("#contact", "Live")
    browser.until("#contact", "Lost contact")
    assert "(no answer)" in browser.text("#contact")
    assert browser.text("#n-refused") == "30", "the last numbers stay"


@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 1200), (False, 390), (True, 390)])
def test_light_dark_and_phones(site: Site, url: str, tmp_path: Path, dark: bool, width: int) -> None:
    with Browser(tmp_path, dark, width) as browser:
        browser.open(url)
        browser.until("#contact", "Live")
        lightness = sum(map(int, browser.run(BACKGROUND)[4:-1].split(","))) / 3
        assert (lightness < 100) == dark
        assert browser.run(WIDER) == 0, "nothing to scroll sideways"
        narrow = "return document.querySelector('#bans').parentElement.scrollWidth"
        assert browser.run(narrow) <= width
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
