"""Sparse gradients of token embeddings: one step touches some hundred of tens of thousands of rows.

Owns these gradients, and the parameter that stands for the touched rows in the optimiser. Without weight decay AdamW
leaves untouched rows as they are, so that the fit is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fewtune.models.architectures import architecture_of


@contextmanager
def gradients_by_row(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, token embeddings of these networks have sparse gradients."""
    networks = [m for m in modules if isinstance(m, PreTrainedModel)]
    embeddings = [architecture_of(network).find_embeddings(network) for network in networks]
    plain = [e for e in embeddings if type(e) is nn.Embedding and not e.sparse]
    for embedding in plain:
        embedding.sparse = True
    try:
        yield
    finally:
        for embedding in plain:
            embedding.sparse = False


class RowOptimiser:
    """Lets an optimiser that knows only dense gradients step parameters that have sparse ones.

    Around `optimiser.step()`: call `gather` before it and before clipping, `put_back` after it.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._stand_ins: dict[nn.Parameter, tuple[Tensor, nn.Parameter]] = {}
        """Of each parameter the rows that have had gradients, in order, and their values as a parameter."""

    def gather(self) -> None:
        """Move sparse gradients to the parameter that stands for their rows, adding rows that it did not have."""
        for group in self._optimiser.param_groups:
            for weight in list(group["params"]):
                if weight.grad is None:
                    continue
                if not weight.grad.is_sparse:
                    self._take_whole(weight, group["params"])
                elif group["weight_decay"] or weight in self._optimiser.state:
                    weight.grad = weight.grad.to_dense()  # decay moves every row; so does what was dense before
                else:
                    self._gather_rows(weight, group["params"])

    @torch.no_grad()
    def put_back(self) -> None:
        """Copy the stepped rows back into their parameters."""
        for weight, (rows, values) in self._stand_ins.items():
            weight.index_copy_(0, rows, values)
            values.grad = None

    def list_stand_ins(self) -> list[tuple[nn.Parameter, Tensor, nn.Parameter]]:
        """Every parameter of which some rows are stepped, these rows, and what stands for them."""
        return [(weight, rows, values) for weight, (rows, values) in self._stand_ins.items()]

    def stand_in(self, weight: nn.Parameter, rows: Tensor, parameters: list[nn.Parameter]) -> None:
        """Let a parameter stand for these rows of a weight, as if they had had gradients, behind the others."""
        self._stand_ins[weight] = rows, nn.Parameter(weight.detach()[rows])
        parameters.append(self._stand_ins[weight][1])

    @torch.no_grad()
    def _gather_rows(self, weight: nn.Parameter, parameters: list[nn.Parameter]) -> None:
        assert weight.grad is not None
        gradient, weight.grad = weight.grad.coalesce(), None
        if weight not in self._stand_ins:
            none = gradient.indices()[0, :0]
            self._stand_ins[weight] = none, nn.Parameter(weight[none])
            parameters.append(self._stand_ins[weight][1])
        known = self._stand_ins[weight][0]
        new = gradient.indices()[0][~torch.isin(gradient.indices()[0], known)]
        if len(new):
            self._take_in(weight, new, parameters)
        rows, values = self._stand_ins[weight]
        order = rows.argsort()
        places = order[torch.searchsorted(rows[order], gradient.indices()[0])]
        values.grad = torch.zeros_like(values).index_copy_(0, places, gradient.values())

    @torch.no_grad()
    def _take_whole(self, weight: nn.Parameter, parameters: list[nn.Parameter]) -> None:
        """From now on step all rows: a dense gradient followed sparse ones (a loss over the vocabulary)."""
        if weight not in self._stand_ins:
            return
        rows, values = self._stand_ins.pop(weight)
        parameters[:] = [parameter for parameter in parameters if parameter is not values]
        self._optimiser.state[weight] = {
            name: torch.zeros_like(weight).index_copy_(0, rows, kept) if kept.shape == values.shape else kept
            for name, kept in self._optimiser.state.pop(values, {}).items()
        }

    def _take_in(self, weight: nn.Parameter, new: Tensor, parameters: list[nn.Parameter]) -> None:
        """Append rows to those there are, with an optimiser state of zero."""
        rows, old = self._stand_ins[weight]
        values = nn.Parameter(torch.cat([old, weight[new]]))
        state = self._optimiser.state.pop(old, {})
        for name, kept in state.items():
            if isinstance(kept, Tensor) and kept.shape == old.shape:
                state[name] = torch.cat([kept, kept.new_zeros(len(new), *kept.shape[1:])])
        if state:
            self._optimiser.state[values] = state
        place = next(i for i, parameter in enumerate(parameters) if parameter is old)
        parameters[place] = values
        self._stand_ins[weight] = torch.cat([rows, new]), values
