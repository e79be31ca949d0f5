"""What people are told of a night: one message when something went wrong, one when all is well.

Messages go through apprise, which Prefect brings, or through a notification block of Prefect's.
Addresses are read when a message goes out; neither they nor the words of what sends them, which may
quote them, get into logs, states or artifacts.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from apprise import Apprise, NotifyType
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun

from flows.plan.request import RequestError
from flows.report.schema import Accountability
from flows.service.regions import Notify

LINES_TOLD = 40  # phones get these


class NotTold(RuntimeError):
    """A message did not reach everyone it was for."""


@dataclass(frozen=True)
class RegionNight:
    """What became of one region in one night."""

    region: str
    state: str
    """Completed, Partial or Failed."""
    message: str
    account: Accountability | None = None
    """None where nothing could be planned."""
    quiet: str = ""
    """Since when there is no new day, where that is too long."""
    not_retired: str = ""
    """Why days that are no longer kept could not be deleted."""

    @property
    def well(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self.state == "Completed" and not self.quiet and not self.not_retired


@dataclass(frozen=True)
class Message:
    """What is sent."""

    subject: str
    body: str
    kind: NotifyType


def message_of(
    state: str,
    days: tuple[date, date],
    regions: Sequence[RegionNight],
    before: FlowRun | None,
    link: str | None,
) -> Message | None:
    """What a night that ended in `state` is worth telling; None when all is well, and was before.

    `before` is the night that ended before this one. Of a night that went well after one that did
    not, the recovery is told: once, since the next night has this one before it.
    """
    span = f"{days[0]} to {days[1]}"
    links = [link] if link else []
    if state != "Completed":
        lines = [line for each in regions if not each.well for line in _lines_of(each)]
        if len(lines) > LINES_TOLD:
            lines = [*lines[:LINES_TOLD], f"… and {len(lines) - LINES_TOLD} lines more"]
        finished = sum(each.state == "Completed" for each in regions)
        lines.append(f"finished: {finished} of {len(regions)} regions")
        kind = NotifyType.FAILURE if state == "Failed" else NotifyType.WARNING
        return Message(f"tar-pipeline: {state}, {span}", "\n".join([*lines, *links]), kind)
    if before is None or before.state_name == "Completed":
        return None
    lines = [f"finished: all of {len(regions)} regions", f"the night before: {before.state_name}"]
    subject = f"tar-pipeline: all is well again, {span}"
    return Message(subject, "\n".join([*lines, *links]), NotifyType.SUCCESS)


def check_addresses(notify: Notify) -> None:
    """Whether the environment says whom to tell. Raises `RequestError`, which shows no address.

    A block is looked up only when a message goes out: it lives in the server.
    """
    if notify.urls_from is None:
        return
    try:
        _apprise_of(notify.urls_from)
    except NotTold as error:
        raise RequestError(f"notify: urls_from: {error}") from None


def send(notify: Notify, message: Message) -> None:
    """Tell everyone. Raises `NotTold`, which shows no address."""
    with _apprise_unheard():
        if notify.urls_from is not None:
            _send_by_apprise(notify.urls_from, message)
        else:
            _send_by_block(notify.block or "", message)


def _send_by_apprise(variable: str, message: Message) -> None:
    apprise = _apprise_of(variable)
    if not apprise.notify(body=message.body, title=message.subject, notify_type=message.kind):
        kinds = ", ".join(sorted({str(server.service_name) for server in apprise}))
        raise NotTold(
            f"of the {len(apprise)} addresses in {variable} ({kinds}) at least one took no message"
        )


def _send_by_block(name: str, message: Message) -> None:
    import prefect.blocks.notifications  # noqa: F401  # which makes its blocks known by name

    try:
        block = Block.load(name)
        if not isinstance(block, NotificationBlock):
            raise NotTold(f"block {name} is no notification block")
        with block.raise_on_failure():
            sent = block.notify(message.body, message.subject)
            if inspect.iscoroutine(sent):  # of a block of somebody's own; Prefect's have sent it
                asyncio.run(sent)
    except NotTold:
        raise
    except Exception as error:  # of whatever the block speaks to; its words may quote the address
        raise NotTold(f"block {name} took no message ({type(error).__name__})") from None


def _apprise_of(variable: str) -> Apprise:
    addresses = os.environ.get(variable, "").split()
    if not addresses:
        raise NotTold(f"the environment variable {variable} is not set")
    apprise = Apprise()
    with _apprise_unheard():
        unknown = [n for n, address in enumerate(addresses, start=1) if not apprise.add(address)]
    if unknown:
        told = ", ".join(map(str, unknown))
        raise NotTold(f"apprise knows no such address as number {told} in {variable}")
    return apprise


@contextmanager
def _apprise_unheard() -> Iterator[None]:
    """Its complaints quote addresses, and so, at the level of details, do its good news."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _lines_of(each: RegionNight) -> list[str]:
    lines = [f"{each.region}: {each.state}: {each.message}"]
    if each.account is not None:
        counts = {"days": each.account.days, "pairs": each.account.pairs}
        lines += [
            f"  {name}: {count.done} of {count.expected} done, {count.refused} refused, "
            f"{count.skipped} skipped, {count.failed} failed"
            for name, count in counts.items()
        ]
    if each.quiet:
        lines.append(f"  {each.quiet}")
    if each.not_retired:
        lines.append(f"  old days were not deleted: {each.not_retired}")
    return lines
