"""Every type of encoder that is let in gives a row the same states packed as alone; others are refused."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from fewtune.engine.bidirectional import PLACES_AS_WRITTEN, attend_as_written
from fewtune.engine.forward import Forward
from fewtune.engine.loading import load_model, name_attention, pack_attention
from fewtune.engine.packing import pack
from fewtune.errors import ModelError
from fewtune.models import find_model
from fewtune.models.architectures import refuse_unsuited
from fewtune.models.architectures.encoders import TRIED

ROWS = [[3, 9, 30, 31, 7, 2], [3, 44, 2], [3, 17, 18, 19, 30, 21, 22, 23, 2]]  # 0 and 1 fill rows up
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "dim": 32,
    "embedding_size": 32,
    "intermediate_size": 48,
    "hidden_dim": 48,
    "num_hidden_layers": 2,
    "n_layers": 2,
    "num_attention_heads": 4,
    "n_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "initializer_range": 0.2,
}
"""Whatever each type calls its sizes."""


MORE: dict[str, dict[str, object]] = {
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4},
}
"""What a type has besides: DeBERTa v2 has matrices for distances, v3 (tests/tiny_models.py) the tokens' for both."""


@pytest.mark.parametrize("kind", TRIED)
@torch.no_grad()
def test_packed_rows_have_the_states_that_they_have_alone(kind: str) -> None:
    config = AutoConfig.for_model(kind, **SMALL, **MORE.get(kind, {}))
    refuse_unsuited("it", config)
    torch.manual_seed(3)
    plain = AutoModelForMaskedLM.from_config(config, dtype=torch.float32).eval()
    ours = AutoModelForMaskedLM.from_config(
        copy.deepcopy(config), dtype=torch.float32, attn_implementation=name_attention(config)
    ).eval()
    pack_attention(ours)
    ours.load_state_dict(plain.state_dict())
    forward = Forward(ours, "float32")
    batch = forward.pack(ROWS)
    states = forward.hidden_states(batch)
    for row, start in zip(ROWS, batch.starts.tolist(), strict=True):
        alone = plain.base_model(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(states[start : start + len(row)], alone, atol=1e-5, rtol=1e-4)


def test_attention_as_written_takes_few_rows_at_once() -> None:
    batch = pack([[3] * 10] * 400, torch.device("cpu"))
    states, places = torch.randn(1, 4000, 8), []

    def attend(rows: torch.Tensor, readable: torch.Tensor) -> torch.Tensor:
        places.append(rows.shape[0] * rows.shape[1])
        return 2 * rows

    torch.testing.assert_close(attend_as_written(states, batch, attend), 2 * states)
    assert max(places) <= PLACES_AS_WRITTEN + 10 and sum(places) == 4000


def test_deberta_with_a_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="joins neighbouring tokens by a convolution"):
        refuse_unsuited("it", AutoConfig.for_model("deberta-v2", **SMALL, conv_kernel_size=3))


@pytest.mark.parametrize("legacy", [True, False])
def test_deberta_is_read_as_it_was_published(legacy: bool, model_folders: dict[str, Path], tmp_path: Path) -> None:
    """Its folder names no class, has heads that were trained with it, and its embeddings twice."""
    folder = shutil.copytree(model_folders["deberta-v3"], tmp_path / "published")
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config | {"legacy": legacy}))
    held = load_file(folder / "model.safetensors")
    words = held["deberta.embeddings.word_embeddings.weight"]
    tensors = {name: tensor for name, tensor in held.items() if name.startswith("deberta.")}
    tensors |= {"lm_predictions.lm_head.bias": words[:, 0].clone(), "mask_predictions.dense.weight": words[:2].clone()}
    tensors["deberta.embeddings.word_embeddings._weight"] = words.clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = load_model(find_model(str(folder)), "float32")
    assert not model.architecture.find_abilities(model.config)
    torch.testing.assert_close(model.architecture.find_embeddings(model.frozen).weight, words)


@pytest.mark.parametrize("kind", ["mobilebert", "esm", "albert"])
def test_types_that_nobody_has_tried_are_refused_with_those_that_are(kind: str) -> None:
    with pytest.raises(ModelError, match=r"Use .*ModernBERT|Use one of these types: bert, .*modernbert"):
        refuse_unsuited("it", AutoConfig.for_model(kind, vocab_size=64))
