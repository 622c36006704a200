"""Expected loss of choosing a method against the best one, and the chance of losing more than is accepted.

Owns the rule's curve. For a candidate c and rivals j, G(x) = min(1, sum over j of P(j is more than x above c)) bounds
from above the chance that some rival is more than x above c, whatever their dependence. Its integral over all x is the
expected loss, its value at the tolerance the risk. Sources: Chick and Inoue 2001,
https://doi.org/10.1287/opre.49.5.732.10615 (expected opportunity cost); Branke, Chick and Schmidt 2007,
https://doi.org/10.1287/mnsc.1070.0721.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import optimize

from fewtune.inference.differences import Difference, Rivals


@dataclass(frozen=True)
class ExpectedLoss:
    """What a choice is expected to lose, in the metric's own unit, and the chance that it loses more than accepted."""

    expected: float
    risk: float


def expect_loss(rivals: Rivals, within: float, span: float) -> ExpectedLoss:
    """The expected loss of a method beside its rivals, of a metric whose values lie `span` apart at the most.

    Beside a rival of which nothing is known it may be all of `span`; without rivals it is nothing.
    """
    differences = list(rivals.values())
    if not differences:
        return ExpectedLoss(0.0, 0.0)
    if not all(each.is_known for each in differences):
        return ExpectedLoss(span, 1.0)
    certain = _find_certain(differences, span)
    rest = sum(each.integrate_excess(certain, span) for each in differences)
    return ExpectedLoss(certain + rest, _bound_chance(differences, within))


def _bound_chance(differences: Sequence[Difference], by: float) -> float:
    return min(1.0, sum(each.exceed(by) for each in differences))


def _find_certain(differences: Sequence[Difference], span: float) -> float:
    """Up to which loss the bound of the chance is 1: 0 where it never is."""

    def above(loss: float) -> float:
        return sum(each.exceed(loss) for each in differences) - 1

    if above(0.0) <= 0:
        return 0.0
    return span if above(span) >= 0 else float(optimize.brentq(above, 0.0, span, xtol=1e-13, rtol=1e-13))
