"""A page as a person sees it: Debian's chromium, headless, with whatever its scripts have drawn."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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
