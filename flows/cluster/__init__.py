"""Where work runs: `workers` are those of Dask, `stream` sends them many jobs, a few at a time.

`peers` is how one of them shares what it works at with the others.

A job that fails, or kills its worker, is isolated and named there. `retries` says which failures
Prefect tries again, `lease` keeps two runs from one region. It knows the errors and the engine of
the other packages but nothing of plans, pairs or shards; every other room of `flows` may import it.
"""
