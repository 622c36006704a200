"""The study as frozen values: its axes, limits and choices, and its resolved form as a file.

Owns the keys of a study file and their defaults. Does not know how a file is read, or what a method or a task does;
file paths and local model folders stay as written, relative to the working folder.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from fewtune.errors import FewtuneError
from fewtune.guarantee import Guarantee
from fewtune.study.draft import LARGEST_INTEGER
from fewtune.study.yaml_rules import Dumper
from fewtune.system.sizes import parse_bytes

Precision = Literal["auto", "bfloat16", "float32"]
Metric = Literal["accuracy", "mcc", "macro_f1", "ece"]

AUTO: Literal["auto"] = "auto"
"""In place of a number of test rows: to be chosen when the study first runs."""

MOST_TUNING_TRIALS = 1000
MOST_ENTRIES = 1000
"""Models, tasks, methods, shots or seeds that a study may list."""
MOST_TRIALS = 100_000
"""Trials that a study may have: a grid beyond it is a slip, and takes minutes to be listed."""
MOST_ROWS = 100_000_000
"""Rows that may be asked for: beyond any file, and within what a record's integer holds."""
MOST_NAME = 200
"""Characters of a name."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(_Frozen):
    """A model of a study."""

    name: str = Field(min_length=1, max_length=4096, description="Catalogue name, hub id or local folder.")
    revision: str | None = Field(
        default=None, max_length=MOST_NAME, description="Commit of a hub model; null: its newest."
    )


class TaskChoice(_Frozen):
    """A task of a study, its settings resolved."""

    name: str
    label: str = Field(description="The task's name in this study: tells two uses of one task apart.")
    settings: dict[str, Any]


class MethodChoice(_Frozen):
    """A method of a study, its settings resolved: every field, defaults included."""

    name: str
    variant: str = Field(description="The method's name in this study: tells two settings of one method apart.")
    settings: dict[str, Any] = Field(description="Every setting; those of the grid at their first value.")
    grid: dict[str, tuple[Any, ...]] = Field(
        default={},
        description="Values to choose from by cross-validation on the support, by setting; empty: no choice.",
    )
    models: tuple[str, ...] = Field(default=(), description="Those of the study's that it runs on; empty: all.")

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Every combination of the grid's values over the other settings; the settings alone where there is no grid."""
        combinations = itertools.product(*self.grid.values())
        return [{**self.settings, **dict(zip(self.grid, values, strict=True))} for values in combinations]


class Tuning(_Frozen):
    """How settings are chosen: the same number of trials for every method, on the support alone."""

    trials: int = Field(
        ge=2, le=MOST_TUNING_TRIALS, description="Settings tried for every method: the size of each `grid`."
    )
    folds: int = Field(
        default=4, ge=2, le=100, description="Parts of the support, each held out once while the others are fitted."
    )


class Evaluation(_Frozen):
    """How many test rows are scored."""

    in_domain_rows: Annotated[int, Field(ge=1, le=MOST_ROWS)] | Literal["auto"] | None = Field(
        default=500,
        description="In-domain test rows; null: all; auto: as many as make the study's answer cheapest, by a short "
        "measurement of each method before the first trial.",
    )
    out_of_domain_rows: int | None = Field(
        default=500, ge=1, le=MOST_ROWS, description="Rows of each out-of-domain test set; null: all."
    )
    checkpoint_every: int = Field(
        default=0,
        ge=0,
        le=MOST_ROWS,
        description="Score the test rows after every so many epochs of a fit, for analysis only (0: never): the report "
        "shows what choosing the epoch by out-of-domain rows would have given, an oracle that is no result.",
    )

    @property
    def in_domain_limit(self) -> int | None:
        """In-domain test rows that a trial scores, None for all; ValueError while they are still to be chosen."""
        if self.in_domain_rows == AUTO:
            raise ValueError("in_domain_rows: auto has not been settled")
        return self.in_domain_rows


class Until(_Frozen):
    """A race: draws are added look by look until every decision stands, or there are no more."""

    most_draws: int = Field(
        default=20,
        ge=2,
        le=MOST_ENTRIES,
        description="Draws that the race may have; left out: 20, or those of `data_seeds` where these are more.",
    )


def _read_memory(given: object) -> object:
    if isinstance(given, bool) or not isinstance(given, int | str):
        return given
    try:
        return parse_bytes("it", str(given))
    except FewtuneError as error:
        raise ValueError(str(error)) from error


Memory = Annotated[
    int,
    BeforeValidator(_read_memory),
    WithJsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0, "maximum": 10**18}, {"type": "string"}]}),
]
"""Bytes, with a unit or without."""


class Budget(_Frozen):
    """What a study may take."""

    minutes: float | None = Field(
        default=None, gt=0, le=1e6, description="Minutes from its start to its report; null: no limit."
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory that a trial's process may hold, such as 2GiB: trials are forecast, and skipped beyond it; "
        "null: no limit.",
    )


class Resources(_Frozen):
    """What a trial is given where a cluster runs it; decides no result."""

    cpus: float = Field(default=1, gt=0, le=1024, description="Cores; one thread for each whole one.")
    gpus: float = Field(default=0, ge=0, le=64, description="GPUs; below one, several trials share one.")
    memory: Memory | None = Field(
        default=None, description="Memory, such as 4GiB; null: what fitting all weights of the largest model may take."
    )


class Study(_Frozen):
    """A resolved study: what to run, and nothing about where or how fast."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^\w[\w .+=()-]*$",
        description="What the report calls this study; letters, digits, spaces and . _ + = - ( ).",
    )
    models: tuple[ModelChoice, ...] = Field(default=(), description="Language models to adapt.")
    tasks: tuple[TaskChoice, ...] = Field(description="Tasks to adapt them to.")
    methods: tuple[MethodChoice, ...] = Field(description="Ways of adapting, side by side.")
    baselines: bool = Field(
        default=True,
        description="Run majority, tfidf, probe and zero_shot too, with their defaults, where methods omit them.",
    )
    shots: tuple[Annotated[int, Field(ge=1, le=MOST_ROWS)], ...] = Field(
        min_length=1, max_length=MOST_ENTRIES, description="Numbers of labelled rows in the support set."
    )
    shots_per: Literal["total", "class"] = Field(
        default="total", description="Whether `shots` counts the whole support set or each label's rows."
    )
    sampling: Literal["balanced", "stratified", "natural"] = Field(
        default="balanced",
        description="Equal rows a label; each label's share of the training rows, one row of it at least; or rows at "
        "random, which may lack a label.",
    )
    data_seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_INTEGER)], ...] = Field(
        default=(0,),
        min_length=1,
        max_length=MOST_ENTRIES,
        description="One draw of support, pool and test rows for each.",
    )
    fit_seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_INTEGER)], ...] = Field(
        default=(0,), min_length=1, max_length=MOST_ENTRIES, description="One fit on every draw for each."
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="How many test rows are scored.")
    patterns: Literal["default", "all"] | dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        default="default",
        description="Patterns that every method using one runs under: each task's first, all, or names by task.",
    )
    tuning: Tuning | None = Field(
        default=None,
        description="Choose each method's settings from its `grid` by cross-validation on the support; null: none.",
    )
    pool_rows: int = Field(default=0, ge=0, le=MOST_ROWS, description="Unlabelled rows beside the support.")
    precision: Precision = Field(
        default="auto", description="Computation; auto: bfloat16 where the hardware does it natively."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MOST_ROWS,
        description="Tokens one rendered example may have; null: 512, or what the model reads where that is less.",
    )
    metrics: tuple[Metric, ...] = Field(
        default=(),
        description="What results are judged by: the first of accuracy, mcc and macro_f1 here; empty: the task's own. "
        "All are always shown.",
    )
    equivalence: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Largest difference of scores that does not matter (0.01: one point): within it methods tie.",
    )
    within: float = Field(
        default=0.03,
        ge=0,
        lt=1,
        description="How far below the best a method may be and still be used (0.03: three points): the decision is "
        "the cheapest method that is expected to lose a sixth of that at most, and whose chance of losing more than "
        "all of it is 5 % at most.",
    )
    guarantee: Guarantee = Field(
        default="expected_loss",
        description="What a decision has to meet: a small expected loss, or, for whoever must defend it, a bound "
        "`within` the tolerance at 95 % confidence, all methods at once, which takes more draws.",
    )
    until: Until | None = Field(
        default=None,
        description="Race: three draws of every method, then a few at a time to the best bet or its largest threat, "
        "until the decision stands. `decided`, or {within, most_draws}; null: run every draw of every method.",
    )
    budget: Budget | None = Field(
        default=None,
        description="Run what fits: every method once before any twice; the decision is what stands then; null: all.",
    )

    resources: Resources | None = Field(
        default=None, description="What a trial is given on a cluster (`--executor ray`); null: a core each."
    )

    def to_yaml(self) -> str:
        """The resolved study as a file that `load_study` reads back to an equal study."""
        body = self.model_dump(mode="json")
        body["models"] = [
            {"name": m.name, "revision": m.revision} if m.revision is not None else m.name for m in self.models
        ]
        body["tasks"] = [{t["name"]: {"as": t["label"], **t["settings"]}} for t in body["tasks"]]
        body["methods"] = [
            {
                m["name"]: {
                    "as": m["variant"],
                    **{key: value for key, value in m["settings"].items() if key not in m["grid"]},
                    **{key: m[key] for key in ("grid", "models") if m[key]},
                }
            }
            for m in body["methods"]
        ]
        text: str = yaml.dump(
            body, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
        )
        return text
