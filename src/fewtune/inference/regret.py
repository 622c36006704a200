"""Simultaneous regret bounds: how many points each method of a group may be below the best one.

Owns the bound. Does not know what a method costs, or which one to use.

The method: multiple comparisons with the best under common random numbers. With k methods, whose scores are paired by
draw, the upper confidence limit of method j's lead over method c is, one-sided at 5 % over k - 1, its mean plus its
reach (`differences`). Whichever method b is truly the best, with 95 % or more the k - 1 limits of its own leads all
hold, and all that follows then holds too. A method whose lead over some other has a negative limit is inferior: it is
not the best. So method c is at most R_c below the best, R_c being the largest limit of the leads over it of methods
that are not inferior, or 0. Several looks share the 5 % (`looks`); a lead has a limit by each of them, and the lowest
counts. Sources: Hsu 1981, https://doi.org/10.1214/aos/1176345582; Nelson and Matejcik 1995,
https://doi.org/10.1287/mnsc.41.12.1935
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fewtune.inference.differences import FEWEST_DRAWS, Rivals


@dataclass(frozen=True)
class RegretBound:
    """A method is at most `bound` below the best, in the metric's own unit; None where that cannot be told yet.

    `draws` are the fewest that it shares with a method that may be the best.
    """

    bound: float | None
    draws: int
    least: float = 0.0
    """How far below `above` it is at the least: the truly best method is above 0 as seldom as a bound is wrong."""
    above: str | None = None
    """The method that is above it beyond doubt, None where none is."""


@dataclass(frozen=True)
class UpperLimits:
    """Upper confidence limits of all leads, by all looks so far: highest[c][j] is that of j's lead over c."""

    highest: Mapping[str, Mapping[str, float]]

    @cached_property
    def inferior(self) -> dict[str, str]:
        """The methods that are not the best, each with one that is above it.

        Empty where this would be said of all of them: then some limit is wrong, and which one is not known.
        """
        found = {}
        for name in self.highest:
            over = {other: row[name] for other, row in self.highest.items() if name in row}
            above = min(over, key=over.__getitem__, default=None)
            if above is not None and over[above] < 0:
                found[name] = above
        return found if len(found) < len(self.highest) else {}

    def find_lead(self, name: str, over: str) -> float:
        """The limit of how far `over` leads `name`: below 0 where `name` is above it beyond doubt."""
        return self.highest[name].get(over, 0.0)

    def find_rivals(self, name: str) -> dict[str, float]:
        """Those of the others that may be the best, with the limits of their leads over this method."""
        return {other: high for other, high in self.highest[name].items() if other not in self.inferior}


def limit_leads(rivals: Rivals, level: float) -> dict[str, float]:
    """How far each rival may be above, one-sided at a level; infinite: not known."""
    return {name: each.mean + each.reach(level) if each.is_known else math.inf for name, each in rivals.items()}


def combine_looks(looks: Sequence[tuple[Mapping[str, Rivals], float]]) -> UpperLimits:
    """The limits by several looks, each with the differences that it saw and its level; of the last one's methods."""
    seen, level = looks[-1]
    highest = {name: limit_leads(rivals, share_level(level, len(seen))) for name, rivals in seen.items()}
    for earlier, spent in looks[:-1]:
        for name, rivals in earlier.items():
            row = highest.get(name, {})
            for other, high in limit_leads(rivals, share_level(spent, len(earlier))).items():
                if other in row:
                    row[other] = min(row[other], high)
    return UpperLimits(highest)


def bound_regrets(
    rivals: Mapping[str, Rivals], limits: UpperLimits, span: float, able: Collection[str] = ()
) -> dict[str, RegretBound]:
    """Every method's bound, all at once, of a metric whose values lie `span` apart at the most.

    Of several that are above a method beyond doubt, one of the `able` ones, which may be chosen, is told before others.
    """
    return {name: _bound_one(name, each, limits, span, able) for name, each in rivals.items()}


def share_level(level: float, methods: int) -> float:
    """The level of one pair of so many methods, of which one is the best."""
    return level / max(1, methods - 1)


def _bound_one(name: str, rivals: Rivals, limits: UpperLimits, span: float, able: Collection[str]) -> RegretBound:
    above = limits.inferior.get(name)
    if above is not None and above not in able:
        above = min((o for o in able if o in limits.highest), key=lambda o: limits.find_lead(o, name), default=above)
        above = above if limits.find_lead(above, name) < 0 else limits.inferior[name]
    least = -limits.highest[above][name] if above is not None else 0.0
    open_rivals = limits.find_rivals(name)
    fewest = min((len(rivals[other].by_draw) for other in open_rivals), default=FEWEST_DRAWS)
    if fewest < FEWEST_DRAWS:
        return RegretBound(None, fewest)
    highest = max((0.0, *open_rivals.values()))
    return RegretBound(min(span, highest), fewest, least, above)
