"""The curves as Markdown tables: by what power each grows, and every point.

Owns the layout. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.markdown import write_machine, write_markdown
from benchmarks.scaling.curves import CURVES, MEASURED, WORKS, find_points, fit_exponent

LEAST_POINTS = 3
"""Points that an exponent and its standard error need."""
MEBIBYTE = 2**20


def write_tables(results: dict[str, Any]) -> str:
    """Exponents, then a table a curve; what was not measured is left out."""
    parts = [write_exponents(results["points"])]
    parts += [write_points(results["points"], curve) for curve in CURVES if find_any(results["points"], curve)]
    return "\n\n".join([*parts, f"{write_machine(results['machine'])}."])


def find_any(points: Sequence[dict[str, Any]], curve: str) -> bool:
    """Whether a curve has any point."""
    return any(point["curve"] == curve for point in points)


def write_exponents(points: Sequence[dict[str, Any]]) -> str:
    """A row a curve and work: seconds and peak memory grow as the value to these powers, with standard errors."""
    rows = [
        (f"{curve.unit} ({curve.each})", WORKS[work], *(write_exponent(found, of) for of in MEASURED))
        for name, curve in CURVES.items()
        for work in curve.works
        if (found := find_points(points, name, work))
    ]
    return write_markdown(("over", "work", "exponent of seconds", "exponent of peak memory"), rows)


def write_exponent(points: Sequence[dict[str, Any]], measured: str) -> str:
    """An exponent with its standard error; a dash where too few points have the measurement."""
    known = [(point["value"], point[measured]) for point in points if point[measured]]
    if len(known) < LEAST_POINTS:
        return "–"
    values, figures = zip(*known, strict=True)
    return "{:.2f} ± {:.2f}".format(*fit_exponent(values, figures))


def write_points(points: Sequence[dict[str, Any]], curve: str) -> str:
    """A row a value and work."""
    rows = [
        (
            str(value),
            WORKS[work],
            f"{point['seconds']:.3g}",
            f"{point['first_seconds']:.3g}",
            write_mebibytes(point["peak_memory_bytes"]),
            write_mebibytes(point["computed_bytes"]),
        )
        for value in CURVES[curve].values
        for work in CURVES[curve].works
        for point in find_points(points, curve, work)
        if point["value"] == value
    ]
    head = (CURVES[curve].unit, "work", f"seconds ({CURVES[curve].each})", "first time", "peak MiB", "computed MiB")
    return write_markdown(head, rows)


def write_mebibytes(size: int | None) -> str:
    """Bytes in MiB; a dash where they could not be measured."""
    return "–" if size is None else f"{size / MEBIBYTE:,.0f}"
