"""One room per command, or per few that belong together: its options, and what it tells.

What is slow to import (torch, Prefect, Dask) is imported by the functions that need it.
"""
