"""Settings of a distillation teacher: its contexts, calibration, tuning and answers.

Owns these fields, their bounds and defaults; imports no torch. `teacher` makes a teacher of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from fewtune.methods.base import MOST_DEMONSTRATIONS, MOST_EPOCHS
from fewtune.methods.optimisation import Recipe
from fewtune.prompts.calibration import Calibration


@dataclass(frozen=True)
class TeacherSettings(Recipe):
    """The teacher's settings; its own tuning takes the recipe's batch size, and the defaults for all else."""

    context: Annotated[
        tuple[Literal["demonstrations", "instruction", "scratchpad"], ...],
        Field(
            min_length=1,
            max_length=3,
            description="What the teacher reads before a row, any or several. scratchpad: what it wrote itself about "
            "the row, behind the rest.",
        ),
    ] = ("demonstrations",)
    instruction: Annotated[str, Field(description="The instruction's text, where the context has one.")] = ""
    scratchpad: Annotated[
        str,
        Field(
            description="What the teacher goes on from to write about a row, text fields in braces; empty: the fields, "
            "one a line, then `Thoughts:`."
        ),
    ] = ""
    scratchpad_tokens: Annotated[
        int, Field(ge=1, le=256, description="Most tokens that the teacher writes about a row.")
    ] = 24
    demonstrations: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_DEMONSTRATIONS,
            description="Support rows shown in each of the teacher's contexts; null: four a label.",
        ),
    ] = None
    contexts: Annotated[
        int, Field(ge=1, le=64, description="Different contexts whose answers are averaged, each drawn anew.")
    ] = 4
    calibration: Annotated[
        Calibration,
        Field(
            description="How the teacher's label probabilities are calibrated, as in_context does; batch is over the "
            "pool, or with variant full over support rows that a context does not show."
        ),
    ] = "batch"
    separator: Annotated[str, Field(description="Text between the parts of a context.")] = "\n\n"
    tuned_teacher_epochs: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_EPOCHS,
            description="Epochs of pattern tuning at 2e-5 on the support before the teacher is frozen; 0: none.",
        ),
    ] = 0
    kl_over: Annotated[
        Literal["label_words", "vocabulary"],
        Field(description="Compare label words, or the teacher's likeliest next tokens and a bucket for the rest."),
    ] = "label_words"
    top_k: Annotated[
        int, Field(ge=2, le=1_000_000, description="Next tokens compared one by one, over the vocabulary.")
    ] = 50
