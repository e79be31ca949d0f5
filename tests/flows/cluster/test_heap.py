"""What was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

HEAP = """
import psutil, numpy
from flows.cluster.heap import release_memory
rss = psutil.Process().memory_info
kept = [numpy.ones(1 << 18) for _ in range(200)]  # 2 MiB each
del kept
before = rss().rss
release_memory()
print(before - rss().rss)
"""


def test_freed_memory_goes_back_though_malloc_was_told_to_keep_it() -> None:
    keep = str(2**32)
    environment = {"MALLOC_TRIM_THRESHOLD_": keep, "MALLOC_MMAP_THRESHOLD_": keep}
    done = subprocess.run(
        [sys.executable, "-c", HEAP], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 300 * 2**20
