"""Figures of a region for those who watch many: people by exit code, machines by OpenMetrics.

`freshness` says how old a region's newest day is; `metrics` makes that, and what its last report
counts, text that Prometheus reads.
"""
