"""Where work runs: Dask workers, streams of futures, retries, the hold on a region."""
