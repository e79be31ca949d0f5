"""What a run leaves in the Prefect UI: the plan, the result, and the picture."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

from PIL import Image
from prefect.artifacts import create_image_artifact, create_table_artifact

from flows.accountability import table_rows
from flows.plan import Plan

THUMBNAIL_PX = 1000  # longest side
ROWS_KEPT = 500  # the UI is no place for more


def show_plan(plan: Plan) -> None:
    """Which scenes will be registered, and which have no partner."""
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
    rows += [{"scene": left.scene.id, "unpaired": left.reason} for left in plan.unpaired]
    create_table_artifact(rows[:ROWS_KEPT], key=_key(plan, "plan"), description=_title(plan))


def show_result(plan: Plan, report: dict[str, Any], picture: bytes | None) -> None:
    """What became of each pair; and the preview, embedded, so that it needs no file server."""
    create_table_artifact(
        report["pairs"][:ROWS_KEPT], key=_key(plan, "result"), description=_title(plan)
    )
    create_table_artifact(
        table_rows(report["accountability"]) + report["accountability"]["failures"][:ROWS_KEPT],
        key=_key(plan, "accountability"),
        description=_title(plan),
    )
    if picture is not None:
        create_image_artifact(
            f"data:image/png;base64,{base64.b64encode(thumbnail(picture)).decode()}",
            key=_key(plan, "preview"),
            description=_title(plan),
        )


def thumbnail(picture: bytes) -> bytes:
    """The picture in few pixels and colours: artifacts live in Prefect's database."""
    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.quantize(128).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _key(plan: Plan, name: str) -> str:
    """Prefect allows lower-case letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', plan.request.region).strip('-') or 'region'}-{name}"


def _title(plan: Plan) -> str:
    return f"{plan.request.region}, {plan.request.start} to {plan.request.end}"
