"""Chooses how many in-domain test rows each trial scores (`in_domain_rows: auto`).

Owns the choice. It is made once, before anything runs: the rows are part of every draw, the same for all methods, and
the folder's study.yaml keeps their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from fewtune.errors import FewtuneError
from fewtune.records import Record
from fewtune.running.previous_run import find_beginning
from fewtune.study import AUTO, Study, load_study

ASSUMED_ROWS = 500
"""Rows that a trial is measured with before their number is chosen."""
FEWEST_ROWS = 100
"""Fewer say little of any one draw."""
ROWS_TO_DRAWS = 200
"""What one row adds to the variance of a difference between two methods, over what one draw does: its rows apart.

Over all pairs of results/sentiment-smollm2 and results/cola-mnli: 61 to 605 by task and shots, the median 215.
"""


def leaves_rows_open(study: Study) -> bool:
    """Whether a study's number of in-domain test rows is still to be chosen."""
    return study.evaluation.in_domain_rows == AUTO


def set_rows(study: Study, rows: int | None) -> Study:
    """The study with that number of in-domain test rows; None: all."""
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"in_domain_rows": rows})})


def recall_rows(study: Study, out: Path) -> Study:
    """The study with the rows that were chosen when it first ran in this folder; as it is where it did not, or says."""
    kept = out / "study.yaml"
    if not leaves_rows_open(study):
        return study
    if not kept.is_file():  # it was damaged and deleted: trials that lie there are taken over
        record = find_beginning(out)
        said = {} if record is None else record.environment.get("evaluation", {})
        return set_rows(study, said["in_domain_rows"]) if "in_domain_rows" in said else study
    try:
        return set_rows(study, load_study(kept).evaluation.in_domain_limit)
    except FewtuneError:
        return study  # whoever opens the folder says what is wrong with it


def choose_rows(measured: Iterable[Record]) -> int:
    """The rows at which differences are most exact for the time spent, from a trial of ASSUMED_ROWS of each method.

    With seconds f a draw and r a row, n rows a draw give a difference the variance (ROWS_TO_DRAWS / n + 1) / draws for
    draws · (f + n·r) seconds: least at n = √(ROWS_TO_DRAWS · f / r), the optimum of sampling in two stages (Cochran
    1977, Sampling Techniques, 3rd edition, 10.6). Rounded to ten. ASSUMED_ROWS where nothing could be measured.
    """
    fixed, a_row = 0.0, 0.0
    for record in measured:
        if record.cost is None or not record.cost.predict_rows:
            continue
        seconds, rows = record.phase_seconds, record.cost.predict_rows
        pace = seconds["score"] / rows
        fixed += seconds["prepare"] + seconds["fit"] + seconds.get("tune", 0.0) + pace * max(0, rows - ASSUMED_ROWS)
        a_row += pace
    return max(FEWEST_ROWS, 10 * round(math.sqrt(ROWS_TO_DRAWS * fixed / a_row) / 10)) if a_row > 0 else ASSUMED_ROWS
