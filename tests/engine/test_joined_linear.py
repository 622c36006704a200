"""Linear layers run as one give what each gives, forward and backward, as their parameters are now."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from fewtune.engine.joined_linear import JoinedLinear, can_join


def make_layers(adapted: tuple[str, ...], bias: bool) -> nn.ModuleDict:
    torch.manual_seed(0)
    layers = nn.ModuleDict({"q": nn.Linear(8, 12, bias), "k": nn.Linear(8, 4, bias), "v": nn.Linear(8, 4, bias)})
    if adapted:
        config = LoraConfig(r=3, lora_alpha=5, target_modules=list(adapted), init_lora_weights=False)
        inject_adapter_in_model(config, layers)
    return layers


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("adapted", [(), ("q", "v"), ("q", "k", "v")])
def test_states_and_gradients_are_those_of_the_layers(adapted: tuple[str, ...], bias: bool) -> None:
    layers = make_layers(adapted, bias)
    joined = JoinedLinear(list(layers.values()))
    states = torch.randn(6, 8, requires_grad=True)
    plain = torch.cat([layer(states) for layer in layers.values()], 1)
    gradient = torch.randn_like(plain)
    parameters = joined.parameters
    asked = [parameter for parameter in parameters if parameter.requires_grad]
    of_states, *of_parameters = torch.autograd.grad(plain, [states, *asked], gradient)
    with torch.no_grad():
        working = joined.prepare(torch.float32)
        out, inner = joined.run(states, working)
        needed = [True, *(parameter.requires_grad for parameter in parameters)]
        found_states, found = joined.run_back(gradient, states, inner, working, needed)
    assert torch.allclose(out, plain, atol=1e-6)
    assert found_states is not None
    assert torch.allclose(found_states, of_states, atol=1e-6)
    given = [each for each in found if each is not None]
    assert len(given) == len(of_parameters)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(given, of_parameters, strict=True))


def test_a_changed_parameter_is_seen_and_an_unchanged_one_is_not_copied_again() -> None:
    layers = make_layers((), bias=True)
    joined = JoinedLinear(list(layers.values()))
    first = joined.prepare(torch.bfloat16).pieces[0]
    first[0, 0] = 7.0  # a mark that a second copy would wipe out
    assert joined.prepare(torch.bfloat16).pieces[0][0, 0] == 7.0
    with torch.no_grad():
        layers["k"].weight.add_(1.0)
    again = joined.prepare(torch.bfloat16).pieces[0]
    assert torch.equal(again, torch.cat([layer.weight for layer in layers.values()]).bfloat16())


def test_weights_in_the_type_of_the_products_are_not_copied() -> None:
    layers = make_layers((), bias=False)
    pieces = JoinedLinear(list(layers.values())).prepare(torch.float32).pieces
    assert [piece.data_ptr() for piece in pieces] == [layer.weight.data_ptr() for layer in layers.values()]
    storage = torch.randn(20, 8)
    for layer, part in zip(layers.values(), storage.split([12, 4, 4]), strict=True):
        layer.weight.data = part
    (whole,) = JoinedLinear(list(layers.values())).prepare(torch.float32).pieces
    assert whole.data_ptr() == storage.data_ptr()
    assert torch.equal(whole, storage)


def test_only_plain_layers_join() -> None:
    plain = nn.Linear(8, 4)
    assert can_join([plain, nn.Linear(8, 6)], with_adapters=True)
    assert not can_join([plain, nn.Linear(8, 6, bias=False)], with_adapters=True)
    assert not can_join([plain, SimpleNamespace()], with_adapters=True)  # type: ignore[list-item]
    adapted = list(make_layers(("q",), bias=True).values())
    assert can_join(adapted, with_adapters=True)
    assert not can_join(adapted, with_adapters=False)
