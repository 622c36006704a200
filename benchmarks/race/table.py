"""The race as a plain table: ratios, what was to be reached, and the share of the machine's peak.

Owns the arithmetic from timings to figures, and their layout. Runs nothing.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.race.results import find_timings
from benchmarks.race.works import OURS, WORKS, title_of

COLUMNS = ("work", "peer", "peer s", "ours s", "ratio (min-max)", "to reach", "reached")


def write_table(results: dict[str, Any]) -> str:
    """All that was raced; a work with one side missing is left out."""
    machine = results["machine"]
    rows = [COLUMNS, *(row for work in WORKS for row in compare(results, work))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    found = {name: version for name, version in machine["packages"].items() if version is not None}
    head = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads",
        ", ".join(f"{name} {version}" for name, version in found.items()),
        *describe_peaks(results),
        "",
    ]
    more = [line for work in WORKS if (line := describe_share(results, work)) is not None]
    more += describe_methods(results)
    return "\n".join([*head, *lines, *([""] if more else []), *more])


def compare(results: dict[str, Any], work: str) -> list[tuple[str, ...]]:
    """One row a peer."""
    all_ours = find_timings(results, work, OURS)
    rows: list[tuple[str, ...]] = []
    for peer in WORKS[work].peers:
        theirs, ours = keep_pairs(find_timings(results, work, peer.name), all_ours)
        if not ours:
            continue
        ratio, low, high = measure_ratio(theirs, ours)
        scaled = any("scaled_from" in key for t in theirs for key in t["notes"])
        rows.append(
            (
                title_of(work, results["size"]),
                peer.name,
                write_seconds(theirs) + (" scaled" if scaled else ""),
                f"{write_seconds(ours)} {ours[0]['precision']}",
                f"{ratio:.2f} ({low:.2f}-{high:.2f})",
                f"{peer.at_least:g}",
                "yes" if ratio >= peer.at_least else "no",
            )
        )
    return rows


def keep_pairs(
    theirs: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The repeats that both sides have: the machine was the same for them."""
    both = {t["repeat"] for t in theirs} & {t["repeat"] for t in ours}
    return [t for t in theirs if t["repeat"] in both], [t for t in ours if t["repeat"] in both]


def measure_ratio(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Peer seconds over ours: of the medians, then least and most over the repeats, which ran side by side."""
    by_repeat = {t["repeat"]: t["seconds"] for t in ours}
    pairs = [t["seconds"] / by_repeat[t["repeat"]] for t in theirs if t["repeat"] in by_repeat]
    ratio = median(t["seconds"] for t in theirs) / median(t["seconds"] for t in ours)
    return ratio, min(pairs, default=ratio), max(pairs, default=ratio)


def write_seconds(timings: list[dict[str, Any]]) -> str:
    """The median, and least and most where there are several; below one second with two places."""
    seconds = [t["seconds"] for t in timings]
    return write_range(seconds, 1 if median(seconds) >= 1 else 2)


def write_range(figures: list[float], places: int = 0) -> str:
    """The median, and least and most where there are several."""
    spread = f" ({min(figures):.{places}f}-{max(figures):.{places}f})" if len(figures) > 1 else ""
    return f"{median(figures):.{places}f}{spread}"


def describe_peaks(results: dict[str, Any]) -> list[str]:
    """The machine's matrix-product peak over the times it was measured, by precision; nothing where it never was."""
    measured = [t["peaks"] for t in results["timings"] if "peaks" in t]
    by_precision = {name: [peaks[name]["best"] for peaks in measured] for name in (measured or [{}])[0]}
    told = ", ".join(f"{name} {write_range(rates)} GFLOP/s" for name, rates in by_precision.items())
    return [f"matrix-product peak: {told}"] if told else []


def describe_share(results: dict[str, Any], work: str) -> str | None:
    """The share of the matrix-product peak that fewtune's timings reach; None where none is asked or known."""
    asked, ours = WORKS[work].share_of_peak, [t for t in find_timings(results, work, OURS) if "peaks" in t]
    if asked is None or not ours:
        return None
    precision = ours[0]["precision"]
    rates = [t["model_flops"] / t["seconds"] / 1e9 for t in ours]
    peaks = [t["peaks"][precision]["best"] for t in ours]
    shares = [rate / peak for rate, peak in zip(rates, peaks, strict=True)]
    return (
        f"{title_of(work, results['size'])}: {write_range(rates)} of {write_range(peaks)} GFLOP/s in {precision}, "
        f"a share of {write_range(shares, 2)}; to reach {asked:g}: {'yes' if median(shares) >= asked else 'no'}"
    )


def describe_methods(results: dict[str, Any]) -> list[str]:
    """Where the study's seconds go, by method: a peer's whole processes beside fewtune's fits and predictions."""
    lines = []
    for work in WORKS:
        for peer in WORKS[work].peers:
            theirs, ours = find_timings(results, work, peer.name), find_timings(results, work, OURS)
            if theirs and ours and "seconds_by_method" in theirs[0]["notes"]:
                spent = ours[0]["notes"]["seconds_by_method"]
                parts = [f"{k} {v:.0f} / {spent[k]:.0f}" for k, v in theirs[0]["notes"]["seconds_by_method"].items()]
                lines.append(f"{title_of(work, results['size'])}, peer s / ours s by method: {', '.join(parts)}")
    return lines
