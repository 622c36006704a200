"""How often a study's trials were looked at, in `OUT/looks.json`.

Owns the file. What a look may spend of the error is `analysis`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewtune.errors import RecordError
from fewtune.records.files import write_atomically

LOOKS = "looks.json"


class Look(BaseModel):
    """One look at a task and number of shots: after how many draws, at which level."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: str
    shots: int = Field(ge=1)
    draws: int = Field(ge=1)
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

    def find(self, look: Look) -> Look | None:
        """The look that was taken at these trials already; None where none was."""
        return next((other for other in self.of(look.task, look.shots) if _are_of_the_same(other, look)), None)

    def of(self, task: str, shots: int) -> tuple[Look, ...]:
        """The looks at a task and number of shots."""
        return tuple(look for look in self.looks if (look.task, look.shots) == (task, shots))


def _are_of_the_same(one: Look, other: Look) -> bool:
    known = one.trials == other.trials or not (one.trials and other.trials)
    return known and (one.draws, one.methods) == (other.draws, other.methods)


def load_looks(out: Path) -> LookHistory | None:
    """A folder's looks; None where none was written down. Raises RecordError where the file is damaged."""
    path = out / LOOKS
    if not path.is_file():
        return None
    try:
        return LookHistory.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(
            f"{path}: damaged, or of another fewtune. It holds how often the study was looked at. Put a copy back; "
            "without one, delete that file and run again: looks are then counted anew, which belongs with the results."
        ) from error


def write_looks(out: Path, history: LookHistory) -> None:
    """Write a folder's looks, whole or not at all."""
    write_atomically(out / LOOKS, history.model_dump_json(indent=1).encode() + b"\n")
