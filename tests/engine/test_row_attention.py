"""Attention of joined queries, keys and values is that of Llama's own operations, forward and backward."""

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from fewtune.engine.attention import Arithmetic, attend_rows
from fewtune.engine.row_attention import Heads, Rotation, RowAttention, RowPass
from fewtune.engine.side_by_side import lay_out


def attend_plainly(joined: Tensor, cos: Tensor, sin: Tensor, lengths: tuple[int, ...], heads: Heads) -> Tensor:
    parts = [heads.all * heads.size, heads.key * heads.size, heads.key * heads.size]
    q, k, v = (x.unflatten(1, (-1, heads.size)).transpose(0, 1)[None] for x in joined.split(parts, 1))
    q, k = apply_rotary_pos_emb(q, k, cos[None], sin[None])
    return attend_rows(q, k, v, None, lengths, Arithmetic(heads.size**-0.5))[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize("lengths", [(5, 5, 5), (9, 2, 4, 3), (7,)])
@pytest.mark.parametrize("heads", [Heads(4, 2, 8), Heads(2, 2, 4), Heads(3, 1, 6)])
def test_it_is_plain_attention(lengths: tuple[int, ...], heads: Heads) -> None:
    torch.manual_seed(0)
    tokens = sum(lengths)
    joined = torch.randn(tokens, heads.width, requires_grad=True)
    angles = torch.cat([torch.arange(length) for length in lengths])[:, None] / torch.arange(1, heads.size // 2 + 1)
    cos, sin = (x.repeat(1, 2) for x in (angles.cos(), angles.sin()))
    plain = attend_plainly(joined, cos, sin, lengths, heads)
    gradient = torch.randn_like(plain)
    (expected,) = torch.autograd.grad(plain, joined, gradient)
    layout = lay_out(lengths, 1.5, None, joined.device)
    rows = RowPass.of(layout, Rotation.of(cos, sin), heads.size**-0.5)
    found = RowAttention.apply(joined, rows, heads)
    assert torch.allclose(found, plain, atol=1e-6)
    assert torch.allclose(torch.autograd.grad(found, joined, gradient)[0], expected, atol=1e-5)
