"""The schema of a trial's record: what was asked, what came of it, what it cost.

Owns the schema, version 2; its notes are `notes`. Knows no file.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fewtune.records.notes import Notes

SCHEMA_VERSION = 2

IN_DOMAIN = "in_domain"
"""The name of the in-domain test set in every record."""

PHASES = {
    "load": "task read and drawn, model read or restored",
    "tokenise": "texts to tokens and back, whatever for",
    "tune": "settings tried by cross-validation",
    "prepare": "plan made: network copied, teacher asked, prefix run, regression fitted",
    "fit": "the training loop",
    "score": "test rows scored; checkpoints and reference scorers too",
    "other": "metrics, freed memory, the record made",
}
"""The phases that a trial's seconds fall into, in order, and what each means: every moment is in exactly one.

What a method does on its way to a plan is `prepare`, fits of its own included (a teacher tuned, a probe's regression):
only the one training loop is `fit`. Tokenising is taken out of every phase it happens in, tuning included; scoring and
fitting that tuning does is `tune`.
"""

Status = Literal["done", "skipped", "stopped", "failed"]
"""`skipped`: the method cannot run here. `stopped`: a race went on without the method."""
NEVER_RUN = ("skipped", "stopped")
FailureKind = Literal["diverged", "out_of_memory", "killed", "error"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(_Frozen):
    """A cell of the study's grid: what its draws and seeds repeat."""

    model: str | None = Field(description="Model name; None for methods that use no language model.")
    task: str
    variant: str = Field(description="The method's name in this study: tells two settings of one method apart.")
    shots: int = Field(description="Labelled rows in the support set, in total.")


class TrialAxes(Cell):
    """Where in the study's grid a record belongs."""

    method: str = Field(description="The method's registered name.")
    data_seed: int
    fit_seed: int
    pattern: str | None = Field(default=None, description="Pattern, where the study runs its methods under several.")
    settings: dict[str, Any] = Field(description="The method's settings, resolved: every field.")

    @property
    def cell(self) -> Cell:
        return Cell(model=self.model, task=self.task, variant=self.variant, shots=self.shots)


class Failure(_Frozen):
    """Why a trial did not run, or failed. `kind` is `skipped`, `stopped` or the kind of failure."""

    kind: FailureKind | Literal["skipped", "stopped"]
    message: str
    trace: str | None = None


class Breakdown(_Frozen):
    """Accuracy over the rows of one test set that share a facet's value and a gold label."""

    test_set: str
    facet: str
    value: str
    gold: str
    rows: int
    accuracy: float


class Checkpoint(_Frozen):
    """What the test rows would have scored after an epoch of the fit: for analysis only, it never chooses weights."""

    epoch: int = Field(description="Epochs fitted.")
    metrics: dict[str, dict[str, float]] = Field(description="metrics[test set][metric].")


class Cost(_Frozen):
    """What the trial cost; None where it could not be measured, never zero for absence."""

    fit_seconds: float | None = Field(description="Preparing and fitting, model loading apart.")
    predict_seconds: float | None = Field(description="Scoring every test set.")
    predict_rows: int | None = Field(default=None, description="Test rows scored in `predict_seconds`.")
    shared_seconds: float | None = Field(
        default=None,
        description="Of `fit_seconds` and `predict_seconds`, those that an earlier trial of the process spent: what "
        "both asked of one network was computed once, and counts in each.",
    )
    load_seconds: float | None = Field(default=None, description="Reading or restoring the model.")
    peak_memory_bytes: int | None = Field(description="Most bytes this trial had allocated at once, model included.")
    resident_memory_bytes: int | None = Field(
        default=None,
        description="Most bytes the process really held at once during the trial, libraries and model included; on a "
        "GPU, most bytes reserved there. Records of earlier versions have none.",
    )
    trainable_parameters: int | None
    total_parameters: int | None
    fit_tokens: int | None = Field(description="Tokens run through the model while preparing and fitting.")
    predict_tokens: int | None = Field(description="Tokens run through the model while scoring.")


class Record(_Frozen):
    """Everything known about one trial; stands alone."""

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    trial: TrialAxes
    status: Status
    failure: Failure | None = None
    labels: list[str] = Field(default_factory=list, description="The task's label names, in order.")
    primary_metric: str = "accuracy"
    metrics: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="metrics[test set][metric]; test set `in_domain` or out of domain."
    )
    breakdowns: list[Breakdown] = Field(default_factory=list)
    baselines: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="baselines[test set]: `chance` (1 / labels) and `majority` (share of the commonest gold "
        "label) as accuracies, `rows` scored, `labels` that occur among them.",
    )
    checkpoints: list[Checkpoint] = Field(default_factory=list, description="Where the study asks for them.")
    cost: Cost | None = None
    environment: dict[str, Any] = Field(default_factory=dict, description="Versions, processor, threads, precision.")
    fingerprints: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of `weights`, `data` (the task's rows) and `draw` (this draw's rows).",
    )
    notes: Notes = Notes()
    started_at: str | None = Field(default=None, description="UTC, ISO 8601.")
    phase_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="Wall seconds in each of PHASES, adding up to the trial's; empty where none were measured.",
    )

    @property
    def reusable(self) -> bool:
        """Whether a study may take this record instead of running the trial again."""
        return self.status == "done"
