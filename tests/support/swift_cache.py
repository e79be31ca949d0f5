"""What memcached is to a production Swift, inside its only proxy: who an account and a bucket are.

Without it the proxy asks two of its servers for that before every request. Only Swift's processes
import this.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import monotonic
from typing import Any

App = Callable[[dict[str, Any], Any], Any]


class Kept:
    """The part of Swift's client of memcached that its proxy needs, with the same meaning."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}

    def get(self, key: str, **_: object) -> Any:
        """What was set, as JSON keeps it; None when its time is over."""
        value, until = self._kept.get(key, ("null", 0.0))
        return json.loads(value) if monotonic() < until else None

    def set(self, key: str, value: Any, time: float = 0, **_: object) -> None:
        self._kept[key] = json.dumps(value), monotonic() + time

    def delete(self, key: str, **_: object) -> None:
        self._kept.pop(key, None)


def filter_factory(_common: dict[str, str], **_options: str) -> Callable[[App], App]:
    """As Paste asks for the filter of a pipeline."""
    kept = Kept()

    def filtered(app: App) -> App:
        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = kept
            return app(environ, start_response)

        return answer

    return filtered
