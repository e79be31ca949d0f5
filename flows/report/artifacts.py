"""What a run leaves in the Prefect UI: the plan, the result, and the picture."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from httpx import HTTPError
from PIL import Image
from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException

from flows.plan.plan import Plan
from flows.progress import Progress
from flows.report.accountability import tabulate
from flows.report.schema import Report
from flows.report.workload import Workload, count_steps, estimate_workload

THUMBNAIL_PX = 1000  # longest side
MARKDOWN = re.compile(r"[\\`<&\[\]*|~]")  # what makes links, pictures, tags and emphasis of words
ROWS_KEPT = 500  # the UI is no place for more


def show_plan(plan: Plan) -> None:
    """What the work comes to, which scenes will be registered, and which have no partner."""
    numbers = describe_workload(plan, estimate_workload(plan))
    _create("markdown", _key(plan, "workload"), _title(plan), numbers)
    rows: list[dict[str, Any]] = [
        {
            "day": slot.slot,
            "optical": pair.optical.id,
            "sar": pair.sar.id,
            "overlap": f"{pair.overlap_share:.0%}",
            "gap (days)": round(pair.gap.total_seconds() / 86400, 1),
        }
        for slot in plan.slots
        for pair in slot.pairs
    ]
    rows += [
        {"day": slot.slot, "optical": "", "sar": sar}
        for slot in plan.slots
        for optical, sar in slot.judged
        if not optical
    ]
    rows.sort(key=lambda row: row["day"])
    rows += [{"scene": left.id, "unpaired": left.reason} for left in plan.left_out]
    rows += [{"scene": each.scene_id, "warning": each.text} for each in plan.warnings]
    show_table(_key(plan, "plan"), _title(plan), rows)


def describe_workload(plan: Plan, work: Workload) -> str:
    """The plan in numbers, with what each of them rests on."""
    rows = [
        ("scenes found", f"{len(plan.optical)} optical, {len(plan.sar)} SAR"),
        ("pairs", str(len(plan.pairs))),
        ("days", f"{len(plan.slots)}, of {plan.lattice.shape[1]} × {plan.lattice.shape[0]} px"),
        *work.rows(),
    ]
    return "".join(f"| {what} | {told} |\n" for what, told in [("", ""), ("---", "---"), *rows])


def show_progress(plan: Plan) -> Progress:
    """Progress bars, and the run's progress artifact: a percentage, and what is being done."""
    title = _title(plan)
    expected = sum(count_steps(plan))
    artifact = _create("progress", _key(plan, "progress"), title, 0.0)
    if artifact is None:
        return Progress(expected=expected)

    def show(share: float, line: str) -> None:
        update = ArtifactUpdate(data=round(100 * share, 1), description=f"{title}: {line}")
        with get_client(sync_client=True) as client:
            client.update_artifact(artifact, update)

    return Progress(show, expected=expected)


def show_result(plan: Plan, report: Report, picture: bytes | None) -> None:
    """What became of each pair, refusals first; steps in the drift of passes, if there are any; and
    the preview, embedded: it needs no server."""
    rows = [
        {
            "day": pair.slot,
            "optical": pair.optical,
            "sar": pair.sar,
            "accepted": pair.accepted,
            "displacement (px)": _round(pair.median_displacement_px),
            "expected error (px)": _round(pair.expected_error_px),
            "matches": pair.matches,
            "reason": pair.reason,
        }
        for pair in sorted(report.pairs, key=lambda pair: pair.accepted)
    ]
    rows += [left.model_dump() for left in report.unpaired]
    show_table(_key(plan, "result"), _title(plan), rows)
    account = report.accountability
    failures = [failure.model_dump() for failure in account.failures]
    show_table(_key(plan, "accountability"), _title(plan), tabulate(account) + failures)
    if report.drift_steps:
        steps = [step.model_dump() for step in report.drift_steps]
        show_table(_key(plan, "drift"), _title(plan), steps)
    if picture is not None:
        image = f"data:image/png;base64,{base64.b64encode(thumbnail(picture)).decode()}"
        _create("image", _key(plan, "preview"), _title(plan), image)


def show_table(key: str, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The first rows as a table of JSON values."""
    shown = [
        {name: plain_text(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in rows[:ROWS_KEPT]
    ]
    _create("table", key, title, json.dumps(shown))


def plain_text(words: str) -> str:
    """Words as Markdown that shows them as they are.

    The UI takes every cell for Markdown, and ids and reasons hold what archives and files say:
    neither links nor pictures of theirs are to be followed or loaded from there.
    """
    return MARKDOWN.sub(r"\\\g<0>", words)


def thumbnail(picture: bytes) -> bytes:
    """The picture in few pixels and colours: artifacts live in Prefect's database."""
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    colours = small.quantize(128, Image.Quantize.FASTOCTREE)  # others take a hundred times as long
    colours.save(buffer, format="png")
    return buffer.getvalue()


def _create(type_: str, key: str, title: str, data: str | float) -> UUID | None:
    """An artifact of this run; None where Prefect does not take it, which stops no run.

    (Prefect's own `create_…_artifact` leave their sockets open.)
    """
    artifact = ArtifactCreate(
        type=type_,
        key=key,
        description=title,
        data=data,
        flow_run_id=runtime.flow_run.id,
        task_run_id=runtime.task_run.id,
    )
    try:
        with get_client(sync_client=True) as client:
            return client.create_artifact(artifact).id
    except (HTTPError, PrefectException) as error:
        get_run_logger().warning("Prefect does not show %s: %s", key, type(error).__name__)
        return None


def _key(plan: Plan, name: str) -> str:
    """Prefect allows lower-case letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', plan.request.region).strip('-') or 'region'}-{name}"


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _title(plan: Plan) -> str:
    return f"{plan.request.region}, {plan.request.start} to {plan.request.end}"
