"""The checks as a Markdown table, and whether each reaches what it should.

Owns what is to be reached. Runs nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.agreement.checks import CHECKS
from benchmarks.markdown import write_machine, write_markdown

LARGEST_ACCURACY_DIFFERENCE, LEAST_EQUAL_SHARE = 0.01, 0.98
COLUMNS = (
    "check",
    "rows",
    "accuracy",
    "accuracy, plain float32",
    "equal predictions",
    "largest difference, nats",
    "largest difference of a step's loss",
    "reached",
)


def write_table(results: dict[str, Any]) -> str:
    """A row a check."""
    rows = [
        (
            CHECKS[found["check"]][0].format(**results["size"]),
            str(found["rows"]),
            f"{found['accuracy_ours']:.3f} ({found['precision']})",
            f"{found['accuracy_plain']:.3f}",
            f"{found['equal_share']:.1%}",
            f"{found['largest_difference']:.3f}",
            write_losses(found),
            "yes" if is_reached(found) else "no",
        )
        for found in results["checks"]
    ]
    asked = (
        f"To reach: accuracies within {LARGEST_ACCURACY_DIFFERENCE:.0%}, "
        f"at least {LEAST_EQUAL_SHARE:.0%} of the predictions equal."
    )
    return f"{write_markdown(COLUMNS, rows)}\n\n{asked} {write_machine(results['machine'])}."


def is_reached(found: dict[str, Any]) -> bool:
    """Whether a check found accuracies and predictions close enough."""
    # Accuracies are shares of rows: a difference of one row in a hundred must not fail by a rounding error.
    apart = abs(found["accuracy_ours"] - found["accuracy_plain"]) - 1e-9
    return bool(apart <= LARGEST_ACCURACY_DIFFERENCE and found["equal_share"] + 1e-9 >= LEAST_EQUAL_SHARE)


def write_losses(found: dict[str, Any]) -> str:
    """The largest difference between two loss curves; a dash where nothing was fitted."""
    if "losses_ours" not in found:
        return "–"
    return f"{np.abs(np.subtract(found['losses_ours'], found['losses_plain'])).max():.4f}"
