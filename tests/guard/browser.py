"""A real browser without a window, driven over the WebDriver protocol: Chromium and its driver, if they are here."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest

PROGRAMS = ("chromium", "chromedriver")
ANSWER_S = 20.0
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name under which the protocol has an element's id (W3C WebDriver, section 12.1)."""

_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip


def missing(what: str) -> NoReturn:
    """Skips the test; fails where PENSTOCK_BROWSER says that there is a browser."""
    if os.environ.get("PENSTOCK_BROWSER", "") in ("", "0", "false"):
        pytest.skip(what)
    pytest.fail(what)


class Browser:
    """One window, inside `with`. logged: what pages have written to the console, errors of the network among it."""

    def __init__(self, folder: Path, dark: bool = False, width: int = 1200, height: int = 900) -> None:
        paths = [shutil.which(program) for program in PROGRAMS]
        if None in paths:
            missing("no chromium and chromedriver on the PATH; Debian's packages are chromium and chromium-driver")
        self._driver: subprocess.Popen[bytes] | None = None
        self._base = ""
        self._folder, self._paths = folder, paths
        self._flags = [*_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder / 'profile'}"]
        self._dark, self._size = dark, (width, height)

    def __enter__(self) -> Self:
        chromium, driver = self._paths
        log = self._folder / "driver.log"
        with log.open("wb") as output:
            self._driver = subprocess.Popen([str(driver), "--port=0"], stdout=output, stderr=output)
        try:
            port = wait_for(lambda: _port(log.read_text(errors="replace")))
            self._base = f"http://127.0.0.1:{port}/session"
            options = {"binary": chromium, "args": self._flags}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self._base += f"/{made['sessionId']}"
            width, height = self._size
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            self._devtools("Emulation.setDeviceMetricsOverride", **metrics)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}
            self._devtools("Emulation.setEmulatedMedia", features=[scheme])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        driver = self._driver
        assert driver is not None
        try:
            if "/session/" in self._base:
                self._ask("DELETE", "")  # ends the browser as well
        finally:
            driver.terminate()
            driver.wait(ANSWER_S)

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body in JavaScript returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text that is seen of the first element; of one that is not shown there is none."""
        found = "const one = document.querySelector(arguments[0]); return one?.checkVisibility() ? one.innerText : ''"
        return str(self.run(found, selector))

    def click(self, selector: str) -> None:
        """A real click, which fails where something else is in front."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Keys, one after the other, to whatever has the focus."""
        moves = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": moves}]})

    def until(self, selector: str, text: str) -> None:
        """Waits until an element's text has this in it."""
        try:
            wait_for(lambda: text in self.text(selector))
        except TimeoutError:
            raise AssertionError(f"{selector} has no {text!r} but {self.text(selector)!r}") from None

    def until_gone(self, selector: str, text: str) -> None:
        """Waits until an element's text has this in it no more."""
        try:
            wait_for(lambda: text not in self.text(selector))
        except TimeoutError:
            raise AssertionError(f"{selector} still has {text!r}: {self.text(selector)!r}") from None

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        height = self.run("return Math.ceil(document.documentElement.scrollHeight)")
        width = self._size[0]
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self._devtools("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def logged(self) -> list[str]:
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{path}: {error.read().decode(errors='replace')[:500]}") from None


def wait_for(found: Callable[[], Any], seconds: float = ANSWER_S) -> Any:
    """What `found` returns as soon as that is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} stays {value!r}")
        time.sleep(0.05)
    return value


def _port(log: str) -> str:
    """From the line of the log that says where the driver listens."""
    _, said, rest = log.partition("started successfully on port ")
    return rest.partition(".")[0] if said and "." in rest else ""
