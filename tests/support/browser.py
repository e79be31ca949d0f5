"""A page as a person sees it: Debian's chromium, headless, with whatever its scripts have drawn."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
PATIENCE_MS = 15_000  # of the page's own clock, which runs ahead while nothing is loading


def page_text(url: str, profile: Path, *, picture: Path | None = None) -> str:
    """The text of a page once it is drawn, its screenshot into `picture`."""
    assert CHROMIUM is not None
    screenshot = [f"--screenshot={picture}"] if picture else []
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--disable-background-networking", "--no-first-run", "--window-size=1400,2400",
         f"--virtual-time-budget={PATIENCE_MS}", *screenshot, "--dump-dom", url],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    visible = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", done.stdout)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())


KEYS = {
    "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Escape": 27, "s": 83,
}  # fmt: skip


class Page:
    """An open page: keys are pressed and pictures taken as by a person (DevTools protocol)."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0

    def press(self, key: str, times: int = 1) -> None:
        about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            self._call("Input.dispatchKeyEvent", type="rawKeyDown", **about)
            self._call("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, at: tuple[float, float]) -> None:
        """With the left button of a mouse; a position in pixels of the window."""
        self.drag(at, at)

    def visit(self, url: str) -> None:
        """Another page in the place of this one, until it is complete."""
        self._call("Page.navigate", url=url)
        self.wait_until_at(url)

    def wait_until_at(self, url: str) -> None:
        """Until this page is complete, whatever it did to what follows # in its address."""
        bare = url.partition("#")[0]
        for _ in range(300):
            # A tab begins with an empty page, which is complete at once, and between two pages
            # there is none.
            with suppress(AssertionError):
                now = self.evaluate("[location.href, document.readyState]")
                if now[0].partition("#")[0] == bare and now[1] == "complete":
                    return
            time.sleep(0.1)

    def resize(self, width: int, height: int) -> None:
        """As a screen of that size shows it; a narrow one is a phone's."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip

    def wait_for(self, script: str) -> Any:
        """The value of a JavaScript expression, once it is true. Raises TimeoutError."""
        for _ in range(300):
            if found := self.evaluate(script):
                return found
            time.sleep(0.1)
        raise TimeoutError(f"never true: {script}")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the left button of a mouse; positions in pixels of the window."""
        for kind, (x, y), buttons in (
            ("mousePressed", start, 1), ("mouseMoved", end, 1), ("mouseReleased", end, 0),
        ):  # fmt: skip
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons,
                clickCount=1,
            )  # fmt: skip

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, selector: str) -> np.ndarray:
        """What an element shows, (H, W, 3) uint8."""
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
            ".getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
        data = self._call("Page.captureScreenshot", format="png", clip=clip)["data"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.asarray(image.convert("RGB"))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result


@contextmanager
def open_page(url: str, profile: Path) -> Iterator[Page]:
    """A page in a browser of its own, which ends with the block."""
    assert CHROMIUM is not None
    browser = subprocess.Popen(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--disable-background-networking", "--no-first-run", "--window-size=1200,1400",
         "--remote-debugging-port=0", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with connect(_debugger(profile, url), max_size=None) as socket:
            page = Page(socket)
            page.wait_until_at(url)
            yield page
    finally:
        browser.terminate()
        browser.wait(30)


def _debugger(profile: Path, url: str) -> str:
    """The address at which the browser that was just started is spoken to about this page."""
    from urllib.error import URLError
    from urllib.request import urlopen

    for _ in range(300):
        try:
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                for target in json.load(answer):
                    if target["type"] == "page" and target["url"].startswith(url.partition("#")[0]):
                        return str(target["webSocketDebuggerUrl"])
        except (FileNotFoundError, IndexError, URLError):
            pass
        time.sleep(0.1)
    raise TimeoutError("chromium did not start")
