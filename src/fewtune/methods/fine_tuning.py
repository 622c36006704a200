"""The plan of a fine-tuning method: what trains, what reads the answer, and the loss on labelled rows.

Owns what every trained method's plan shares: examples, held-out rows, the loss over labels. Knows no method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fewtune.engine.branches import count_tokens
from fewtune.engine.fitting import FitExample, Fitting
from fewtune.engine.forward import Forward
from fewtune.engine.readouts import Readout
from fewtune.engine.schedule import Optimisation
from fewtune.engine.to_device import to_device
from fewtune.methods.answer import Answer
from fewtune.methods.class_weights import weigh_labels
from fewtune.methods.held_out import hold_out, know_label
from fewtune.methods.optimisation import FineTuning, read_optimisation
from fewtune.methods.plan import Plan
from fewtune.methods.trainable import Trained
from fewtune.tasks.base import Draw, Example


def plan_training(
    settings: FineTuning,
    draw: Draw,
    answer: Answer,
    trained: Trained,
    rng: np.random.Generator,
    optimisation: Optimisation | None = None,
) -> Plan:
    """Fit the support's labels by cross-entropy over the answer's scores, and score rows the same way.

    `optimisation`: how the loop steps, where the recipe does not say all of it.
    """
    split = hold_out(draw.support, settings.validation_fraction, rng)
    return plan_split(settings, split, answer, trained, optimisation)


def plan_split(
    settings: FineTuning,
    split: tuple[Sequence[Example], Sequence[Example]],
    answer: Answer,
    trained: Trained,
    optimisation: Optimisation | None = None,
) -> Plan:
    """`plan_training` on rows that are fitted and rows that choose the epoch, told apart already (`hold_out`)."""

    fitted, held_out = split
    known = [know_label(row.label) for row in fitted]
    weights = torch.tensor(weigh_labels(settings.class_weight, known, len(answer.task.labels)), dtype=torch.float32)

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        (scores,) = read_batch(trained.forward, batch, answer.readout)
        labels = torch.tensor([know_label(e.label) for e in batch])
        losses = answer.loss(scores, to_device(labels, scores.device))
        return losses if settings.class_weight is None else losses * to_device(weights[labels], scores.device)

    examples, validation = make_examples(answer, fitted), make_examples(answer, held_out)
    steps = read_optimisation(settings, settings.epochs) if optimisation is None else optimisation
    return assemble_plan(answer, trained, examples, loss, steps, validation)


def assemble_plan(
    answer: Answer,
    trained: Trained,
    examples: Sequence[FitExample],
    loss: Callable[[Sequence[FitExample]], torch.Tensor],
    optimisation: Optimisation,
    validation: Sequence[FitExample] = (),
) -> Plan:
    """A plan that trains the answer's network, and its head where it has one, and scores rows by the answer."""
    forward, groups = trained.forward, trained.groups
    head = [answer.head] if answer.head is not None else []
    trainable = {id(p): p for g in groups for p in g.parameters}
    return Plan(
        predictor=answer.predict_with(forward, trained.change),
        fitting=Fitting(
            groups,
            tuple(examples),
            loss,
            optimisation,
            (forward.network, *head),
            forward.options,
            count_tokens(answer.readout.branches),
            tuple(validation),
        ),
        forward=forward,
        trainable_parameters=sum(p.numel() for p in trainable.values()),
        total_parameters=sum(p.numel() for module in (forward.network, *head) for p in module.parameters()),
        report=answer.report,
    )


def make_examples(
    answer: Answer, rows: Sequence[Example], targets: Sequence[np.ndarray | None] | None = None
) -> list[FitExample]:
    """Rows as the fitting loop takes them, with the teacher's distributions where there are any."""
    given = targets if targets is not None else [None] * len(rows)
    return [
        FitExample(prompt, row.label, target)
        for row, prompt, target in zip(rows, answer.encode(rows), given, strict=True)
    ]


def read_batch(forward: Forward, batch: Sequence[FitExample], *readouts: Readout) -> list[torch.Tensor]:
    """The outcomes of each readout from one pass over a batch, (examples, outcomes), with gradients."""
    branches = next((readout.branches for readout in readouts if readout.branches is not None), None)
    packed = forward.pack([example.prompt for example in batch], branches=branches)
    token_indices = [readout.token_indices(forward, packed) for readout in readouts]
    states = forward.hidden_states(packed, torch.cat(token_indices)).split([len(read) for read in token_indices])
    return [readout.read(forward, part, packed) for readout, part in zip(readouts, states, strict=True)]
