"""A Llama block in few large operations, with a backward pass of its own.

Owns that arithmetic, attention left out, and which blocks it is right for. Parameters stay the network's. Sources:
Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467 (norm), Shazeer 2020, https://arxiv.org/abs/2002.05202 (gate).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

from fewtune.engine.joined_linear import JoinedLinear, can_join
from fewtune.engine.row_attention import Heads

SILU = (nn.SiLU, SiLUActivation)


def can_fuse(block: nn.Module, with_adapters: bool) -> bool:
    """Whether a block is Llama's own, of plain linear layers or plain adapters on such, without dropout or hooks."""
    if type(block) is not LlamaDecoderLayer or type(block.self_attn) is not LlamaAttention:
        return False
    attention, mlp = block.self_attn, block.mlp
    if type(mlp) is not LlamaMLP or not isinstance(mlp.act_fn, SILU) or attention.attention_dropout:
        return False
    if any(type(norm) is not LlamaRMSNorm for norm in (block.input_layernorm, block.post_attention_layernorm)):
        return False
    if any(_is_watched(module) for module in block.modules()):
        return False
    joined = (
        [attention.q_proj, attention.k_proj, attention.v_proj],
        [attention.o_proj],
        [mlp.gate_proj, mlp.up_proj],
        [mlp.down_proj],
    )
    return all(can_join(layers, with_adapters) for layers in joined)


def _is_watched(module: nn.Module) -> bool:
    """Whether something else than its class says what a module does."""
    hooks: Any = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module)


class LlamaBlock:
    """One block; made of what `can_fuse` allows."""

    def __init__(self, block: LlamaDecoderLayer) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.layer = int(attention.layer_idx)
        size = attention.head_dim
        self.heads = Heads(attention.q_proj.out_features // size, attention.k_proj.out_features // size, size)
        self.scale = float(attention.scaling)
        self._first_norm, self._second_norm = block.input_layernorm, block.post_attention_layernorm
        self._attention_in = JoinedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self._attention_out = JoinedLinear([attention.o_proj])
        self._gate_up = JoinedLinear([mlp.gate_proj, mlp.up_proj])
        self._down = JoinedLinear([mlp.down_proj])

    def run(
        self, states: Tensor, attend: Callable[[Tensor], Tensor], dtype: torch.dtype, rows: Tensor | None = None
    ) -> Tensor:
        """Output (tokens, width) of states (tokens, width), both float32; products run in `dtype`.

        `attend` makes (tokens, heads x size) of joined queries, keys and values (tokens, `Heads.width`). With `rows`,
        the tokens of these indices alone go on after attention, and come out.
        """
        joined, states = _project_normed(states, self._first_norm, self._attention_in, dtype)
        attended = attend(joined)
        if rows is not None:
            attended, states = attended.index_select(0, rows), states.index_select(0, rows)
        states = _add_projected(states, attended, self._attention_out, dtype)
        joined, states = _project_normed(states, self._second_norm, self._gate_up, dtype)
        return _add_projected(states, _Gate.apply(joined), self._down, dtype)  # type: ignore[no-untyped-call]


def _project_normed(
    states: Tensor, norm: LlamaRMSNorm, layers: JoinedLinear, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What linear layers make of normed states, and the states."""
    how = layers, layers.prepare(dtype), norm.variance_epsilon, dtype
    out: tuple[Tensor, Tensor] = _ProjectNormed.apply(states, norm.weight, how, *layers.parameters)  # type: ignore[no-untyped-call]
    return out


def _add_projected(states: Tensor, projected: Tensor, layers: JoinedLinear, dtype: torch.dtype) -> Tensor:
    """States, and what linear layers make of others."""
    how = layers, layers.prepare(dtype)
    out: Tensor = _AddProjected.apply(states, projected, how, *layers.parameters)  # type: ignore[no-untyped-call]
    return out


class _ProjectNormed(torch.autograd.Function):
    """Outputs of joined layers, in the type of the products, of normed states, float32; and the states as they are.

    Whoever reads the states afterwards takes them from here, so that their gradients are added up in one operation.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, norm: Tensor, how: Any, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        layers, working, epsilon, dtype = how
        width = states.shape[1]
        length = torch.linalg.vector_norm(states, dim=1, keepdim=True)
        inverse = length.square_().div_(width).add_(epsilon).rsqrt_()
        normed = states * inverse
        rows = torch.mul(normed, norm, out=states.new_empty(states.shape, dtype=dtype))
        out, inner = layers.run(rows, working)
        ctx.save_for_backward(states, inverse, norm, rows if any(ctx.needs_input_grad[3:]) else None, inner)
        ctx.how = how
        return out, states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor, of_states: Tensor) -> tuple[Tensor | None, ...]:
        states, inverse, norm, rows, inner = ctx.saved_tensors
        layers, working, _, _ = ctx.how
        below = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        needed = (below, *ctx.needs_input_grad[3:])
        of_rows, of_parameters = layers.run_back(of_out, rows, inner, working, needed)
        of_norm = None
        if below:
            normed = states * inverse
            both = normed * of_rows
            if ctx.needs_input_grad[1]:
                of_norm = both.sum(0)
            if ctx.needs_input_grad[0]:
                # d x = inverse (w d - normed (w d . normed) / width)
                shared = torch.mv(both, norm).div_(states.shape[1]).neg_()[:, None]
                of_normed = torch.mul(of_rows, norm, out=both).addcmul_(normed, shared)
                of_states = torch.addcmul(of_states, of_normed, inverse)
        return of_states if ctx.needs_input_grad[0] else None, of_norm, None, *of_parameters


class _AddProjected(torch.autograd.Function):
    """States, float32, and the outputs of joined layers added."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, projected: Tensor, how: Any, *parameters: Tensor) -> Tensor:
        layers, working = how
        out, inner = layers.run(projected, working)
        ctx.save_for_backward(projected if any(ctx.needs_input_grad[3:]) else None, inner)
        ctx.how, ctx.dtype = how, projected.dtype
        return torch.add(states, out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        projected, inner = ctx.saved_tensors
        layers, working = ctx.how
        needed = ctx.needs_input_grad[1], *ctx.needs_input_grad[3:]
        of_projected, of_parameters = layers.run_back(gradient.to(ctx.dtype), projected, inner, working, needed)
        return gradient, of_projected, None, *of_parameters


class _Gate(torch.autograd.Function):
    """SiLU of the first half of the features, times the second half."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor) -> Tensor:
        ctx.save_for_backward(joined)
        gate, up = joined.chunk(2, 1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (joined,) = ctx.saved_tensors
        gate, up = joined.chunk(2, 1)
        of_joined = torch.empty_like(joined)
        of_gate, of_up = of_joined.chunk(2, 1)
        torch.mul(gradient, F.silu(gate), out=of_up)
        torch.ops.aten.silu_backward.grad_input(gradient * up, gate, grad_input=of_gate)
        return of_joined
