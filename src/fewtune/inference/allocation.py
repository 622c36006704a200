"""Chooses which method gets the next draws: the best bet or its strongest rival, whichever informs more.

Owns that choice, for races and for what is foreseen of further draws.
Source: Chick and Inoue 2001, https://doi.org/10.1287/opre.49.5.732.10615 (draws go where they lower the expected loss).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fewtune.inference.differences import Rivals
from fewtune.inference.expected_loss import ExpectedLoss, expect_loss

PAUSED_SHARE = 1 / 60
"""Of the tolerance, what a paused rival adds to the expected loss at the most: a tenth of what may be lost."""


@dataclass(frozen=True)
class Allocation:
    """Further draws by method, and what the best bet is then expected to lose, if means stay as they are."""

    draws: Mapping[str, int]
    loss: ExpectedLoss


def find_threats(rivals: Rivals, span: float) -> dict[str, float]:
    """What each rival alone adds to the expected loss, the largest first."""
    found = {name: each.integrate_excess(0.0, span) if each.is_known else span for name, each in rivals.items()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def allocate_draws(
    name: str, rivals: Rivals, most: Mapping[str, int], count: int, within: float, span: float
) -> Allocation:
    """Give `count` further draws, one by one, to a method or its largest threat, of which none may have over `most`.

    Of the two it is the one of the larger sigma^2 / (n (n + 1)), by which a draw lowers the variance of its mean. A
    threat that may have no more gives way to the next one. Rivals that add next to nothing are paused; fewer draws are
    given where no other may have more.
    """
    given: dict[str, int] = {}
    now = dict(rivals)
    for _ in range(count):
        chosen = _choose_one(name, now, most, within, span)
        if chosen is None:
            break
        given[chosen] = given.get(chosen, 0) + 1
        now = {
            other: each.foresee(each.counts[0] + (other == chosen), each.counts[1] + (name == chosen))
            for other, each in now.items()
        }
    return Allocation(given, expect_loss(now, within, span))


def find_paused(rivals: Rivals, within: float, span: float) -> list[str]:
    """Rivals that add next to nothing to what a method is expected to lose, unless that is true of all of them."""
    threats = find_threats(rivals, span)
    paused = [name for name, loss in threats.items() if loss <= PAUSED_SHARE * within]
    return paused if len(paused) < len(threats) else []


def _choose_one(name: str, rivals: Rivals, most: Mapping[str, int], within: float, span: float) -> str | None:
    paused = find_paused(rivals, within, span)
    open_threats = [
        other for other in find_threats(rivals, span) if other not in paused and rivals[other].counts[0] < most[other]
    ]
    gains = {}
    if open_threats:
        gains[open_threats[0]] = _find_gain(rivals[open_threats[0]].first.draws, rivals[open_threats[0]].counts[0])
    if rivals:
        own = next(iter(rivals.values()))
        if own.counts[1] < most[name]:
            gains[name] = _find_gain(own.second.draws, own.counts[1])
    return max(gains, key=lambda each: (gains[each], each == name), default=None)


def _find_gain(variance: float, draws: int) -> float:
    return variance / (draws * (draws + 1))
