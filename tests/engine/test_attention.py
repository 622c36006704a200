"""Attention over packed rows equals scaled-dot-product attention over each row alone, gradients too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor

from fewtune.engine import attention
from fewtune.engine.attention import Arithmetic, attend_rows
from fewtune.engine.options import DEFAULTS
from fewtune.engine.side_by_side import lay_out

HEADS, KEY_HEADS, SIZE = 6, 2, 8
TURNED = " in another order"
WRITTEN_OUT = DEFAULTS.longest_written_out
LENGTHS = {
    "alike": (5, 7, 6, 7),
    "one": (9,),
    "far apart": (3, 90, 1, 17, 2),
    "beyond what is written out": (WRITTEN_OUT + 40, 4, WRITTEN_OUT + 1, WRITTEN_OUT),
    "more than read a prefix at once": (40,) * 20,
    "many of two lengths": (7,) * 20 + (5,) * 16,
    f"many of two lengths{TURNED}": (5,) * 16 + (7,) * 20,
}


def attend_alone(
    q: Tensor, k: Tensor, v: Tensor, before: tuple[Tensor, Tensor] | None, lengths: tuple[int, ...]
) -> Tensor:
    """Row by row, behind the prefix, by PyTorch's own attention."""
    outputs = []
    for query, key, value in zip(q.split(lengths, 2), k.split(lengths, 2), v.split(lengths, 2), strict=True):
        if before is not None:
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
        outputs.append(F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True))
    return torch.cat(outputs, 2)


@pytest.mark.parametrize("most_scores", [attention.MOST_SCORES, 1000], ids=["", "of many scores none is held"])
@pytest.mark.parametrize("prefix_tokens", [None, 1, 11])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_rows_read_themselves_and_the_prefix_alone(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], prefix_tokens: int | None, most_scores: int
) -> None:
    monkeypatch.setattr(attention, "MOST_SCORES", most_scores)
    generator = torch.Generator().manual_seed(len(lengths))

    def draw(heads: int, tokens: int) -> Tensor:
        return torch.randn(1, heads, tokens, SIZE, generator=generator).requires_grad_(True)

    q, k, v = draw(HEADS, sum(lengths)), draw(KEY_HEADS, sum(lengths)), draw(KEY_HEADS, sum(lengths))
    before = None if prefix_tokens is None else (draw(KEY_HEADS, prefix_tokens), draw(KEY_HEADS, prefix_tokens))
    inputs = [q, k, v, *(before or ())]
    together, alone = attend_rows(q, k, v, before, lengths, Arithmetic(0.3)), attend_alone(q, k, v, before, lengths)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    weights = torch.randn(alone.shape, generator=generator)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), inputs) for out in (together, alone))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_long_row_behind_a_prefix_holds_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 tokens: 6 x 2000 x 2011 scores would be 97 MB, and the masks of such rows stay with no one."""
    monkeypatch.setattr(attention, "MOST_SCORES", 1 << 20)
    monkeypatch.setattr(attention, "attend_written_out", lambda *_: pytest.fail("its scores were written out"))
    attention.find_causal_mask.cache_clear()
    q, k, v = (torch.randn(1, heads, 2000, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    before = torch.randn(1, KEY_HEADS, 11, SIZE), torch.randn(1, KEY_HEADS, 11, SIZE)
    assert attend_rows(q, k, v, before, (2000,), Arithmetic(0.3)).shape == q.shape
    assert attention.find_causal_mask.cache_info().currsize == 0


def test_rows_of_few_lengths_are_neither_padded_nor_moved_where_they_stand_in_order() -> None:
    device = torch.device("cpu")
    ordered, turned = (lay_out(LENGTHS[f"many of two lengths{order}"], 1.5, None, device) for order in ("", TURNED))
    assert ordered.groups == turned.groups == ((20, 7), (16, 5))
    assert (ordered.moves, turned.moves) == (False, True)
    assert lay_out((7, 5), 1.5, None, device).groups == ((2, 7),)


def test_a_softmax_without_gradients_is_no_less_exact_in_bfloat16() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 300, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    exact = attend_rows(q, k, v, None, (30,) * 10, Arithmetic(0.3))
    rounded = [x.bfloat16() for x in (q, k, v)]
    plain = attend_rows(rounded[0].clone().requires_grad_(True), *rounded[1:], None, (30,) * 10, Arithmetic(0.3))
    fast = attend_rows(*rounded, None, (30,) * 10, Arithmetic(0.3))
    assert fast.dtype == torch.bfloat16
    errors = [(out.float() - exact).abs().mean().item() for out in (fast, plain)]
    assert errors[0] <= errors[1] * 1.05


def test_dropped_weights_are_redrawn_from_the_global_generator() -> None:
    q, k, v = (torch.randn(1, heads, 12, SIZE) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    torch.manual_seed(3)
    half = Arithmetic(0.3, dropout=0.5)
    one, other = (attend_rows(q, k, v, None, (7, 5), half) for _ in range(2))
    torch.manual_seed(3)
    assert not torch.equal(one, other) and torch.equal(one, attend_rows(q, k, v, None, (7, 5), half))
