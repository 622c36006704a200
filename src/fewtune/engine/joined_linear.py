"""Runs linear layers with the same input as one matrix product forward and few backward, adapters included.

Owns that arithmetic, which layers it is right for, and their working copies: weights side by side in the type that
products run in, written again only once they have changed. Parameters stay where they are, and are saved as they were.
Source of adapters: Hu et al. 2021, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from fewtune.engine.low_rank import is_plain
from fewtune.models.adapters import LoraLinear

Gradients = tuple[Tensor | None, ...]
"""One a parameter, in their order; None where none is asked."""


def _find_base(layer: Any) -> Any:
    return layer.get_base_layer() if isinstance(layer, LoraLinear) else layer


def can_join(layers: Sequence[nn.Module], with_adapters: bool) -> bool:
    """Whether these are linear layers, or plain adapters on such, that have biases all or none."""
    bases = [_find_base(layer) for layer in layers]
    plain = all(not isinstance(layer, LoraLinear) or (with_adapters and is_plain(layer)) for layer in layers)
    if not plain or any(type(base) is not nn.Linear for base in bases):
        return False
    return len({base.bias is None for base in bases}) == 1


@dataclass(frozen=True)
class _Adapter:
    """An update, scale x B A, of some of the outputs, and where its inner states stand among all adapters'."""

    outputs: slice
    inner: slice
    down: nn.Parameter
    up: nn.Parameter
    scale: float


@dataclass(frozen=True)
class _Part:
    """Where a parameter stands in a working copy, and by what it is multiplied there."""

    source: Tensor
    place: tuple[slice, ...]
    scale: float = 1.0


class _WorkingCopy:
    """Parameters side by side in one tensor, zeros elsewhere, written anew where one has changed."""

    def __init__(self, parts: Sequence[_Part], shape: tuple[int, ...]) -> None:
        self._parts, self._shape = parts, shape
        self._made: Tensor | None = None
        self._turned: Tensor | None = None
        self._places: list[Tensor] = []
        self._seen: list[tuple[int, int]] = []

    def find(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The tensor of now in this type, and that tensor transposed."""
        seen = [(part.source.data_ptr(), part.source._version) for part in self._parts]
        first = self._parts[0].source
        if self._made is None or self._turned is None or self._made.dtype != dtype or self._made.device != first.device:
            self._made = torch.zeros(self._shape, dtype=dtype, device=first.device)
            self._turned = self._made.t() if len(self._shape) > 1 else self._made
            self._places = [self._made[part.place] for part in self._parts]
            self._seen = []
        if seen != self._seen:
            with torch.no_grad():
                for place, part in zip(self._places, self._parts, strict=True):
                    place.copy_(part.source)
                    if part.scale != 1.0:
                        place.mul_(part.scale)
            self._seen = seen
        return self._made, self._turned


@dataclass(frozen=True)
class Working:
    """What the products of one pass are made with, in one type; `_t` is transposed."""

    pieces: tuple[Tensor, ...]
    """Weights (outputs, inputs): one for all layers where they stand side by side, else one a layer."""
    pieces_t: tuple[Tensor, ...]
    bias: Tensor | None
    down: Tensor | None
    down_t: Tensor | None
    up: Tensor | None
    up_t: Tensor | None


class JoinedLinear:
    """Layers that read the same states, as one of all their outputs in turn; made of what `can_join` allows."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        bases = [_find_base(layer) for layer in layers]
        self._weights: list[nn.Parameter] = [base.weight for base in bases]
        self._biases: list[nn.Parameter] = [base.bias for base in bases if base.bias is not None]
        ends = list(accumulate(len(weight) for weight in self._weights))
        self._outputs = [slice(end - len(weight), end) for end, weight in zip(ends, self._weights, strict=True)]
        self.width = ends[-1]
        """Outputs of all layers."""
        inputs = self._weights[0].shape[1]
        self._adapters: list[_Adapter] = []
        inner = 0
        for layer, outputs in zip(layers, self._outputs, strict=True):
            if isinstance(layer, LoraLinear):
                name = layer.active_adapters[0]
                down: Any = layer.lora_A[name].weight
                up: Any = layer.lora_B[name].weight
                place = slice(inner, inner + len(down))
                self._adapters.append(_Adapter(outputs, place, down, up, layer.scaling[name]))
                inner += len(down)
        self.parameters: tuple[nn.Parameter, ...] = (
            *self._weights,
            *self._biases,
            *(adapter.down for adapter in self._adapters),
            *(adapter.up for adapter in self._adapters),
        )
        parts = [_Part(weight, (rows,)) for weight, rows in zip(self._weights, self._outputs, strict=True)]
        self._weight = _WorkingCopy(parts, (self.width, inputs))
        parts = [_Part(bias, (rows,)) for bias, rows in zip(self._biases, self._outputs, strict=False)]
        self._bias = _WorkingCopy(parts, (self.width,)) if parts else None
        parts = [_Part(adapter.down, (adapter.inner,)) for adapter in self._adapters]
        self._down = _WorkingCopy(parts, (inner, inputs)) if parts else None
        parts = [_Part(adapter.up, (adapter.outputs, adapter.inner), adapter.scale) for adapter in self._adapters]
        self._up = _WorkingCopy(parts, (self.width, inner)) if parts else None
        self._own: tuple[tuple[int, ...], tuple[Tensor, ...], tuple[Tensor, ...]] | None = None

    def prepare(self, dtype: torch.dtype) -> Working:
        """What a pass multiplies with, from the parameters as they are now."""
        pieces, pieces_t = self._find_pieces(dtype)
        bias = self._bias.find(dtype)[0] if self._bias is not None else None
        down, down_t = self._down.find(dtype) if self._down is not None else (None, None)
        up, up_t = self._up.find(dtype) if self._up is not None else (None, None)
        return Working(pieces, pieces_t, bias, down, down_t, up, up_t)

    def _find_pieces(self, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if any(weight.dtype != dtype for weight in self._weights):
            joined, turned = self._weight.find(dtype)
            return (joined,), (turned,)
        lying = tuple(weight.data_ptr() for weight in self._weights)
        if self._own is None or self._own[0] != lying:
            found = _view_as_one(self._weights)
            pieces = tuple(weight.detach() for weight in self._weights) if found is None else (found,)
            self._own = lying, pieces, tuple(piece.t() for piece in pieces)
        return self._own[1], self._own[2]

    def run(self, states: Tensor, working: Working) -> tuple[Tensor, Tensor | None]:
        """Outputs (tokens, all outputs) of states (tokens, inputs), and what the adapters' first halves make of them.

        Call it where no gradients are recorded: `run_back` gives them.
        """
        if len(working.pieces) == 1:
            turned = working.pieces_t[0]
            out = torch.mm(states, turned) if working.bias is None else torch.addmm(working.bias, states, turned)
        else:
            out = states.new_empty(len(states), self.width)
            for turned, outputs in zip(working.pieces_t, self._outputs, strict=True):
                torch.mm(states, turned, out=out[:, outputs])
            if working.bias is not None:
                out += working.bias
        if working.down_t is None or working.up_t is None:
            return out, None
        inner = torch.mm(states, working.down_t)
        return out.addmm_(inner, working.up_t), inner

    def run_back(
        self, gradient: Tensor, states: Tensor, inner: Tensor | None, working: Working, needed: Sequence[bool]
    ) -> tuple[Tensor | None, Gradients]:
        """Gradients of the states, in their type, and of each parameter, in float32.

        `gradient` is that of the outputs, in the states' type; `needed` says which are asked, the states' first.
        Where no parameter's is, `states` and `inner` are not read.
        """
        wants, of_parameters = needed[0], needed[1:]
        of_states = self._run_states_back(gradient, working) if wants else None
        weights, biases = len(self._weights), len(self._biases)
        found: list[Tensor | None] = [None] * len(self.parameters)
        if any(of_parameters[:weights]):
            found[:weights] = self._find_weight_gradients(gradient, states, working)
        if any(of_parameters[weights : weights + biases]):
            whole = gradient.sum(0, dtype=torch.float32)
            found[weights : weights + biases] = [whole[outputs] for outputs in self._outputs]
        if working.up is not None and working.down is not None:
            of_inner = torch.mm(gradient, working.up)
            if of_states is not None:
                of_states.addmm_(of_inner, working.down)
            if inner is not None and any(of_parameters[weights + biases :]):
                found[weights + biases :] = self._find_adapter_gradients(gradient, of_inner, states, inner)
        return of_states, tuple(each if asked else None for each, asked in zip(found, of_parameters, strict=True))

    def _run_states_back(self, gradient: Tensor, working: Working) -> Tensor:
        if len(working.pieces) == 1:
            return torch.mm(gradient, working.pieces[0])
        first, *others = zip(working.pieces, self._outputs, strict=True)
        of_states = torch.mm(gradient[:, first[1]], first[0])
        for piece, outputs in others:
            of_states.addmm_(gradient[:, outputs], piece)
        return of_states

    def _find_weight_gradients(self, gradient: Tensor, states: Tensor, working: Working) -> list[Tensor | None]:
        if len(working.pieces) == 1:
            whole = torch.mm(gradient.t(), states).float()
            return list(whole.split([len(weight) for weight in self._weights]))
        return [torch.mm(gradient[:, outputs].t(), states).float() for outputs in self._outputs]

    def _find_adapter_gradients(
        self, gradient: Tensor, of_inner: Tensor, states: Tensor, inner: Tensor
    ) -> list[Tensor | None]:
        of_down = torch.mm(of_inner.t(), states).float()
        # This way round: the products are the same and this shape is twice as fast on a processor.
        of_up = torch.mm(inner.t(), gradient)
        ups: list[Tensor | None] = []
        for adapter in self._adapters:
            part = of_up[adapter.inner, adapter.outputs].t()
            scaled = torch.empty(part.shape, dtype=torch.float32, device=part.device).copy_(part)
            ups.append(scaled if adapter.scale == 1.0 else scaled.mul_(adapter.scale))
        return [*(of_down[adapter.inner] for adapter in self._adapters), *ups]


def _view_as_one(weights: Sequence[Tensor]) -> Tensor | None:
    """Weights (outputs, inputs) that lie one behind another in memory as one of all outputs; None where they do not."""
    first = weights[0].detach()
    at, storage = first.data_ptr(), first.untyped_storage().data_ptr()
    for weight in weights:
        if weight.data_ptr() != at or not weight.is_contiguous() or weight.untyped_storage().data_ptr() != storage:
            return None
        at += weight.numel() * weight.element_size()
    return first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride())
