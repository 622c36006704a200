"""Notes of a trial beside its scores: its prompt, its fit, what tuning tried, rows that sets share.

Owns these values and their types: all that analysis and reports read is a field here. Counts are of rows or tokens,
losses in nats.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=2**63)]
Scores = dict[str, dict[str, float]]
"""scores[test set][metric]."""


class _Typed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CutInputs(_Typed):
    """Inputs that were longer than the model reads: rows that were shortened and tokens that they lost."""

    rows: Count = 0
    tokens: Count = 0


class PromptNotes(_Typed):
    """How rows were put to the model; a method that uses none leaves it empty."""

    template: str | None = None
    pattern: str | None = Field(default=None, description="The pattern's name, where label words are read.")
    label_words: list[str] = []
    label_word_tokens: list[list[int]] = []
    constrained: bool = Field(
        default=False, description="Each token counted among those alone with which a label word goes on."
    )
    splits_cleanly: bool | None = Field(
        default=None, description="Whether label words are the same tokens behind their prompt as alone."
    )
    cut: CutInputs = CutInputs()


class DemonstrationNotes(_Typed):
    """What stood before every query: ids of the support's rows in order, and the prior that calibration subtracted."""

    rows: list[str]
    log_prior: list[float] = Field(description="One number a label; zeros without calibration.")
    others: list[DemonstrationNotes] = Field(
        default=[], description="The same of further contexts, whose probabilities are averaged with this one's."
    )


class ScratchpadNotes(_Typed):
    """How a teacher wrote about a row before it answered."""

    cue: str
    most_tokens: Count
    mean_tokens: float | None = Field(description="Mean tokens written about a row; None: nothing was written.")


class TeacherNotes(_Typed):
    """Who taught, behind which rows, and how much of it was learnt from."""

    model: str
    contexts: list[list[str]] = Field(description="Ids of the support's rows that each context shows.")
    cut: CutInputs = CutInputs()
    scratchpad: ScratchpadNotes | None = None
    rows_taught: Count = Field(default=0, description="Rows fitted to the teacher's answers.")
    rows_labelled: Count = Field(default=0, description="Rows fitted to their labels.")
    alpha: float | None = Field(default=None, description="Its weight beside the labels'; earlier records have none.")
    worth: float | None = Field(
        default=None,
        description="Where settings follow it: its accuracy on support rows between chance, 0, and always right, 1.",
    )
    beats_untaught_student: dict[str, bool] = Field(default={}, description="By test set, where it was asked.")


class TriedPenalty(_Typed):
    """One strength of a penalty, the temperature that suits it, and the mean log loss of the rows held out."""

    inverse_penalty: float
    temperature: float
    log_loss: float


class PenaltyNotes(_Typed):
    """A regression's penalty, chosen by cross-validation inside the rows that it is fitted on."""

    inverse_penalty: float = Field(description="The inverse strength (scikit-learn's C) that was chosen.")
    temperature: float = Field(default=1.0, description="What the regression's scores are divided by.")
    tried: list[TriedPenalty] = Field(default=[], description="Empty where no two rows could be held out.")
    folds: Count = 0
    rows: Count = Field(default=0, description="Labelled rows that were held out and answered.")


class MethodNotes(_Typed):
    """What a method says of itself; `other` is for what no report reads, such as a new method's own figures."""

    prompt: PromptNotes = PromptNotes()
    demonstrations: DemonstrationNotes | None = None
    teacher: TeacherNotes | None = None
    penalty: PenaltyNotes | None = Field(default=None, description="None: it was given, or there is none.")
    unlabelled: Literal["pool", "scored"] | None = Field(
        default=None, description="Rows without labels that it learnt from: the pool's, or those that it was asked."
    )
    warnings: list[str] = []
    other: dict[str, Any] = {}


class ParameterGroupNotes(_Typed):
    """Tensors that trained at one learning rate."""

    name: str
    tensors: Count
    parameters: Count
    peak_learning_rate: float
    starts_at_epoch: Count = 0
    rates: list[float] = Field(default=[], description="Rate at each epoch's first step; 0.0 while frozen.")


class FitNotes(_Typed):
    """How a fit went; empty where nothing was fitted."""

    losses: list[float | None] = Field(default=[], description="Mean loss of each step; None: no number.")
    groups: list[ParameterGroupNotes] = []
    validation_losses: list[float | None] = Field(
        default=[], description="At each epoch's end, where rows were kept out; None: no number."
    )
    kept_epoch: Count | None = Field(default=None, description="0-based epoch whose weights were kept; None: the last.")
    collapsed: Count = Field(
        default=0,
        description="Fits before this one that gave every row of support and pool one answer, and were made again.",
    )
    resumed_at: list[Count] = Field(
        default=[], description="Steps after which another process went on; what came before is in the trial's cost."
    )


class TriedSetting(_Typed):
    """One candidate of a grid: its score over the rows held out, or why it failed."""

    settings: dict[str, Any]
    score: float | None = None
    log_loss: float | None = None
    failure: str | None = None
    seconds: Seconds = 0.0


class TuningNotes(_Typed):
    """Settings chosen by cross-validation, and all that were tried."""

    chosen: dict[str, Any]
    tried: list[TriedSetting]
    folds: Count
    metric: str
    seconds: Seconds


class SharedRows(_Typed):
    """Two sets of a draw that have texts in common, exactly or but for case, spacing and punctuation."""

    sets: Annotated[list[str], Field(min_length=2, max_length=2)]
    rows: Count = Field(description="Rows of the second set whose text is in the first.")
    exact: Count = Field(description="How many of these are copies to the letter.")
    example: list[str] = Field(description="One such pair, by row ids.")


class ReferenceNotes(_Typed):
    """What another scorer of the trial, such as a teacher, makes of the same test rows, or some of them."""

    metrics: Scores
    agreement: dict[str, float] = Field(
        default={}, description="Share of each test set's rows that both answer alike; empty in older records."
    )
    rows: dict[str, Count] = Field(
        default={}, description="How many rows of each test set it was asked of; empty in older records: all."
    )
    itself: Scores = Field(
        default={},
        description="What the trial itself scores on those rows; empty in older records, where they are all.",
    )


class Notes(MethodNotes):
    """All that a trial notes: what its method says, and what the runner saw."""

    fit: FitNotes = FitNotes()
    tuning: TuningNotes | None = None
    shared_rows: list[SharedRows] = []
    support_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Labelled rows of the support over all that they could be drawn from: such a share of them another "
        "draw has too, on average.",
    )
    defaults_tried: dict[str, Count] = Field(
        default={},
        description="Where the settings are the method's defaults: from how many they were chosen, by the task whose "
        "development rows judged them; 0 of this task where nobody tried any.",
    )
    references: dict[str, ReferenceNotes] = {}
    reference_seconds: Seconds | None = None
    task: list[str] = Field(default=[], description="What the task says of its rows, such as repeats left out.")
