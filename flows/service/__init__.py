"""Runs that nobody types: nightly, on demand, backfill, and the service that hosts them."""
