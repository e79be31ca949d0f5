"""One run per region at a time: a slot of a Prefect concurrency limit, held by a lease.

The run renews its lease while it lives; the lease of a run that was killed expires, and the server
gives its slot to the next. This is courtesy, not safety: the store is right with two runs at once,
they would only do the same work twice. A run without a Prefect server of its own address
(`PREFECT_API_URL`) shares no limit with anybody, so it takes none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from uuid import UUID

from httpx import HTTPError
from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.settings import get_current_settings

LEASE_SECONDS = 60.0  # Prefect's least; renewed at three quarters of it
WAIT_SECONDS = 3600.0


class BusyError(RuntimeError):
    """Another run of the region held it for as long as this one was ready to wait."""


@contextmanager
def region_lease(store_url: str, region: str) -> Iterator[None]:
    """Hold the region's slot for the length of the block, inside a flow, after waiting for it.

    Raises `BusyError`.
    """
    if get_current_settings().api.url is None:
        yield
        return
    name = name_limit(store_url, region)
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, limit=1)
        if client.read_global_concurrency_limit_by_name(name).active_slots:
            get_run_logger().warning(
                "another run works on region %s of %s: waiting for its end, up to %d minutes",
                region, store_url, WAIT_SECONDS // 60,
            )  # fmt: skip
    held = ExitStack()
    try:
        held.enter_context(_slot(name))
    except TimeoutError as error:
        raise BusyError(
            f"region {region}: another run still works on it after "
            f"{WAIT_SECONDS / 60:.0f} minutes of waiting; run this one again later (if none "
            f"does, look at the concurrency limit {name!r} in Prefect)"
        ) from error
    try:
        yield
    finally:
        try:
            held.close()
        except HTTPError as error:  # the server is gone; the lease expires by itself
            get_run_logger().warning("region %s stays held: %s", region, type(error).__name__)


def name_limit(store_url: str, region: str) -> str:
    """The limit of a region of a store. Prefect takes no slashes in names."""
    address = hashlib.sha256(f"{store_url}/{region}".encode()).hexdigest()
    return f"region {region} {address[:12]}"


def _slot(name: str) -> AbstractContextManager[None]:
    run_id = runtime.flow_run.id
    return concurrency(
        name,
        timeout_seconds=WAIT_SECONDS,
        lease_duration=LEASE_SECONDS,
        strict=True,
        holder=ConcurrencyLeaseHolder(type="flow_run", id=UUID(run_id)) if run_id else None,
        raise_on_lease_renewal_failure=False,  # a server that is away for a minute stops no run
    )
