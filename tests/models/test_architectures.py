"""What every architecture of the table says of its networks holds for real ones, tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig, T5Config, ViTConfig

import tiny_models
from fewtune.errors import ModelError
from fewtune.models.architectures import ARCHITECTURES, find_architecture
from fewtune.models.architectures.base import Architecture
from fewtune.models.configuration import read_config
from fewtune.models.tokenizers import read_tokenizer

FAMILIES = {
    "decoders": (*tiny_models.CONFIGS, *tiny_models.MORE_DECODERS),
    "encoders": tuple(tiny_models.ENCODERS),
}
"""The tiny models of each family."""
CASES = [(family, name) for family, names in FAMILIES.items() for name in names]
TOKENS = [5, 9, 200, 31, 7]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}, {case[1]}")
def case(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> tuple[Architecture, Path]:
    family, name = request.param
    return ARCHITECTURES[family], model_folders[name]


def load(architecture: Architecture, folder: Path) -> Any:
    """The network with its own attention."""
    config = read_config(folder)
    return architecture.choose_class(config).from_pretrained(folder, config=config, dtype=torch.float32).eval()


def test_every_architecture_is_tried() -> None:
    assert set(FAMILIES) == set(ARCHITECTURES)


def test_a_configuration_finds_its_family(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    config = read_config(folder)
    assert find_architecture(config) is architecture
    architecture.refuse_unsuited("it", config)


@torch.no_grad()
def test_body_and_head_make_the_networks_own_logits(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    network, tokens = load(architecture, folder), torch.tensor([TOKENS])
    before = network(tokens).logits if "label_words" in architecture.find_abilities(network.config) else None
    states = architecture.find_body(network)(tokens).last_hidden_state
    assert states.shape[-1] == architecture.find_width(network)
    head = architecture.find_head(network)
    assert (head is not None) == ("label_words" in architecture.find_abilities(network.config))
    if head is not None:
        torch.testing.assert_close(head(architecture.transform(network, states)), before)
        torch.testing.assert_close(network(tokens).logits, before)  # it is as it was


@torch.no_grad()
def test_blocks_run_in_the_order_given_between_embeddings_and_norm(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    network = load(architecture, folder)
    ran: list[torch.nn.Module] = []
    embeddings, norm = architecture.find_embeddings(network), architecture.find_final_norm(network)
    assert embeddings.weight.shape[0] == tiny_models.VOCABULARY
    parts = [embeddings, *architecture.find_blocks(network), *([norm] if norm is not None else [])]
    for part in parts:
        part.register_forward_hook(lambda module, inputs, output: ran.append(module))
    network(input_ids=torch.tensor([TOKENS]))
    assert ran == parts and len(parts) >= network.config.num_hidden_layers + 1


@torch.no_grad()
def test_attention_is_of_the_kind_that_is_said(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    network = load(architecture, folder)
    body = architecture.find_body(network)
    first, second = (body(torch.tensor([[*TOKENS, last]])).last_hidden_state[0] for last in (11, 12))
    moved = [not torch.allclose(one, other, atol=1e-6) for one, other in zip(first, second, strict=True)]
    assert {"causal": [False] * 5 + [True], "bidirectional": [True] * 6}[architecture.attention] == moved


def test_what_stands_around_a_text_is_what_the_tokenizer_itself_puts_there(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    tokenizer = read_tokenizer(folder)
    alone = tokenizer("a pilot", add_special_tokens=False).input_ids
    around = [*architecture.find_opening(tokenizer), *alone, *architecture.find_closing(tokenizer)]
    assert around == tokenizer("a pilot").input_ids


@pytest.mark.parametrize(
    ("config", "told"),
    [(ViTConfig(), "no language model, causal or masked"), (T5Config(), "an encoder with a decoder")],
)
def test_a_configuration_of_no_family_is_told(config: PretrainedConfig, told: str) -> None:
    with pytest.raises(ModelError, match=f"model 'it' is of type .*{told}"):
        find_architecture(config, "it")
