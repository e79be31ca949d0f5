"""Runs that nobody types: each of them a Prefect flow, or many.

`nightly` goes through the regions file that `regions` reads, `on_demand` is one region by hand in
the UI, `backfill` the days of the past, `serve` the server and worker that host them on one
machine. `history` is what Prefect remembers of earlier nights, `alarms` what people are told of
one, `automations` what Prefect does by itself. They may import `register_region` and all below it;
only `cli` imports them.
"""
