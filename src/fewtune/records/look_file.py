"""The number of looks at a study's trials, in `OUT/looks.json`.

Owns the file, and what can stand there. What a look may spend of the error is `analysis`'s business.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from fewtune.errors import RecordError
from fewtune.records.faults import NEAR, format_error
from fewtune.records.files import write_atomically

LOOKS = "looks.json"

MOST_SPENT = 0.05
"""What the levels of all looks at one task and number of shots may come to: the whole error, `LEVEL` of `inference`."""
MOST_DRAWS = 2**53 - 1
"""More is no number of draws: what is worked out from it would not be exact, or overflow."""


class Look(BaseModel):
    """One look at a task and number of shots: after how many draws, at which level."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    task: str
    shots: int = Field(ge=1)
    draws: int = Field(ge=1, le=MOST_DRAWS)
    methods: int = Field(ge=1)
    """Methods compared."""
    trials: str = ""
    """A fingerprint of the trials: with others, the same draws are looked at anew. Empty in files of before."""
    level: float = Field(gt=0, lt=1)
    """The chance that any of its bounds is wrong."""
    stopped: Mapping[str, str] = {}
    """Methods that were stopped by then, and why."""


class LookHistory(BaseModel):
    """The draws at which looks are planned, and every look that was taken, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    plan: tuple[int, ...] = Field(min_length=1)
    looks: tuple[Look, ...] = ()

    @field_validator("plan")
    @classmethod
    def _refuse_odd_plan(cls, plan: tuple[int, ...]) -> tuple[int, ...]:
        if not all(one < other for one, other in zip((0, *plan), (*plan, MOST_DRAWS + 1), strict=True)):
            raise PydanticCustomError("plan", "no rising numbers of draws: {plan}", {"plan": str(list(plan))})
        return plan

    @field_validator("looks")
    @classmethod
    def _refuse_overspent(cls, looks: tuple[Look, ...]) -> tuple[Look, ...]:
        for (task, shots), spent in find_overspent(looks).items():
            told = {
                "where": f"{task!r:.40}, {shots} shots",
                "spent": format_level(spent),
                "most": format_level(MOST_SPENT),
            }
            raise PydanticCustomError("overspent", "at {where}, they spend {spent} of the error; there is {most}", told)
        return looks

    def find(self, look: Look) -> Look | None:
        """The look that was taken at these trials already; None where none was."""
        return next((other for other in self.of(look.task, look.shots) if _are_of_the_same(other, look)), None)

    def of(self, task: str, shots: int) -> tuple[Look, ...]:
        """The looks at a task and number of shots."""
        return tuple(look for look in self.looks if (look.task, look.shots) == (task, shots))


def _are_of_the_same(one: Look, other: Look) -> bool:
    known = one.trials == other.trials or not (one.trials and other.trials)
    return known and (one.draws, one.methods) == (other.draws, other.methods)


def find_overspent(looks: Iterable[Look]) -> dict[tuple[str, int], float]:
    """What looks spent of the error where that is more than there is, by task and number of shots."""
    levels: dict[tuple[str, int], list[float]] = defaultdict(list)
    for look in looks:
        levels[look.task, look.shots].append(look.level)
    spent = {place: math.fsum(each) for place, each in levels.items()}
    return {place: each for place, each in spent.items() if each > MOST_SPENT + NEAR}


def format_level(share: float) -> str:
    """Format a level: '5 %'."""
    return f"{100 * share:.3g} %"


def load_looks(out: Path) -> LookHistory | None:
    """A folder's looks; None where none was written down.

    Raises RecordError where the file is damaged, or holds what no looks can come to.
    """
    path = out / LOOKS
    if not path.is_file():
        return None
    try:
        return LookHistory.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(
            f"{path}: damaged, edited, or of another fewtune ({format_error(error)}). It holds how often the study was "
            "looked at. Put a copy back; without one, delete that file and run again: looks are then counted anew, "
            "which belongs with the results."
        ) from error


def write_looks(out: Path, history: LookHistory) -> None:
    """Write a folder's looks, whole or not at all."""
    write_atomically(out / LOOKS, history.model_dump_json(indent=1).encode() + b"\n")
