"""How well the engine registers pairs that were warped by the frozen protocols.

Errors are in native pixels, over a fixed grid of the optical image, through the answer; a refusal
counts as an infinite error, never as missing.

CMR@t is the share of pairs whose root mean square error is below t pixels (arXiv 2605.12064).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tar_engine.errors import InputError
from tar_engine.register import Registrar
from tar_engine.training.patches import PatchPairs
from tar_engine.training.protocols import PROTOCOLS, Case, Protocol, make_case

GRID_PX = 16
THRESHOLDS_PX = (1.0, 2.0, 3.0, 5.0)
DENSE_PX = (1.0, 2.0, 3.0)
WRONG_PX = 3.0  # root mean square error from which on an accepted pair is wrong
STATED_PX = (0.0, 0.8, 1.0, 1.25, 1.5, 2.0, np.inf)  # classes of the reliability table


def grid_error(displacement: npt.NDArray[np.float32], case: Case) -> float:
    """Root mean square error over the grid points whose true place is in the SAR image, pixels."""
    middle = GRID_PX // 2
    step = (displacement - case.displacement)[:, middle::GRID_PX, middle::GRID_PX]
    inside = np.isfinite(case.displacement[0, middle::GRID_PX, middle::GRID_PX])
    if not inside.any():
        return float("inf")
    error = float(np.sqrt((step[:, inside].astype(float) ** 2).sum(axis=0).mean()))
    return error if np.isfinite(error) else float("inf")


def dense_shares(displacement: npt.NDArray[np.float32], case: Case) -> dict[str, float]:
    """Share of the optical pixels with an error below 1, 2, 3 px; NaN answers are failures."""
    inside = np.isfinite(case.displacement[0])
    error = np.hypot(*(displacement - case.displacement))[inside]
    return {f"px<{t:g}": float((error < t).mean()) for t in DENSE_PX}


def evaluate(
    data: PatchPairs,
    registrar: Registrar,
    protocols: Sequence[str],
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Run protocols over all pairs.

    Args:
        protocols: names out of `PROTOCOLS`.
        progress: called with (protocol, done, total) after each pair.

    Returns:
        JSON-able: per protocol its summary and `cases`, one per pair.
    """
    if unknown := sorted(set(protocols) - set(PROTOCOLS)):
        raise InputError(f"protocol: {unknown} unknown, there are {sorted(PROTOCOLS)}")
    results: dict[str, Any] = {"weights_sha256": registrar.weights_sha256, "protocols": {}}
    for name in protocols:
        protocol, cases = PROTOCOLS[name], []
        for index in range(len(data)):
            for variant in protocol.variants():
                case = make_case(data, index, variant)
                cases.append(register_case(registrar, case, variant))
            if progress:
                progress(name, index + 1, len(data))
        results["protocols"][name] = {**summarise(protocol, cases), "cases": cases}
    return results


def register_case(registrar: Registrar, case: Case, protocol: Protocol) -> dict[str, Any]:
    """What became of one case, JSON-able."""
    found = registrar.register(
        case.optical, case.sar, max_offset_px=case.max_offset_px, heights=case.heights
    )
    error = grid_error(found.displacement, case) if found.accepted else float("inf")
    outcome = {
        "pair": case.name,
        "foreign": protocol.foreign,
        "accepted": found.accepted,
        "reason": found.reason,
        "error_px": error,
        "expected_error_px": found.expected_error_px,
        "agreeing": found.verdict.agreeing,
        "kind": found.kind,
    }
    if case.deceit:
        outcome |= {"deceit": case.deceit, "max_offset_px": case.max_offset_px}
    if protocol.bends:
        outcome |= dense_shares(found.displacement, case)
    return outcome


def summarise(protocol: Protocol, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """CMR, median error and share accepted; of foreign pairs only the false accepts."""
    foreign, own = ([case for case in cases if case["foreign"] == which] for which in (True, False))
    false = {"false_accepts": share_accepted(foreign)} if foreign else {}
    if not own:
        return {"pairs": len(foreign), **false}
    errors = np.array([case["error_px"] for case in own])
    figures = {
        "pairs": len(own),
        "accepted": share_accepted(own),
        **false,
        "median_px": float(np.median(errors)),
        **{f"cmr@{t:g}": float((errors < t).mean()) for t in THRESHOLDS_PX},
        "wrong": share_wrong(own),
        "within_twice_stated": within_twice_stated(own),
    }
    if protocol.bends:
        for key in (f"px<{t:g}" for t in DENSE_PX):
            figures[key] = float(np.mean([case[key] for case in own]))
    return figures


def share_accepted(cases: Sequence[dict[str, Any]]) -> float:
    """Of the cases, those with an answer."""
    return float(np.mean([case["accepted"] for case in cases]))


def share_wrong(cases: Sequence[dict[str, Any]]) -> float:
    """Of the cases, those with an answer that is off by `WRONG_PX` or more."""
    return float(np.mean([case["accepted"] and case["error_px"] >= WRONG_PX for case in cases]))


def within_twice_stated(cases: Sequence[dict[str, Any]]) -> float:
    """Share of the accepted cases whose true error is below twice the stated one."""
    accepted = [case for case in cases if case["accepted"]]
    if not accepted:
        return float("nan")
    return float(np.mean([case["error_px"] < 2 * case["expected_error_px"] for case in accepted]))


def table(results: dict[str, Any]) -> str:
    """The summaries as a plain table.

    `false` is the share of foreign pairs that were accepted; `>=3px` that of the others which were
    accepted although wrong.
    """
    wrong = f">={WRONG_PX:g}px"
    head = ["protocol", "pairs", "false", "accepted", wrong]
    head += [f"CMR@{t:g}" for t in THRESHOLDS_PX]
    lines = [[*head, "median px", *(f"px<{t:g}" for t in DENSE_PX)]]
    for name, result in results["protocols"].items():
        false = result.get("false_accepts")
        line = [name, str(result["pairs"]), "" if false is None else f"{false:.1%}"]
        if "accepted" in result:
            line += [f"{result['accepted']:.1%}", f"{result['wrong']:.1%}"]
            line += [f"{result[f'cmr@{t:g}']:.1%}" for t in THRESHOLDS_PX]
            line.append(f"{result['median_px']:.2f}")
        line += [f"{result[f'px<{t:g}']:.1%}" for t in DENSE_PX if f"px<{t:g}" in result]
        lines.append(line)
    return align_columns(lines)


def reliability_table(results: dict[str, Any]) -> str:
    """Is `expected_error_px` true? Accepted cases of all protocols, by the error stated."""
    cases = [
        case
        for result in results["protocols"].values()
        for case in result["cases"]
        if case["accepted"] and not case["foreign"]
    ]
    lines = [
        ["stated px", "cases", "median true px", "90 % below px", "< stated", "< twice stated"]
    ]
    for low, high in (*itertools.pairwise(STATED_PX), (0.0, np.inf)):
        held = [case for case in cases if low <= case["expected_error_px"] < high]
        if not held:
            continue
        true = np.array([case["error_px"] for case in held])
        stated = np.array([case["expected_error_px"] for case in held])
        lines.append(
            [
                "all" if low == 0 and high == np.inf else f"{low:g} to {high:g}",
                str(len(held)),
                f"{np.median(true):.2f}",
                f"{np.quantile(true, 0.9):.2f}",
                f"{(true < stated).mean():.1%}",
                f"{within_twice_stated(held):.1%}",
            ]
        )
    return align_columns(lines)


def align_columns(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    columns = max(len(line) for line in lines)
    padded = [[*line, *[""] * (columns - len(line))] for line in lines]
    widths = [max(len(line[column]) for line in padded) for column in range(columns)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in padded
    )
