"""The figures of the study being rebuilt, as data: https://arxiv.org/abs/2405.13181

Owns what was published, what each of its methods was built as, which of ours answers to it, and what is known to be
wrong with a figure. Does not know records or how anything is shown. Figures are means over the result files that
its authors released with their code; the article's own tables were not at hand, so equality with them is unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SOURCE_URL = "https://arxiv.org/abs/2405.13181"
CODE_URL = "https://github.com/iamvarada/llm_finetuning"
SHOTS_PER_CLASS = (2, 16, 32, 64, 128)


@dataclass(frozen=True)
class PublishedTask:
    """A task as published; accuracies in per cent."""

    name: str
    labels: tuple[str, ...]
    in_domain_rows: int
    in_domain_majority: float | None
    out_of_domain_sets: tuple[str, ...]
    """Names that its out-of-domain rows have here."""
    out_of_domain_rows: int


@dataclass(frozen=True)
class Counterpart:
    """One of our methods that answers to a published one, where its settings hold all of `settings`."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    difference: str = ""
    """What ours does otherwise, in words; empty where both are built alike."""


@dataclass(frozen=True)
class PublishedMethod:
    """A method under the published name, what it was built as, and ours that answer to it, likest first."""

    name: str
    built_as: str
    counterparts: tuple[Counterpart, ...]
    on_all_rows: bool = False
    """Whether it was fitted on every labelled row there is, and on no shots."""


@dataclass(frozen=True)
class PublishedResult:
    """One cell: accuracies in per cent; `shots_total` counts labelled rows, None where all there are were used."""

    task: str
    method: str
    model: str
    shots_per_class: int | None
    shots_total: int | None
    epochs: int
    in_domain: float
    out_of_domain: float


@dataclass(frozen=True)
class PublishedTime:
    """Seconds that training took, from the fastest to the slowest run told, at 128 rows a class or on all rows."""

    task: str
    method: str
    model: str
    shots_per_class: int | None
    fastest_seconds: int
    slowest_seconds: int
    gpu: str
    per_epoch: bool = False


@dataclass(frozen=True)
class Caveat:
    """Something wrong with published figures; empty `tasks` or `methods` mean all."""

    name: str
    text: str
    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


VANILLA = "vanilla"
PROMPTED = "PBFT"
ADAPTIVE_TWO = "adaptive, 2 layers"
ADAPTIVE_ONE = "adaptive, 1 layer"
LORA = "LoRA, r = 8"
FEW_SHOT_DISTILLATION = "few-shot context distillation"
FULL_DISTILLATION = "full context distillation"

PUBLISHED_TASKS = {
    task.name: task
    for task in (
        PublishedTask("cola", ("unacceptable", "acceptable"), 1043, 69.1, ("out_of_domain",), 516),
        PublishedTask("mnli", ("entailment", "contradiction"), 6692, 52.0, ("hans", "hans_regenerated"), 30_000),
    )
}

_ADAPTIVE_DIFFERENCE = "ours decays the rates by block and keeps the embeddings frozen"
_DISTILLATION_DIFFERENCE = "our teacher reads a context that the student does not, and is not trained from scratch"

PUBLISHED_METHODS = (
    PublishedMethod(
        VANILLA,
        "all weights and a fresh linear head; plain texts",
        (Counterpart("vanilla", {"prompted": False}),),
    ),
    PublishedMethod(
        PROMPTED,
        "all weights and a fresh linear head; prompted texts",
        (
            Counterpart("vanilla", {"prompted": True}),
            Counterpart("pattern", {}, "ours reads label words by the language-model head"),
        ),
    ),
    *(
        PublishedMethod(
            name,
            f"the last {blocks} of 12 blocks, embeddings, final norm and a fresh head; one rate for all",
            (
                Counterpart("adaptive", {"blocks": blocks, "readout": "head"}, _ADAPTIVE_DIFFERENCE),
                Counterpart(
                    "adaptive",
                    {"blocks": blocks, "readout": "label_words"},
                    f"{_ADAPTIVE_DIFFERENCE}, and reads label words by the language-model head",
                ),
            ),
        )
        for name, blocks in ((ADAPTIVE_TWO, 2), (ADAPTIVE_ONE, 1))
    ),
    PublishedMethod(
        LORA,
        "rank 8 and alpha 8 on query and value projections, dropout 0.1, a fresh head; prompted texts, rate 1e-5",
        (
            Counterpart("lora", {"rank": 8, "readout": "head", "targets": "query_value"}),
            Counterpart("lora", {"rank": 8, "readout": "head"}, "ours has adapters on every linear layer"),
            Counterpart(
                "lora",
                {"rank": 8, "readout": "label_words"},
                "ours reads label words by the language-model head, with no fresh head to train",
            ),
        ),
    ),
    PublishedMethod(
        FEW_SHOT_DISTILLATION,
        "teacher and student with fresh heads on one prompt, KL and labels weighed alike, on the shots",
        (Counterpart("context_distillation", {"variant": "few_shot"}, _DISTILLATION_DIFFERENCE),),
    ),
    PublishedMethod(
        FULL_DISTILLATION,
        "the same on all 261,802 labelled rows, three epochs",
        (
            Counterpart(
                "context_distillation",
                {"variant": "full"},
                f"{_DISTILLATION_DIFFERENCE}; it fits as many labelled rows as `shots` says, theirs all 261,802",
            ),
        ),
        on_all_rows=True,
    ),
)

# In domain / out of domain, one cell for each of SHOTS_PER_CLASS.
_FEW_SHOT_FIGURES = {
    ("cola", VANILLA, "opt-125m"): "53.1/55.3 52.7/53.1 56.3/55.2 58.9/57.4 62.8/62.1",
    ("cola", VANILLA, "opt-350m"): "45.5/48.5 48.5/50.6 50.4/51.4 62.2/63.6 59.9/59.8",
    ("cola", PROMPTED, "opt-125m"): "53.3/57.1 49.5/50.6 45.8/45.3 55.0/54.9 64.0/63.1",
    ("cola", PROMPTED, "opt-350m"): "47.4/49.6 51.3/52.1 44.2/43.2 55.9/53.8 64.1/64.5",
    ("cola", ADAPTIVE_TWO, "opt-125m"): "50.7/54.6 53.0/56.0 53.0/53.6 55.7/57.0 57.3/58.5",
    ("cola", ADAPTIVE_ONE, "opt-125m"): "49.6/52.2 54.1/55.8 52.8/52.7 55.7/56.4 57.2/59.2",
    ("cola", LORA, "opt-125m"): "41.8/42.4 44.9/46.1 54.1/55.2 59.8/60.5 49.1/47.5",
    ("mnli", VANILLA, "opt-125m"): "49.2/50.0 59.3/49.4 62.4/49.8 68.3/49.9 68.8/50.0",
    ("mnli", VANILLA, "opt-350m"): "49.6/50.9 54.0/50.2 55.8/50.0 57.8/49.6 65.9/50.0",
    ("mnli", PROMPTED, "opt-125m"): "51.9/49.4 55.7/49.9 57.4/50.0 61.7/50.0 64.3/50.1",
    ("mnli", PROMPTED, "opt-350m"): "51.7/49.6 55.0/49.0 53.7/48.0 58.6/50.0 62.7/51.4",
    ("mnli", FEW_SHOT_DISTILLATION, "opt-125m"): "48.0/50.0 54.5/50.0 54.5/50.0 58.5/49.7 67.1/50.0",
}
# After one, two and three epochs over all labelled rows.
_FULL_FIGURES = {("mnli", FULL_DISTILLATION, "opt-125m"): "63.1/50.0 66.8/52.5 72.1/49.7"}

PUBLISHED_TIMES = (
    PublishedTime("cola", VANILLA, "opt-125m", 128, 199, 205, "NVIDIA T4"),
    PublishedTime("cola", VANILLA, "opt-350m", 128, 621, 621, "NVIDIA T4"),
    PublishedTime("cola", PROMPTED, "opt-125m", 128, 200, 200, "NVIDIA T4"),
    PublishedTime("mnli", VANILLA, "opt-125m", 128, 241, 241, "NVIDIA T4"),
    PublishedTime("mnli", VANILLA, "opt-350m", 128, 687, 687, "NVIDIA T4"),
    PublishedTime("mnli", PROMPTED, "opt-125m", 128, 193, 193, "NVIDIA T4"),
    PublishedTime("mnli", PROMPTED, "opt-350m", 128, 645, 645, "NVIDIA T4"),
    PublishedTime("cola", ADAPTIVE_TWO, "opt-125m", 128, 147, 147, "NVIDIA T4"),
    PublishedTime("cola", LORA, "opt-125m", 128, 70, 70, "NVIDIA L4"),
    PublishedTime("mnli", FEW_SHOT_DISTILLATION, "opt-125m", 128, 319, 319, "NVIDIA T4"),
    PublishedTime("mnli", FULL_DISTILLATION, "opt-125m", None, 6719, 6719, "NVIDIA T4", per_epoch=True),
)

CAVEATS = (
    Caveat(
        "unchecked",
        "Published figures are means over the released result files; the article's own tables were not compared.",
    ),
    Caveat(
        "repeated runs",
        "The ten runs behind a published mean are at most two distinct ones: the trainer set its seed again.",
    ),
    Caveat(
        "shared rows",
        "Published in-domain CoLA is GLUE's 1,043 validation rows, its 516 out-of-domain rows among them; "
        "ours leaves those out.",
        tasks=("cola",),
    ),
    Caveat(
        "below majority",
        "Always answering `acceptable` scores 69.1% on the published in-domain rows: no published CoLA figure does.",
        tasks=("cola",),
    ),
    Caveat(
        "HANS at chance",
        "Every published HANS mean lies between 48% and 52.5%, where 50% is chance: methods do not separate there.",
        tasks=("mnli",),
    ),
    Caveat(
        "not pattern-based",
        "Published PBFT puts a random classification head on prompted text; the language-model head is never used.",
        methods=(PROMPTED,),
    ),
    Caveat(
        "rates not decayed",
        "Published adaptive rates look for `layer` in names spelled `layers`: the decay never applied.",
        methods=(ADAPTIVE_TWO, ADAPTIVE_ONE),
    ),
    Caveat(
        "low LoRA rate",
        "Published LoRA trains at full fine-tuning's rate of 1e-5, ten to fifty times too low for it.",
        methods=(LORA,),
    ),
    Caveat(
        "no context",
        "The published teacher is untrained and reads no context, and its raw logits are the targets (the evaluation "
        "loss is NaN): no context is distilled.",
        methods=(FEW_SHOT_DISTILLATION, FULL_DISTILLATION),
    ),
    Caveat(
        "dropout ignored",
        "Dropout was set under names that the model's configuration ignores.",
    ),
)

TIME_CAVEAT = Caveat(
    "unlike hardware",
    "Published times come from different GPUs (LoRA's from an L4, the others' from a T4), and the five minutes "
    "against 1 hour 51 set a whole few-shot run against one of three epochs over all rows.",
)


def list_published() -> tuple[PublishedResult, ...]:
    """Every published accuracy."""
    return _RESULTS


def find_published(task: str, method: str, model: str, shots_total: int | None) -> PublishedResult | None:
    """The published cell of a task, method (by its published name), model and number of labelled rows, else None.

    `shots_total` None asks for the result on all labelled rows, after its last epoch. A model is known by its
    catalogue name, hub id or a folder of that name.
    """
    wanted = (task, method, _name_model(model), shots_total)
    found = [r for r in _RESULTS if (r.task, r.method, r.model, r.shots_total) == wanted]
    return max(found, key=lambda result: result.epochs, default=None)


def find_time(result: PublishedResult) -> PublishedTime | None:
    """The training time told for a published cell's task, method, model and shots; None where none is."""
    for time in PUBLISHED_TIMES:
        same = (time.task, time.method, time.model, time.shots_per_class)
        if same == (result.task, result.method, result.model, result.shots_per_class):
            return time
    return None


def find_counterpart(method: PublishedMethod, ours: str, settings: Mapping[str, Any]) -> Counterpart | None:
    """How one of our methods with those settings answers to a published one; None where it does not."""
    for counterpart in method.counterparts:
        fits = all(key in settings and settings[key] == value for key, value in counterpart.settings.items())
        if counterpart.method == ours and fits:
            return counterpart
    return None


def list_caveats(task: str, method: str) -> tuple[Caveat, ...]:
    """What is wrong with a published method's figures on a task."""
    return tuple(
        caveat for caveat in CAVEATS if task in (caveat.tasks or (task,)) and method in (caveat.methods or (method,))
    )


def _name_model(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].lower()


def _read_results() -> tuple[PublishedResult, ...]:
    results = []
    for (task, method, model), figures in _FEW_SHOT_FIGURES.items():
        labels = len(PUBLISHED_TASKS[task].labels)
        for shots, (inside, outside) in zip(SHOTS_PER_CLASS, _read_figures(figures), strict=True):
            results.append(PublishedResult(task, method, model, shots, shots * labels, 40, inside, outside))
    for (task, method, model), figures in _FULL_FIGURES.items():
        for epochs, (inside, outside) in enumerate(_read_figures(figures), start=1):
            results.append(PublishedResult(task, method, model, None, None, epochs, inside, outside))
    return tuple(results)


def _read_figures(figures: str) -> list[tuple[float, float]]:
    cells = [cell.partition("/") for cell in figures.split()]
    return [(float(inside), float(outside)) for inside, _, outside in cells]


_RESULTS = _read_results()
