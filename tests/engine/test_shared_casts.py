"""Layers that read the same states share one cast, and put out what autocast alone gives."""

from __future__ import annotations

import torch
from torch import nn

from fewtune.engine.layers import find_plain_linear
from fewtune.engine.shared_casts import share_casts

BF16 = torch.bfloat16


def test_outputs_equal_those_of_autocast_and_each_states_are_cast_once() -> None:
    torch.manual_seed(0)
    network = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 4)])
    one, other = torch.randn(5, 8), torch.randn(5, 8)
    read: list[torch.Tensor] = []
    with torch.autocast("cpu", BF16):
        alone = [network[0](one), network[1](one), network[2](other)]
        with share_casts(find_plain_linear(network), BF16):
            hooks = [layer.register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0])) for layer in network]
            shared = [network[0](one), network[1](one), network[2](other)]
            for hook in hooks:
                hook.remove()
    for given, expected in zip(shared, alone, strict=True):
        assert torch.equal(given, expected)
    assert read[0] is read[1] is not read[2]
    assert [x.dtype for x in read] == [BF16] * 3


def test_gradients_reach_the_states_in_float32() -> None:
    torch.manual_seed(0)
    first, second, states = nn.Linear(8, 4), nn.Linear(8, 4), torch.randn(5, 8, requires_grad=True)

    def gradient() -> torch.Tensor:
        (found,) = torch.autograd.grad((first(states) + second(states)).float().square().sum(), states)
        return found

    exact = gradient()
    with torch.autocast("cpu", BF16), share_casts([first, second], BF16):
        near = gradient()
    assert near.dtype == torch.float32
    assert (near - exact).norm() < 0.02 * exact.norm()


def test_nothing_is_left_behind() -> None:
    layer = nn.Linear(8, 4)
    with share_casts([layer], BF16):
        pass
    assert layer(torch.randn(2, 8)).dtype == torch.float32
