"""The tables of coverage.json, as Markdown.

Owns their wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.coverage.studies import METHODS
from benchmarks.markdown import write_markdown
from fewtune.analysis.decision import WITHIN


def write_table(results: dict[str, Any]) -> str:
    """The tables as Markdown."""
    pairs = [
        [
            f"{100 * cell['deviation']:g} points",
            "one in seven collapses" if cell["collapses"] else "–",
            "own" if cell["steady"] is None else f"shared, {100 * cell['steady']:.0f} % alike",
            str(cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("covered", "better", "worse")),
        ]
        for cell in results["pairs"]
    ]
    head = (
        "draws differ by",
        "and",
        "test rows",
        "draws",
        "interval holds the truth",
        'false "better"',
        'false "worse"',
    )
    groups = [
        _write_groups(results[of], told)
        for of, told in (("leaders", "10 points less told"), ("floors", "10 points more told"))
    ]
    decided = ""
    if "decisions" in results:  # measured by itself, after the others
        decided = (
            f"Decisions among {METHODS} methods, {100 * WITHIN:g} points of tolerance, {results['studies']} studies a "
            f"row for bounds and as many of equal methods:\n\n{_write_decisions(results['decisions'])}\n\n"
        )
    looked_at = ""
    if "looks" in results:
        looked_at = (
            "Such studies looked at more than once, by a race and by adding the draws that are said to be missing, "
            f"{results['looked_at']} of each kind:\n\n{_write_looks(results['looks'])}\n\n"
        )
    split = ""
    if "finite" in results:
        split = (
            "One file drawn from again and again, tested on a quarter that is held out or on the rows of another file, "
            f"nine methods that learn from their supports, {results['files']} files a row:\n\n"
            f"{_write_finite(results['finite'])}\n\n"
        )
    return (
        f"{write_markdown(head, pairs)}\n\nThe leader against each other method:\n\n{groups[0]}\n\n"
        f"The leader against always answering the majority class:\n\n{groups[1]}\n\n"
        f"{_write_choices(results)}{decided}{looked_at}{split}"
        f"{results['repetitions']} repetitions of {results['rows']} rows a draw; {results['groups']} groups of methods."
    )


def _write_choices(results: dict[str, Any]) -> str:
    """Both rules side by side, and stated losses against those that came true; '' where they were not measured."""
    cells = results.get("choices")
    if not cells:
        return ""
    rows = [
        [
            cell["kind"],
            {"expected_loss": "expected loss", "bound": "bound"}[cell["guarantee"]],
            f"{100 * cell['decided']:.1f} %",
            f"{cell['trials']:.0f}",
            *(f"{100 * cell[key]:.2f}" for key in ("stated_decided", "lost_decided", "lost")),
            f"{100 * cell['beyond']:.1f} %",
            f"{100 * cell['worse']:.0f} %",
        ]
        for cell in cells
    ]
    heads = (
        "worlds",
        "rule",
        "decided",
        "trials",
        "points that choices were expected to lose",
        "lost",
        "lost, best bets too",
        f"choices that lost more than {100 * WITHIN:g}",
        "that lost any",
    )
    bins = [
        [
            f"{100 * each['from']:g} to {100 * each['to']:g}" if each["to"] < 1 else f"over {100 * each['from']:g}",
            str(each["rounds"]),
            f"{100 * each['stated']:.2f}",
            f"{100 * each['lost']:.2f}",
        ]
        for each in cells[0]["bins"]
    ]
    return (
        f"Both rules, {results['worlds']} worlds drawn from committed records and {results['hard_worlds']} of each "
        "made-up kind, in which eight methods lie exactly at the tolerance and are the cheaper the worse they are:\n\n"
        f"{write_markdown(heads, rows)}\n\n"
        "What was stated of the best bet at any round of a race, in the worlds of records, and what it then loses:\n\n"
        f"{write_markdown(('points expected to be lost', 'rounds', 'stated, mean', 'lost, mean'), bins)}\n\n"
    )


def _write_groups(cells: Sequence[dict[str, Any]], told: str) -> str:
    rows = [
        [
            str(cell["methods"]),
            " to ".join(dict.fromkeys(f"{100 * end:g}" for end in cell["deviations"])) + " points",
            str(cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("plain", "corrected", "told")),
        ]
        for cell in cells
    ]
    uncorrected, corrected = (f'a false "better", {how}' for how in ("uncorrected", "as fewtune answers"))
    return write_markdown(("methods", "draws differ by", "draws", uncorrected, corrected, told), rows)


def _write_decisions(cells: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            cell["kind"],
            str(cell["draws"]),
            str(METHODS * cell["draws"]),
            *(f"{100 * cell[key]:.1f} %" for key in ("wrong", "better", "decided")),
            f"{100 * cell['lost']:.1f} points",
        ]
        for cell in cells
    ]
    heads = ("draws differ by", "draws", "trials", "any bound wrong", 'a false "better"', "decided", "a choice loses")
    return write_markdown(heads, rows)


def _write_looks(cells: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            cell["kind"],
            cell["how"],
            *(f"{100 * cell[key]:.1f} %" for key in ("wrong", "better", "decided")),
            f"{100 * cell['lost']:.1f} points",
            f"{cell['trials']:.0f}",
            f"{cell['trials_equal']:.0f}",
        ]
        for cell in cells
    ]
    heads = ("draws differ by", "looks", "any bound wrong", 'a false "better"', "decided", "a choice loses")
    return write_markdown((*heads, "trials, one ahead", "trials, all equal"), rows)


def _write_finite(cells: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            str(cell["file_rows"]),
            f"{cell['tests']} of another" if cell.get("tests") else "a quarter held out",
            str(cell["shots"]),
            "further" if cell["moved"] else "little",
            f"{100 * cell['below']:.1f} points",
            "a race" if cell["draws"] is None else str(cell["draws"]),
            f"{cell['trials']:.0f}",
            *(f"{100 * cell[key]:.1f} %" for key in ("wrong", "better", "decided")),
        ]
        for cell in cells
    ]
    heads = (
        "rows in the file",
        "tested on",
        "shots",
        "supports move methods",
        "eight are below by",
        "draws",
        "trials",
        "any bound wrong",
        'a false "better"',
        "decided",
    )
    return write_markdown(heads, rows)
