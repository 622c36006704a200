"""A decoder of a type that nobody tried is loaded where its packed rows give what it gives alone, and else refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
    DiffLlamaConfig,
    DogeConfig,
    JetMoeConfig,
    ModernBertDecoderConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from fewtune.engine import untried_types
from fewtune.engine.loading import load_model
from fewtune.errors import ModelError
from fewtune.models import Precision, find_model
from fewtune.models.architectures.decoders import TRIED
from tiny_models import CONFIGS, MORE_DECODERS, POSITIONS, VOCABULARY

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def write_model(config: PreTrainedConfig, tokenizer: Path, folder: Path) -> str:
    """A random network of a configuration beside another model's tokenizer; its folder."""
    network = AutoModelForCausalLM.from_config(config)
    for parameter in network.parameters():
        parameter.data.mul_(4)  # so that what is read wrongly shows
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return str(folder)


def test_types_that_pass_unchecked_are_those_of_the_contract() -> None:
    assert set(TRIED) == {config.model_type for config in (CONFIGS | MORE_DECODERS).values()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("made", [Qwen2Config, PhiConfig])
def test_a_type_that_agrees_is_loaded(
    made: Any, precision: Precision, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    name = write_model(made(**SIZES), model_folders["llama"], tmp_path / "model")
    assert load_model(find_model(name), precision).config.model_type == made.model_type


@pytest.mark.parametrize(
    ("made", "more"),
    [
        (ModernBertDecoderConfig, {"cls_token_id": 1, "sep_token_id": 1}),
        (DiffLlamaConfig, {}),
        (DogeConfig, {"keep_window_size": 4}),
        (JetMoeConfig, {"kv_channels": 8, "num_local_experts": 2, "num_experts_per_tok": 1}),
    ],
)
def test_a_type_that_is_read_otherwise_is_refused(
    made: Any, more: dict[str, Any], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    name = write_model(made(**SIZES, **more), model_folders["llama"], tmp_path / "model")
    with pytest.raises(ModelError, match=f"is of type '{made.model_type}'.*Use another type"):
        load_model(find_model(name), "float32")


def test_a_type_of_the_contract_is_not_run_twice(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untried_types, "check_untried", None)
    load_model(find_model(str(model_folders["llama"])), "float32")
