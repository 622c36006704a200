"""Adapter layers in few products equal PEFT's own, outputs and gradients, and leave what they do not fit alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft.tuners.lora import Linear

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.low_rank import find_plain_adapters, run_in_few_products
from fewtune.methods.trainable import LoraShape, train_lora


def adapt(model: LanguageModel, shape: LoraShape) -> tuple[torch.nn.Module, list[Linear]]:
    """A network with adapters that do something, and all its adapter layers."""
    made = train_lora(model, shape, 1e-3, np.random.default_rng(0))
    network, (group,) = made.network, made.groups
    with torch.no_grad():
        for parameter in group.parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return network, [module for module in network.modules() if isinstance(module, Linear)]


@pytest.mark.parametrize("shape", [LoraShape(4, 8.0), LoraShape(4, 8.0, rank_stabilised=True)])
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_outputs_and_gradients_equal_peft(model: LanguageModel, shape: LoraShape, wants_gradient: bool) -> None:
    network, layers = adapt(model, shape)
    assert find_plain_adapters(network) == layers != []
    for layer in layers:
        x = torch.randn(1, 7, layer.in_features, generator=torch.Generator().manual_seed(2))
        inputs = [x.requires_grad_(wants_gradient), layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        inputs = inputs if wants_gradient else inputs[1:]
        theirs = layer(x)
        with run_in_few_products([layer]):
            ours = layer(x)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        gradients = [torch.autograd.grad(out.square().sum(), inputs) for out in (ours, theirs)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)
    assert "forward" not in vars(layers[0])


def test_under_autocast_products_are_in_bfloat16_and_gradients_in_float32(models: dict[str, LanguageModel]) -> None:
    layer = adapt(models["llama"], LoraShape(4, 8.0))[1][0]
    layer.get_base_layer().to(torch.bfloat16)
    x = torch.randn(1, 7, layer.in_features, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = layer(x)
        with run_in_few_products([layer]):
            ours = layer(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)
    inputs = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    gradients = [torch.autograd.grad(out.float().square().sum(), inputs) for out in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("shape", [LoraShape(4, 8.0, dora=True), LoraShape(4, 8.0, dropout=0.1)])
def test_layers_that_do_more_are_left_to_peft(models: dict[str, LanguageModel], shape: LoraShape) -> None:
    network, layers = adapt(models["llama"], shape)
    assert layers and find_plain_adapters(network) == []


def test_switched_off_and_merged_adapters_are_left_to_peft(models: dict[str, LanguageModel]) -> None:
    network, layers = adapt(models["llama"], LoraShape(4, 8.0))
    layers[0].enable_adapters(False)
    merged = layers[1].get_base_layer().weight
    merged.data = merged.data.clone()  # merging writes into the matrix, which is the loaded model's
    layers[1].merge()
    assert find_plain_adapters(network) == layers[2:]
