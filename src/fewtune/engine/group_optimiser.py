"""AdamW over the parameter groups of a fit: one step of the training loop.

Owns when each group trains, its rate, clipping, where moments lie, and what of them a fit that goes on needs.
Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fewtune.engine.fitting import Fitting
from fewtune.engine.pages import allocate
from fewtune.engine.sparse_embeddings import RowOptimiser
from fewtune.engine.splitting import clip_gradients, is_split
from fewtune.records import ParameterGroupNotes


class GroupOptimiser:
    """AdamW over the parameter groups: when each starts to train, its rate, and clipping."""

    def __init__(self, fitting: Fitting) -> None:
        self._groups, self._clip_norm = fitting.groups, fitting.optimisation.clip_norm
        self._is_split = is_split()
        self._is_fused = fitting.options.fused_optimiser and not self._is_split
        # One tensor at a time where some are split among processes and some are not.
        self._adam = torch.optim.AdamW(
            [{"params": list(g.parameters)} for g in fitting.groups],
            weight_decay=fitting.optimisation.weight_decay,
            fused=self._is_fused,
            foreach=False if self._is_split else None,
        )
        self._rows = RowOptimiser(self._adam)
        self._rates: list[list[float]] = [[] for _ in fitting.groups]
        """Each group's rate at the first step of each epoch."""

    def unfreeze(self, epoch: int) -> None:
        """Let the groups train whose 0-based epoch has come, and no others."""
        for group in self._groups:
            for parameter in group.parameters:
                parameter.requires_grad_(epoch >= group.starts_at_epoch)

    def set_rates(self, epoch: int, factor: float) -> None:
        """Set each group's rate for the next step to this share of its peak; 0.0 while it is frozen."""
        for group, settings, seen in zip(self._groups, self._adam.param_groups, self._rates, strict=True):
            settings["lr"] = group.learning_rate * factor if epoch >= group.starts_at_epoch else 0.0
            if len(seen) == epoch:
                seen.append(settings["lr"])

    def step(self) -> None:
        """Step by the gradients there are, clipped, and clear them."""
        self._rows.gather()
        stepped = [p for settings in self._adam.param_groups for p in settings["params"] if p.grad is not None]
        if self._is_split:
            clip_gradients(stepped, self._clip_norm)
        else:
            self._clip(stepped)
            self._make_room()
        self._adam.step()
        if self._is_fused:
            torch.autograd.graph.increment_version(stepped)  # which AdamW in one call leaves out
        self._rows.put_back()
        self._adam.zero_grad(set_to_none=True)

    def _clip(self, parameters: list[torch.nn.Parameter]) -> None:
        """Scale gradients to a norm of at most `clip_norm` over all; AdamW in one call does so as it reads them."""
        if not self._is_fused:
            torch.nn.utils.clip_grad_norm_(parameters, self._clip_norm)
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self._adam.grad_scale = ((norm + 1e-6) / self._clip_norm).clamp(min=1.0)  # type: ignore[attr-defined]

    def _make_room(self) -> None:
        """Put the moments of parameters that are stepped for the first time into pages of their own."""
        new = [
            p
            for settings in self._adam.param_groups
            for p in settings["params"]
            if p.grad is not None and p not in self._adam.state
        ]
        if not new:
            return
        twice = [p for p in new for _ in range(2)]
        moments = allocate([p.shape for p in twice], [p.dtype for p in twice], new[0].device)
        for p, first, second in zip(new, moments[::2], moments[1::2], strict=True):
            step = torch.zeros((), dtype=torch.float32, device=p.device if self._adam.defaults["fused"] else None)
            self._adam.state[p] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def describe_groups(self) -> list[ParameterGroupNotes]:
        """Each group for the record, its rates among it."""
        return [
            ParameterGroupNotes(
                name=g.name,
                tensors=len(g.parameters),
                parameters=sum(p.numel() for p in g.parameters),
                peak_learning_rate=g.learning_rate,
                starts_at_epoch=g.starts_at_epoch,
                rates=[float(f"{rate:.6g}") for rate in seen],
            )
            for g, seen in zip(self._groups, self._rates, strict=True)
        ]

    def tell(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Moments, rates, and rows that something stands for, for `recall`."""
        tensors: dict[str, torch.Tensor] = {}
        stand_ins: list[list[int]] = []
        for number, settings in enumerate(self._adam.param_groups):
            places = {id(p): place for place, p in enumerate(settings["params"])}
            for weight, rows, values in self._rows.list_stand_ins():
                if id(weight) in places:
                    tensors[f"rows.{len(stand_ins)}"] = rows
                    stand_ins.append([number, places[id(weight)], places[id(values)]])
            for p, place in zip(settings["params"], places.values(), strict=True):
                for name, moment in self._adam.state.get(p, {}).items():
                    tensors[f"moment.{number}.{place}.{name}"] = moment
        return tensors, {"rates": self._rates, "stand_ins": stand_ins}

    def recall(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Stand where another stood, whose weights the parameters already are."""
        self._rates = [list(rates) for rates in values["rates"]]
        stand_ins = values["stand_ins"]
        for each in sorted(range(len(stand_ins)), key=lambda each: stand_ins[each][2]):
            number, weight, _ = stand_ins[each]
            parameters = self._adam.param_groups[number]["params"]
            self._rows.stand_in(parameters[weight], tensors[f"rows.{each}"].to(parameters[weight].device), parameters)
        for name, tensor in tensors.items():
            if name.startswith("moment."):
                _, number, place, what = name.split(".")
                p = self._adam.param_groups[int(number)]["params"][int(place)]
                here = "cpu" if what == "step" and not self._adam.defaults["fused"] else p.device
                self._adam.state[p][what] = tensor.to(here)
