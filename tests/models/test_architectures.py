"""What every architecture of the table says of its networks holds for real ones, tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BertConfig, PretrainedConfig, T5Config

import tiny_models
from fewtune.errors import ModelError
from fewtune.models.architectures import ARCHITECTURES, find_architecture
from fewtune.models.architectures.base import Architecture
from fewtune.models.tokenizers import read_tokenizer

FAMILIES = {"decoders": ("llama", "gpt2", "opt", "opt-350m-shaped")}
"""The tiny models of each family."""
CASES = [(family, name) for family, names in FAMILIES.items() for name in names]
TOKENS = [5, 9, 200, 31, 7]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}, {case[1]}")
def case(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> tuple[Architecture, Path]:
    family, name = request.param
    return ARCHITECTURES[family], model_folders[name]


def load(architecture: Architecture, folder: Path) -> Any:
    """The network with its own attention."""
    return architecture.choose_class().from_pretrained(folder, dtype=torch.float32).eval()


def test_every_architecture_is_tried() -> None:
    assert set(FAMILIES) == set(ARCHITECTURES)
    assert {name for names in FAMILIES.values() for name in names} == set(tiny_models.CONFIGS)


def test_a_configuration_finds_its_family(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    config = AutoConfig.from_pretrained(folder)
    assert find_architecture(config) is architecture
    architecture.refuse_unsuited("it", config)


@torch.no_grad()
def test_body_and_head_make_the_networks_own_logits(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    network, tokens = load(architecture, folder), torch.tensor([TOKENS])
    states = architecture.find_body(network)(tokens, use_cache=False).last_hidden_state
    torch.testing.assert_close(architecture.find_head(network)(states), network(tokens).logits)


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
    network(torch.tensor([TOKENS]))
    assert ran == parts and len(parts) >= network.config.num_hidden_layers + 1


@torch.no_grad()
def test_attention_is_of_the_kind_that_is_said(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    network = load(architecture, folder)
    first, second = (network(torch.tensor([[*TOKENS, last]])).logits[0] for last in (11, 12))
    moved = [not torch.allclose(one, other, atol=1e-6) for one, other in zip(first, second, strict=True)]
    assert {"causal": [False] * 5 + [True]}[architecture.attention] == moved


def test_the_opening_is_what_the_tokenizer_itself_puts_before_a_text(case: tuple[Architecture, Path]) -> None:
    architecture, folder = case
    tokenizer = read_tokenizer(folder)
    alone = tokenizer("a pilot", add_special_tokens=False).input_ids
    assert [*architecture.find_opening(tokenizer), *alone] == tokenizer("a pilot").input_ids


@pytest.mark.parametrize(
    ("config", "told"), [(BertConfig(), "a masked language model"), (T5Config(), "an encoder with a decoder")]
)
def test_a_configuration_of_no_family_is_told(config: PretrainedConfig, told: str) -> None:
    with pytest.raises(ModelError, match=f"model 'it' is of type .*{told}"):
        find_architecture(config, "it")
