"""Context distillation: a student without a context learns what a frozen teacher answers behind one.

Owns its settings, the teacher, the soft targets and the loss alpha T^2 KL(teacher || student) + (1 - alpha) CE.
Sources: Askell et al. 2021, https://arxiv.org/abs/2112.00861; Snell et al. 2022,
https://arxiv.org/abs/2209.15189; few-shot teachers, https://arxiv.org/abs/2409.01930
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.errors import DataError
from fewtune.methods.base import (
    LARGEST_RATE,
    MOST_BLOCKS,
    MOST_EPOCHS,
    MOST_RANK,
    Method,
    refuse_beyond_blocks,
)
from fewtune.methods.optimisation import MOST_STEPS, LearningRate, ReadoutKind, needs_of_readout, read_optimisation
from fewtune.methods.teacher_settings import TeacherSettings
from fewtune.methods.teacher_worth import LEAST_STEPS, WORTHIEST_STEPS, count_steps, measure_worth
from fewtune.prompts.template import plain_template
from fewtune.records import MethodNotes
from fewtune.tasks.patterns import check_template

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from fewtune.engine.fitting import FitExample
    from fewtune.engine.forward import Forward
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.answer import Answer
    from fewtune.methods.plan import Plan
    from fewtune.methods.trainable import Trained
    from fewtune.tasks.base import Draw, Example, Task

DEMONSTRATIONS_A_LABEL = 4
"""Rows a label in each of the teacher's contexts where a study does not say."""
DEFAULT_RATES = {"all": 5e-5, "last_blocks": 1e-5, "low_rank": 5e-4}


@dataclass(frozen=True)
class Settings(TeacherSettings):
    """What the student learns from the teacher, and how it trains."""

    variant: Annotated[
        Literal["few_shot", "full"],
        Field(
            description="few_shot: targets on the unlabelled pool and on support rows. full: on labelled rows alone, "
            "and no pool is read; give it all of them with `shots`."
        ),
    ] = "few_shot"
    teacher: Annotated[
        str | None,
        Field(
            description="Another model as the teacher, of the same vocabulary where that is compared; null: the "
            "student's own."
        ),
    ] = None
    alpha: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["worth"],
        Field(
            description="Weight of the teacher; 1 - alpha weighs the labels. worth: how far the teacher's accuracy on "
            "support rows, behind contexts that do not show them, is on the way from chance to 1."
        ),
    ] = 0.9
    temperature: Annotated[
        float,
        Field(ge=0.1, le=20, description="Both distributions are flattened by it; the loss is scaled by its square."),
    ] = 1.0
    steps: Annotated[
        Annotated[int, Field(ge=1, le=MOST_STEPS)] | Literal["worth"] | None,
        Field(
            description="Steps of the fit, however many rows there are: passes go on until then, in place of `epochs`. "
            f"worth: from {LEAST_STEPS} to {WORTHIEST_STEPS}, the more the teacher is worth, measured as for `alpha`; "
            "null: what the epochs make."
        ),
    ] = None  # type: ignore[assignment]  # a name stands for a number that is found while the trial runs
    readout: Annotated[
        ReadoutKind,
        Field(description="What reads the student's answer: label words, or a fresh linear head on the prompt."),
    ] = "label_words"
    student: Annotated[Literal["all", "last_blocks", "low_rank"], Field(description="What trains in the student.")] = (
        "all"
    )
    blocks: Annotated[int, Field(ge=1, le=MOST_BLOCKS, description="Last blocks that train, with last_blocks.")] = 4
    rank: Annotated[
        int, Field(ge=1, le=MOST_RANK, description="Rank of LoRA adapters, with low_rank; alpha is twice that.")
    ] = 8
    head_learning_rate: LearningRate = 1e-3
    epochs: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_EPOCHS,
            description=f"Passes over support and pool; null: as many as make {LEAST_STEPS} steps.",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        Field(
            gt=0, le=LARGEST_RATE, description="Peak rate of AdamW; null: 5e-5 all, 1e-5 last_blocks, 5e-4 low_rank."
        ),
    ] = None  # type: ignore[assignment]  # null stands for a rate that other settings choose


def resolve(settings: Settings, task: Task, shots: int, pool_rows: int) -> Settings:
    """A rate that suits what trains, four demonstrations a label, a cue to write from, and epochs for enough steps.

    Where the teacher's worth is asked, a context shows at most three support rows in four. Contexts without
    demonstrations are all the same: one is enough.

    Where the teacher alone is learnt from (alpha 1), or its weight is yet to be found, epochs stay null: support rows
    that every context shows are not taught, and which these are is drawn while the trial runs.
    """
    rate, shown, epochs = settings.learning_rate, settings.demonstrations, settings.epochs
    if rate is None:
        rate = DEFAULT_RATES[settings.student]
    if shown is None and "demonstrations" in settings.context:
        shown = DEMONSTRATIONS_A_LABEL * len(task.labels)
    if shown is not None and asks_worth(settings):
        shown = _leave_some_out(shown, shots)
    alpha = settings.alpha
    if epochs is None and alpha != "worth" and alpha < 1 and settings.steps is None:
        taught = pool_rows if settings.variant == "few_shot" and alpha > 0 else 0
        epochs = _count_epochs(shots + taught, settings.batch_size)
    cue = settings.scratchpad
    if not cue and "scratchpad" in settings.context:
        cue = plain_template(task.fields) + "\nThoughts:"
    contexts = settings.contexts if "demonstrations" in settings.context else 1
    return replace(settings, learning_rate=rate, demonstrations=shown, contexts=contexts, epochs=epochs, scratchpad=cue)


def _leave_some_out(shown: int, shots: int) -> int:
    """Demonstrations of a context that leaves one support row in four out: on them it shows what a teacher is worth."""
    return min(shown, max(1, shots - math.ceil(shots / 4)))


def asks_worth(settings: Settings) -> bool:
    """Whether a setting follows what the teacher is worth."""
    return "worth" in (settings.alpha, settings.steps)


def _count_epochs(rows: int, batch_size: int) -> int:
    """Passes over so many rows that make LEAST_STEPS steps."""
    return math.ceil(LEAST_STEPS / max(1, math.ceil(rows / batch_size)))


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where settings contradict each other or do not fit the model."""
    if "instruction" in settings.context and not settings.instruction.strip():
        return "context has an instruction and `instruction` is empty: give its text"
    if settings.kl_over == "vocabulary" and settings.calibration != "none":
        return "calibration is about label words: with kl_over vocabulary set it to none"
    if asks_worth(settings) and settings.tuned_teacher_epochs:
        return "a teacher tuned on the support answers it better than it is worth: give alpha and steps numbers"
    if settings.kl_over == "vocabulary" and asks_worth(settings):
        return "a teacher's worth is how it answers with labels: with kl_over vocabulary give alpha and steps numbers"
    if settings.alpha == 0 and settings.steps == "worth":
        return "with alpha 0 no teacher is asked, whose worth steps could follow: give steps a number"
    if settings.kl_over == "vocabulary" and settings.readout == "head":
        return "a head answers with labels: with readout head set kl_over to label_words"
    if settings.kl_over == "vocabulary" and config is not None and not _reads_on(config):
        return "an encoder says no next token: set kl_over to label_words"
    if "scratchpad" in settings.context and settings.scratchpad:
        try:
            check_template(settings.scratchpad, task.fields, "scratchpad")
        except DataError as error:
            return str(error)
    return refuse_beyond_blocks("blocks", settings.blocks, config) if settings.student == "last_blocks" else None


def _reads_on(config: PreTrainedConfig) -> bool:
    from fewtune.models.architectures import find_architecture

    return "reads_on" in find_architecture(config).find_abilities(config)


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Let the teacher answer once for every row, then train the student on answers and labels."""
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import assemble_plan, make_examples
    from fewtune.methods.teacher import make_teacher

    assert model is not None
    if settings.variant == "full":
        draw = replace(draw, pool=())
    if settings.demonstrations is not None and asks_worth(settings):  # a fold has fewer rows than the trial
        settings = replace(settings, demonstrations=_leave_some_out(settings.demonstrations, len(draw.support)))
    # A stream of its own, so that with alpha 0 the student's fit is pattern tuning's to the last bit.
    (teacher_rng,) = rng.spawn(1)
    teacher_model = model if settings.teacher is None else model.find(settings.teacher)
    teacher = make_teacher(settings, teacher_model, task, draw, teacher_rng)
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    student = _choose_student(settings, model, rng)
    student = student.join(head_parameters(answer, settings.head_learning_rate))
    rows = [*draw.support, *draw.pool]
    targets = teacher.answer_rows(rows) if settings.alpha != 0 else [None] * len(rows)
    worth = measure_worth(rows, targets) if asks_worth(settings) else None
    by_worth = settings.steps == "worth"
    if by_worth:
        settings = replace(settings, steps=count_steps(worth or 0.0))
    alpha = settings.alpha if settings.alpha != "worth" else worth or 0.0
    # A row that weighs nothing is left out: it would only thin the batches.
    weighed = [
        (row, target)
        for row, target in zip(rows, targets, strict=True)
        if (target is not None and alpha > 0) or (row.label is not None and alpha < 1)
    ]
    if not weighed:
        raise DataError(
            "every context shows every support row and there is no pool, so that with alpha 1 nothing is left to learn "
            "from. Show fewer demonstrations, give a pool, or set alpha below 1."
        )
    examples = make_examples(answer, [row for row, _ in weighed], [target for _, target in weighed])
    loss = _make_loss(settings, alpha, answer, student.forward)
    epochs = settings.epochs or _count_epochs(len(examples), settings.batch_size)
    base = assemble_plan(answer, student, examples, loss, read_optimisation(settings, epochs))
    answered = sum(target is not None for _, target in weighed) if alpha > 0 else 0
    labelled = sum(row.label is not None for row, _ in weighed) if alpha < 1 else 0
    fitted = {"rows_taught": answered, "rows_labelled": labelled, "alpha": round(alpha, 6), "worth": worth}
    given = {part: getattr(settings, part) for part in ("instruction", "scratchpad", "demonstrations")}
    unread = [part for part, value in given.items() if value and part not in settings.context]
    warnings = [*teacher.warnings, *(f"`{part}` is given and not read: context does not name it" for part in unread)]
    if settings.alpha != 0 and answered == 0:
        why = "every context shows every support row and there is no pool"
        if settings.alpha == "worth":
            why = "the teacher was asked of no support row or is no better than chance there"
        warnings.append(f"{why}: labels alone were fitted")
    if by_worth and worth is None:
        warnings.append(f"the teacher was asked of no support rows of two labels: {LEAST_STEPS} steps were taken")

    # The base model is read again after the fit, where nothing else needed it.
    find_untaught = cache(answer.predict_untaught)
    untaught: dict[str, Callable[[Sequence[Example]], np.ndarray]] = {}
    if answer.head is None:  # a fresh head says nothing before it was fitted, and the answer holds the one that is
        untaught["untaught_student"] = lambda rows: find_untaught().log_probabilities(rows)

    def report() -> MethodNotes:
        return MethodNotes(
            prompt=base.report().prompt,
            teacher=teacher.report().model_copy(update=fitted),
            unlabelled="pool" if answered and draw.pool else None,
            warnings=warnings,
        )

    return replace(
        base,
        taught_by=teacher.forward.network,
        report=report,
        reference_scorers={"teacher": teacher.score, **untaught},
        conclude=partial(judge_teacher, task.primary_metric),
    )


def _make_loss(
    settings: Settings, alpha: float, answer: Answer, forward: Forward
) -> Callable[[Sequence[FitExample]], torch.Tensor]:
    """One loss an example: alpha T^2 KL(teacher || student) where it is taught, (1 - alpha) CE where it is labelled."""
    import torch

    from fewtune.engine.readouts import NextTokenReadout, Readout
    from fewtune.engine.to_device import to_device
    from fewtune.methods.distilling import compare_label_words, compare_vocabulary
    from fewtune.methods.fine_tuning import read_batch

    compared: Readout = answer.readout if settings.kl_over == "label_words" else NextTokenReadout()
    compare = compare_label_words if settings.kl_over == "label_words" else compare_vocabulary
    # Each is read once, where it weighs anything.
    readouts = list(dict.fromkeys([*([answer.readout] if alpha < 1 else []), *([compared] if alpha > 0 else [])]))

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        read = read_batch(forward, batch, *readouts)
        scores, seen = read[0], read[-1]
        total = torch.zeros(len(batch), device=scores.device)
        labelled = [i for i, e in enumerate(batch) if e.label is not None]
        if labelled and alpha < 1:
            labels = to_device(torch.tensor([batch[i].label for i in labelled]), scores.device)
            places = to_device(torch.tensor(labelled), scores.device)
            total[places] = (1 - alpha) * answer.loss(scores[places], labels)
        taught = [i for i, e in enumerate(batch) if e.target is not None]
        if taught and alpha > 0:
            given = torch.from_numpy(np.stack([t for e in batch if (t := e.target) is not None]))
            places = to_device(torch.tensor(taught), scores.device)
            divergence = compare(to_device(given, scores.device), seen[places], settings.temperature)
            weighed = alpha * settings.temperature**2 * divergence
            total = total.index_add(0, places, weighed)
        return total

    return loss


def judge_teacher(
    metric: str, notes: MethodNotes, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> MethodNotes:
    """Note on which test sets the teacher beats the untaught student, and warn where it does not in domain.

    Nothing where there is none to beat: a student with a fresh head.
    """
    if "untaught_student" not in metrics:
        return notes
    teacher, untaught = metrics["teacher"], metrics["untaught_student"]
    beats = {test: teacher[test][metric] > untaught[test][metric] for test in teacher}
    warnings = list(notes.warnings)
    if not beats.get("in_domain", True):
        warnings.append(
            f"the teacher's {metric} in domain, {teacher['in_domain'][metric]:.3f}, is no better than the untaught "
            f"student's, {untaught['in_domain'][metric]:.3f}: it had nothing to teach there"
        )
    assert notes.teacher is not None
    judged = notes.teacher.model_copy(update={"beats_untaught_student": beats})
    return notes.model_copy(update={"teacher": judged, "warnings": warnings})


def _choose_student(settings: Settings, model: LanguageModel, rng: np.random.Generator) -> Trained:
    from fewtune.methods.trainable import LoraShape, train_all, train_last_blocks, train_lora

    rate = settings.learning_rate
    assert rate is not None
    if settings.student == "last_blocks":
        return train_last_blocks(model, settings.blocks, rate)
    if settings.student == "low_rank":
        return train_lora(model, LoraShape(settings.rank, 2.0 * settings.rank), rate, rng)
    return train_all(model, rate, body_only=settings.readout == "head")


METHOD = Method(
    name="context_distillation",
    summary="a student without context learns a frozen teacher's answers behind one",
    source_url="https://arxiv.org/abs/2209.15189",
    settings=Settings,
    plan=plan,
    needs=lambda settings: needs_of_readout(settings) | ({"reads_on"} if settings.teacher is None else frozenset()),
    shares_vocabulary=lambda settings: settings.kl_over == "vocabulary",
    defaults_tried={"sentiment": 21, "cola": 9, "qqp": 3, "snli": 3},
    revision=5,  # last blocks start from the file's weights, not from bfloat16's
    needs_pool=lambda settings: settings.calibration == "batch" and settings.variant == "few_shot",
    skip_reason=skip_reason,
    resolve=resolve,
    other_models=lambda settings: () if settings.teacher is None else (settings.teacher,),
)
