"""What people read on a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console


def printed(show: Callable[[Console], object], width: int = 160) -> str:
    """The text that `show` prints on a terminal of so many columns."""
    text = io.StringIO()
    show(Console(file=text, width=width))
    return text.getvalue()
