"""The one training loop: every method that trains is fitted by it, so methods never differ in how they are trained.

Owns batches, their order, which epoch is kept, and the check for divergence. What a step does is `group_optimiser`'s.
Knows no method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from fewtune.engine.fitting import FitExample, Fitting
from fewtune.engine.group_optimiser import GroupOptimiser
from fewtune.engine.packing import group_by_tokens
from fewtune.engine.resuming import FitState, Resumption
from fewtune.engine.schedule import Optimisation, Plateau, rate_factor
from fewtune.engine.sparse_embeddings import gradients_by_row
from fewtune.engine.splitting import agree, is_split
from fewtune.errors import TrialFailure
from fewtune.records import ParameterGroupNotes


@dataclass(frozen=True)
class FitReport:
    """What a fit did: the mean loss of each step, the parameter groups and their rates, validation losses.

    A group's `rates` are its learning rates at the first step of each epoch, 0.0 while it was frozen.
    `validation_losses` are means at the end of each epoch, empty where no rows were held out; `kept_epoch` is the
    0-based epoch whose weights were kept, None where those of the last step were.
    """

    losses: list[float]
    groups: list[ParameterGroupNotes]
    validation_losses: list[float]
    kept_epoch: int | None


def fit(
    fitting: Fitting,
    rng: np.random.Generator,
    on_step: Callable[[int, int, float], None],
    on_epoch: Callable[[int, int], None] | None = None,
    resumption: Resumption | None = None,
) -> FitReport:
    """Train a plan's parameters; `on_step(step, steps, loss)` is told of every step.

    `on_epoch(epochs fitted, epochs)` is called after every epoch, in evaluation mode; it must change nothing. With a
    `resumption` the fit goes on where a process that was killed left it, to the same weights; but for rounding where
    rows of unlike lengths run through frozen blocks once, which then run beside others. Raises TrialFailure `diverged`
    at the first loss that is not finite.
    """
    for group in fitting.groups:
        if not group.parameters:
            raise TrialFailure("error", f"parameter group {group.name!r} matched no tensor: nothing would train")
    options = fitting.optimisation
    epochs = _draw_batches(len(fitting.examples), options, rng)
    steps = sum(map(len, epochs))
    optimiser, plateau, kept = GroupOptimiser(fitting), Plateau(options), _Kept(fitting)
    on_cpu = fitting.groups[0].parameters[0].device.type == "cpu"
    losses = _Losses(steps, on_step, 1 if on_cpu or is_split() else fitting.options.losses_at_once)
    _set_training(fitting, True)
    # Finding the rows that have gradients makes the processor wait for a GPU: there gradients are dense.
    sparse = fitting.options.sparse_embedding_gradients and on_cpu
    by_row = gradients_by_row(fitting.modules) if sparse else nullcontext()
    # Dropout draws from torch's global generator: seeded here from the trial's own, and given back after.
    with torch.random.fork_rng(), by_row:
        seed = int(rng.integers(2**63))
        torch.manual_seed(seed)
        standing = _Standing(fitting, optimiser, plateau, kept, losses.values, f"{seed} {steps}")
        if resumption is not None:
            standing.resume(resumption)
        for epoch, batches in enumerate(epochs[standing.epochs :], start=standing.epochs):
            optimiser.unfreeze(epoch)
            done = len(losses) - sum(map(len, epochs[:epoch]))
            for batch in batches[done:]:
                if resumption is not None and resumption.is_due:
                    losses.read()
                    standing.keep(resumption)
                optimiser.set_rates(epoch, plateau.factor * rate_factor(len(losses), steps, options))
                losses.add(_step_gradients(fitting, batch))
                optimiser.step()
                losses.report()
            losses.read()
            losses.report()
            plateau.observe(float(np.mean(losses.values[-len(batches) :])))
            if fitting.validation:
                kept.offer(epoch, agree(_mean_loss(fitting, fitting.validation)))
            standing.epochs += 1
            if on_epoch is not None:
                _set_training(fitting, False)
                on_epoch(epoch + 1, len(epochs))
                _set_training(fitting, True)
    if kept.losses and kept.epoch is None:
        raise TrialFailure("diverged", "the loss on the validation rows was no number after any epoch")
    kept.restore()
    _set_training(fitting, False)
    return FitReport(losses.values, optimiser.describe_groups(), kept.losses, kept.epoch)


class _Losses:
    """The mean loss of each step, read after so many steps together: reading waits for all that a GPU was given."""

    def __init__(self, steps: int, on_step: Callable[[int, int, float], None], at_once: int) -> None:
        self.values: list[float] = []
        """Those that were read."""
        self._unread: list[torch.Tensor] = []
        self._untold: list[int] = []
        self._steps, self._on_step, self._at_once = steps, on_step, at_once

    def __len__(self) -> int:
        return len(self.values) + len(self._unread)

    def add(self, loss: torch.Tensor) -> None:
        """Take a step's loss; raises TrialFailure `diverged` where one is read that is not finite."""
        self._unread.append(loss)
        if len(self._unread) >= self._at_once:
            self.read()

    def read(self) -> None:
        """Read all that were taken; raises TrialFailure as `add` does."""
        unread, self._unread = self._unread, []
        for loss in torch.stack(unread).tolist() if unread else ():
            self.values.append(agree(loss))
            if not math.isfinite(self.values[-1]):
                where = f"step {len(self.values)} of {self._steps}"
                raise TrialFailure("diverged", f"the loss became {self.values[-1]} at {where}")
            self._untold.append(len(self.values))

    def report(self) -> None:
        """Call `on_step` for each step that was read since."""
        untold, self._untold = self._untold, []
        for step in untold:
            self._on_step(step, self._steps, self.values[step - 1])


class _Standing:
    """Where a fit stands, between two steps: all that the next one depends on."""

    def __init__(
        self,
        fitting: Fitting,
        optimiser: GroupOptimiser,
        plateau: Plateau,
        kept: _Kept,
        losses: list[float],
        name: str,
    ) -> None:
        self._parameters = [p for g in fitting.groups for p in g.parameters]
        self._optimiser, self._plateau, self._kept, self._losses = optimiser, plateau, kept, losses
        shapes = [list(p.shape) for p in self._parameters]
        groups = [(g.name, len(g.parameters), g.learning_rate, g.starts_at_epoch) for g in fitting.groups]
        device, software = self._parameters[0].device.type, (version("fewtune"), torch.__version__)
        options = replace(fitting.options, kept_states_share=0.0)  # by which no step differs, and which workers share
        self._fit = f"{name} {shapes} {groups} {fitting.optimisation} {options} {device} {software}"
        """Tells this fit from any other."""
        self.epochs = 0
        """Epochs that have ended."""

    def keep(self, resumption: Resumption) -> None:
        """Keep it in a file."""
        moments, values = self._optimiser.tell()
        tensors = {f"parameter.{number}": p.detach() for number, p in enumerate(self._parameters)}
        kept_tensors, kept_values = self._kept.tell()
        random = {"random": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["random.cuda"] = torch.cuda.get_rng_state()
        values |= kept_values | {"losses": self._losses, "epochs": self.epochs, "plateau": self._plateau.tell()}
        state = FitState({**tensors, **moments, **kept_tensors, **random}, values)
        resumption.write(self._fit, len(self._losses), state)

    @torch.no_grad()
    def resume(self, resumption: Resumption) -> None:
        """Stand where the process before stood; at the beginning where it left nothing."""
        state = resumption.load(self._fit)
        if state is None:
            return
        for number, p in enumerate(self._parameters):
            p.copy_(state.tensors[f"parameter.{number}"])
        self._optimiser.recall(state.tensors, state.values)
        self._plateau.recall(state.values["plateau"])
        self._kept.recall(state.tensors, state.values)
        self._losses[:] = state.values["losses"]
        self.epochs = state.values["epochs"]
        torch.set_rng_state(state.tensors["random"])
        if "random.cuda" in state.tensors:
            torch.cuda.set_rng_state(state.tensors["random.cuda"])


class _Kept:
    """The weights of the epoch with the lowest validation loss."""

    def __init__(self, fitting: Fitting) -> None:
        self._parameters = [p for g in fitting.groups for p in g.parameters]
        self._values: list[torch.Tensor] = []
        self.losses: list[float] = []
        self.epoch: int | None = None

    def offer(self, epoch: int, loss: float) -> None:
        if loss < min(filter(math.isfinite, self.losses), default=math.inf):
            self.epoch = epoch
            self._values = [p.detach().clone() for p in self._parameters]
        self.losses.append(loss)

    def tell(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What is kept so far, for `recall`."""
        tensors = {f"kept.{number}": value for number, value in enumerate(self._values)}
        return tensors, {"validation": self.losses, "kept_epoch": self.epoch}

    def recall(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Keep what another kept."""
        self.losses, self.epoch = list(values["validation"]), values["kept_epoch"]
        found = [name for name in tensors if name.startswith("kept.")]
        devices = [p.device for p in self._parameters]
        self._values = [tensors[f"kept.{number}"].to(devices[number]) for number in range(len(found))]

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, value in zip(self._parameters, self._values, strict=bool(self._values)):
            parameter.copy_(value)


def _set_training(fitting: Fitting, training: bool) -> None:
    for module in fitting.modules:
        module.train(training)


@torch.no_grad()
def _mean_loss(fitting: Fitting, examples: Sequence[FitExample]) -> float:
    """Mean loss over examples, in evaluation mode."""
    _set_training(fitting, False)
    total = sum(float(fitting.loss(part).sum()) for part in _split_passes(fitting, examples))
    _set_training(fitting, True)
    return total / len(examples)


def _draw_batches(rows: int, options: Optimisation, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Row indices of every step, by epoch: each epoch in a fresh order; its last batch may be smaller."""
    size = options.batch_size
    orders = [rng.permutation(rows) for _ in range(math.ceil(options.count_passes(rows)))]
    epochs = [[order[start : start + size] for start in range(0, rows, size)] for order in orders]
    if options.steps is not None:
        epochs[-1] = epochs[-1][: options.steps - sum(map(len, epochs[:-1]))]
    return epochs


def _step_gradients(fitting: Fitting, batch: np.ndarray) -> torch.Tensor:
    """Accumulate the gradients of a batch's mean loss, in as many passes as it needs; returns that loss (), in nats."""
    examples = [fitting.examples[i] for i in batch]
    each = []
    for part in _split_passes(fitting, examples):
        loss = fitting.loss(part).sum() / len(examples)
        loss.backward()
        each.append(loss.detach().double())
    return torch.stack(each).sum()


def _split_passes(fitting: Fitting, examples: Sequence[FitExample]) -> list[list[FitExample]]:
    """Examples, in order, in passes of as many tokens as one may have."""
    lengths = [len(example.prompt) + len(example.other) + fitting.branch_tokens for example in examples]
    groups = group_by_tokens(lengths, fitting.options.tokens_per_pass)
    return [[examples[i] for i in group] for group in groups]
