"""Places names beside the dots of a chart so that they do not overlap.

Owns that a name is nearest to its own dot, clear of others, or has a line to it; a name may have several lines. Knows
pixels, and no chart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.cells import cell_len

FONT_SIZE, LINE_HEIGHT, LETTER_WIDTH = 13, 15, 6.5
"""Of names, in pixels."""
MOST_ORDERS = 8
"""In how many orders the names of a chart are placed."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Spot = tuple[float, float]
Size = tuple[float, float]
"""Width and height."""
Line = tuple[Spot, Spot]

Alignment = Literal["left", "right", "center"]


@dataclass(frozen=True)
class Label:
    """Where a name stands: x is its left edge, right edge or centre by `align`, y its middle, in pixels.

    `line` leads from its point to a name that stands off.
    """

    x: float
    y: float
    align: Alignment
    line: Line | None = None


def place_labels(
    names: Sequence[str],
    points: Sequence[Spot],
    width: float,
    height: float,
    rule: float | None,
) -> list[Label]:
    """Place each name where its own point (x, y) is the nearest, clear of points, names and the rule at height `rule`.

    A name's lines end in line breaks. Where there is no such place, it stands further off with a line to its point.
    """
    dots: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    ruled: list[Box] = [] if rule is None else [(0.0, rule - 1, width, rule + 1)]
    sizes = [_measure(name) for name in names]
    beside = [
        [
            label
            for label in _list_beside(point, size)
            if _is_clear(box := _box(label, size), dots + ruled, width, height)
            and all(_distance(box, spot) > _distance(box, point) + 5 for spot in points if spot is not point)
        ]
        for size, point in zip(sizes, points, strict=True)
    ]

    def place_in(order: Sequence[int]) -> tuple[dict[int, Label], dict[int, float]]:
        """Place names in this order; also how bad each place is: the length of its line, and more where it crosses."""
        taken = [*dots]
        placed: dict[int, Label] = {}
        badness: dict[int, float] = {}
        for number in order:
            size, point = sizes[number], points[number]
            others = taken[:number] + taken[number + 1 :]
            full = taken + ruled  # a line may cross the rule, a name may not
            crossing = None
            for label in itertools.chain(beside[number], _list_apart(point, size)):
                if _is_clear(_box(label, size), full, width, height):
                    if not any(_meets(spot, box) for spot in _walk(label.line) for box in others):
                        chosen, badness[number] = label, 0.0
                        break
                    crossing = crossing or label
            else:
                chosen, badness[number] = crossing or _list_beside(point, size)[0], width
            badness[number] += math.dist(*chosen.line) if chosen.line else 0.0
            placed[number] = chosen
            taken.append(_box(chosen, size))
            taken += [(x - 2, y - 2, x + 2, y + 2) for x, y in _walk(chosen.line)]
        return placed, badness

    # Names with the fewest places choose first; then whoever came off worst does, while that may help.
    order = sorted(range(len(names)), key=lambda number: len(beside[number]))
    found = []
    for _ in range(MOST_ORDERS):
        placed, badness = place_in(order)
        found.append((sum(badness.values()), [placed[number] for number in range(len(names))]))
        worst = max(order, key=lambda number: badness[number])
        if not badness[worst] or worst == order[0]:
            break
        order = [worst, *(number for number in order if number != worst)]
    return min(found, key=lambda each: each[0])[1]


def _measure(name: str) -> Size:
    lines = name.split("\n")
    return LETTER_WIDTH * max(map(cell_len, lines)), LINE_HEIGHT * len(lines)


def _list_beside(point: Spot, size: Size) -> list[Label]:
    """Places beside a point: right, left, above, below, and at its corners."""
    x, y = point
    away = 9.5 + size[1] / 2
    sides: tuple[tuple[float, Alignment], ...] = ((11, "left"), (-11, "right"))
    corners: tuple[tuple[float, Alignment], ...] = ((-4, "left"), (4, "right"), (0, "center"))
    return [
        *(Label(x + across, y + down, align) for down in (0, -8, 8) for across, align in sides),
        *(Label(x + across, y + down, align) for down in (-away, away) for across, align in corners),
    ]


def _list_apart(point: Spot, size: Size) -> Iterator[Label]:
    """Places around a point with a line to it, the nearest first."""
    for reach in (26, 38, 52, 68, 86, 106):
        for angle in range(0, 360, 20):
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            align: Alignment = "left" if across > 0.5 else "right" if across < -0.5 else "center"
            label = Label(point[0] + reach * across, point[1] + reach * down, align)
            left, top, right, bottom = _box(label, size)
            end = (min(max(point[0], left), right), min(max(point[1], top), bottom))
            if math.dist(point, end) > 10:  # names of many lines reach back over their own point
                start, stop = _between(point, end, 8), _between(end, point, 2)
                yield replace(label, line=(start, stop))


def _is_clear(box: Box, taken: Sequence[Box], width: float, height: float) -> bool:
    return _fits(box, width, height) and not any(_overlap(box, other) for other in taken)


def _distance(box: Box, spot: Spot) -> float:
    across = max(box[0] - spot[0], 0.0, spot[0] - box[2])
    return math.hypot(across, max(box[1] - spot[1], 0.0, spot[1] - box[3]))


def _between(start: Spot, end: Spot, way: float) -> Spot:
    """The spot that lies `way` pixels from start towards end."""
    share = way / math.dist(start, end)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _walk(line: Line | None) -> list[Spot]:
    """Spots along a line, near enough to each other that no line passes between them."""
    if line is None:
        return []
    steps = range(0, math.ceil(math.dist(*line)), 3)
    return [*(_between(*line, step) for step in steps), line[1]]


def _meets(spot: Spot, box: Box) -> bool:
    return box[0] < spot[0] < box[2] and box[1] < spot[1] < box[3]


def _box(label: Label, size: Size) -> Box:
    width, height = size
    left = label.x - {"left": 0.0, "center": width / 2, "right": width}[label.align]
    return left, label.y - height / 2, left + width, label.y + height / 2


def _fits(box: Box, width: float, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
