"""`fewtune recommend`: which method to use, and what it is expected to lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fewtune.cli.options import GuaranteeOption, OutFolder, check_number, check_seconds, check_share
from fewtune.cli.output import console, say
from fewtune.errors import FewtuneError
from fewtune.system.sizes import parse_bytes

if TYPE_CHECKING:
    from fewtune.analysis.recommend import CostBudget

MOST_QUERIES = 10**15


@Parameter(name="*")
@dataclass(frozen=True)
class CostOptions:
    """What the method may cost, and what it is judged and priced by."""

    max_fit_seconds: Annotated[float | None, Parameter(help="Seconds that fitting may take.")] = None
    max_memory: Annotated[
        str | None, Parameter(help="Memory that the process may hold, such as 900MiB, 2GiB or a number of bytes.")
    ] = None
    max_latency: Annotated[float | None, Parameter(help="Seconds that answering one row may take.")] = None
    out_of_domain_weight: Annotated[
        float, Parameter(help="Weight of the test sets out of domain, together: 0 to 1.")
    ] = 0.0
    queries: Annotated[int, Parameter(help="Rows to be answered: what the cheapest method is priced by.")] = 1000

    def read(self) -> CostBudget:
        """The budget that is asked for; raises FewtuneError for a value out of range."""
        from fewtune.analysis.recommend import CostBudget

        check_number("--queries", self.queries, 0, MOST_QUERIES)
        check_share("--out-of-domain-weight", self.out_of_domain_weight, "in domain alone")
        check_seconds("--max-fit-seconds", self.max_fit_seconds)
        check_seconds("--max-latency", self.max_latency)
        return CostBudget(
            max_fit_seconds=self.max_fit_seconds,
            max_memory_bytes=None if self.max_memory is None else parse_bytes("--max-memory", self.max_memory),
            max_latency_seconds=self.max_latency,
            out_of_domain_weight=self.out_of_domain_weight,
            queries=self.queries,
        )


def recommend(
    out: OutFolder,
    /,
    *,
    within: Annotated[
        float | None,
        Parameter(
            help="The tolerance (0.03: three points): for `Use X` the expected loss is a sixth of it at most. Left "
            "out: the study's."
        ),
    ] = None,
    guarantee: GuaranteeOption = None,
    limits: CostOptions = CostOptions(),
) -> int:
    """Say which method to use and what it is expected to lose to the best, or the best bet and what would settle it."""
    from fewtune.report.advice import show_decisions
    from fewtune.report.findings import show_errors
    from fewtune.report.results import read_result
    from fewtune.report.tables import show_models
    from fewtune.report.wording import format_missing

    if within is not None and not 0 <= within < 1:  # nor is what is not a number
        raise FewtuneError(f"--within is {within:g}; give a number from 0 to below 1 (0.03: three points).")
    budget = limits.read()
    result = read_result(out)
    show_errors(console, result.findings)
    if result.analysis.missing:
        say(format_missing(result.analysis.missing))
    show_models(console, result.analysis)
    show_decisions(console, result.recommend(budget, within, guarantee), memory_limited=limits.max_memory is not None)
    return 0
