"""The largest resident set of every process of a command, sampled five times a second.

.venv/bin/python -m tests.benchmarks.memory .venv/bin/tar-pipeline run --catalog items.json …
"""

from __future__ import annotations

import sys
import time

import psutil

SHOWN = 6


def main() -> int:
    """Run the command, print its processes by memory, return its exit code."""
    command = psutil.Popen(sys.argv[1:])
    peak: dict[str, int] = {}
    while command.poll() is None:
        try:
            for process in (command, *command.children(recursive=True)):
                name = f"{process.pid} {' '.join(process.cmdline())[:70]}"
                peak[name] = max(peak.get(name, 0), process.memory_info().rss)
        except psutil.Error:  # it ended between being listed and being asked
            continue
        time.sleep(0.2)
    for name, resident in sorted(peak.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{resident / 2**20:6.0f} MiB  {name}")
    return int(command.returncode)


if __name__ == "__main__":
    sys.exit(main())
