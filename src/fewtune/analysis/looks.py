"""Looks: at how many draws a race looks at its methods, and what share of the error each look may spend.

Owns both plans. A bound that may be wrong in 5 % of studies when it is looked at once is wrong more often when it is
looked at until it pleases. So the error is spent over the looks, and never comes to more than that in all: the planned
ones share `PLANNED_SHARE` of it, the more draws the more (the spending function of Pocock's type, Lan and DeMets 1983,
https://doi.org/10.1093/biomet/70.3.659); each look beyond the plan spends half of what is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fewtune.analysis.statistics import LEVEL
from fewtune.records import Look, LookHistory

LOOKS = (3, 5, 8, 12, 20)
"""Draws at which a race looks, where it does not end before."""
GROWTH = 1.6
"""How many times more draws each look beyond those has."""
PLANNED_SHARE = 0.8
"""Of the error, what the planned looks may spend: some is left for whoever adds draws afterwards."""


def plan_looks(most: int) -> tuple[int, ...]:
    """The draws of each look of a race that has so many at the most."""
    looks = list(LOOKS)
    while looks[-1] < most:
        looks.append(math.ceil(looks[-1] * GROWTH))
    return (*(draws for draws in looks if draws < most), most)


def share_error(looks: Sequence[int], level: float) -> tuple[float, ...]:
    """The level of each planned look, given the draws of all of them; together `PLANNED_SHARE` of the whole."""
    spent = [level * PLANNED_SHARE * math.log1p((math.e - 1) * draws / looks[-1]) for draws in looks]
    return tuple(now - before for now, before in zip(spent, [0.0, *spent], strict=False))


def spend_beyond(spent: Sequence[float], level: float) -> float:
    """The level of one look beyond the plan, given those of all looks before."""
    return max(0.0, level - math.fsum(spent)) / 2


def choose_level(history: LookHistory, look: Look) -> float:
    """What a look, its level not yet known, may spend: what it spent already, its share of the plan, or of the rest."""
    taken = history.of(look.task, look.shots)
    for other in taken:
        if (other.draws, other.methods) == (look.draws, look.methods):
            return other.level
    if look.draws in history.plan and all(other.draws < look.draws for other in taken):
        return dict(zip(history.plan, share_error(history.plan, LEVEL), strict=True))[look.draws]
    return spend_beyond([other.level for other in taken], LEVEL)
