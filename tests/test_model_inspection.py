"""A folder that does not hold one whole causal language model is refused by name before anything is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    RobertaConfig,
    RobertaForMaskedLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

import tiny_models
from fewtune.engine import loading as engine_loading
from fewtune.engine.loading import load_model
from fewtune.errors import ModelError, StudyError
from fewtune.models import find_model, inspect_model, inspection, max_positions, read_config
from fewtune.models.fingerprint import INDEX
from fewtune.models.tokenizers import read_tokenizer
from fewtune.running.prepare import prepare_jobs
from fewtune.study import load_study

WEIGHTS = "model.safetensors"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path, model_folders: dict[str, Path]) -> Path:
    """A copy of the tiny Llama, to be damaged."""
    return Path(shutil.copytree(model_folders["llama"], tmp_path / "damaged"))


@pytest.fixture(autouse=True)
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no weights may be read")

    monkeypatch.setattr(engine_loading, "load_model", refuse)


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def change_settings(folder: Path, name: str = "config.json", **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refuse(folder: Path) -> str:
    """What the folder is refused with, the same by all that looks at it; never a text of Transformers' report."""
    with pytest.raises(ModelError) as caught:
        inspect_model(find_model(str(folder)))
    assert "above report" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        load_model(find_model(str(folder)), "float32")
    return str(caught.value)


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


@pytest.mark.parametrize("architecture", sorted(tiny_models.CONFIGS))
def test_a_model_as_saved_passes_its_tied_head_not_missing(architecture: str, model_folders: dict[str, Path]) -> None:
    assert inspect_model(find_model(str(model_folders[architecture]))).model_type in architecture


def test_a_missing_layer_is_named(folder: Path) -> None:
    change_weights(folder, without("layers.1."))
    message = refuse(folder)
    assert "9 missing: model.layers.1.input_layernorm.weight," in message and "and 6 more" in message


def test_renamed_tensors_are_named_on_both_sides(folder: Path) -> None:
    change_weights(folder, lambda tensors: {key.replace("up_proj", "up"): value for key, value in tensors.items()})
    message = refuse(folder)
    assert "3 missing: model.layers.0.mlp.up_proj.weight" in message
    assert "3 not known to the network: model.layers.0.mlp.up.weight" in message


@pytest.mark.parametrize(("blocks", "words"), [(4, "9 missing: model.layers.3."), (2, "9 not known to the network")])
def test_another_number_of_blocks_than_the_weights_have_is_told(folder: Path, blocks: int, words: str) -> None:
    change_settings(folder, num_hidden_layers=blocks)
    assert words in refuse(folder)


def test_a_billion_blocks_are_refused_without_drawing_them_up(folder: Path) -> None:
    change_settings(folder, num_hidden_layers=10**9)
    with pytest.raises(ModelError, match=r"num_hidden_layers is 1000000000, and the weights hold 29 tensors"):
        inspect_model(find_model(str(folder)))


def test_another_shape_is_told_with_both_shapes(folder: Path) -> None:
    change_settings(folder, intermediate_size=40)
    assert "9 of another shape: model.layers.0.mlp.down_proj.weight (32 x 48, wanted 32 x 40)" in refuse(folder)


@pytest.mark.parametrize("saved_as", [AutoModel, AutoModelForSequenceClassification])
def test_a_model_saved_without_its_language_model_head_is_refused(folder: Path, saved_as: Any) -> None:
    change_settings(folder, tie_word_embeddings=False, pad_token_id=0)
    config = read_config(folder)
    saved_as.from_config(config, dtype=torch.float32).save_pretrained(folder)
    assert "1 missing: lm_head.weight" in refuse(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    key = "model.layers.2.mlp.up_proj.weight"

    def spoil(tensors: Tensors) -> Tensors:
        tensors[key][1, 2] = value
        return tensors

    change_weights(folder, spoil)
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: the weights {key} hold values that are not finite"):
        inspect_model(find_model(str(folder)))


SMALL: dict[str, Any] = {
    "vocab_size": tiny_models.VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (BertForMaskedLM, BertConfig(**SMALL)),
        (RobertaForMaskedLM, RobertaConfig(**SMALL, max_position_embeddings=130)),
        (ElectraForMaskedLM, ElectraConfig(**SMALL, embedding_size=32)),
    ],
)
def test_masked_language_models_are_taken(folder: Path, network: Any, config: Any) -> None:
    network(config).save_pretrained(folder)
    assert inspect_model(find_model(str(folder))).model_type == config.model_type


@pytest.mark.parametrize(
    ("network", "config"),
    [
        (
            GPTNeoForCausalLM,
            GPTNeoConfig(
                vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
            ),
        ),
        (XLNetLMHeadModel, XLNetConfig(vocab_size=400, d_model=32, n_layer=2, n_head=4, d_inner=48)),
    ],
)
def test_attention_that_cannot_be_replaced_is_told_without_our_name_for_it(
    folder: Path, network: Any, config: Any
) -> None:
    network(config).save_pretrained(folder)
    message = refuse(folder)
    assert f"is a {network.__name__}, whose attention is written into it" in message and "packed_" not in message
    assert "fewtune_packed" not in message


def test_an_adapter_beside_a_model_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    with pytest.raises(ModelError, match=r"holds a PEFT adapter \(adapter_config\.json\).*Merge it"):
        find_model(str(folder))


def test_an_index_may_name_safetensors_of_its_folder_alone(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "part.safetensors")
    keys = list(load_file(folder / "part.safetensors"))
    for name in ("part.bin", "../part.safetensors", "/etc/part.safetensors"):
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, name)}))
        with pytest.raises(ModelError, match=rf"{INDEX}: it names '{name}'\. fewtune reads safetensors"):
            find_model(str(folder))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, "gone.safetensors")}))
    with pytest.raises(ModelError, match=rf"gone\.safetensors, which {INDEX} names, is not there"):
        find_model(str(folder))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(keys, "part.safetensors")}))
    inspect_model(find_model(str(folder)))


def test_an_index_beside_whole_weights_is_held_to_the_same(folder: Path) -> None:
    places = dict.fromkeys(load_file(folder / WEIGHTS), "pytorch_model.bin")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(ModelError, match=rf"{INDEX}: it names 'pytorch_model\.bin'"):
        find_model(str(folder))


def test_the_index_of_several_files_is_part_of_what_a_model_is(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    keys = list(tensors)
    for number, part in enumerate((keys[::2], keys[1::2])):
        save_file({key: tensors[key] for key in part}, folder / f"{number}.safetensors", metadata={"format": "pt"})
    places = {key: f"{place % 2}.safetensors" for place, key in enumerate(keys)}
    prints = set()
    for more in ({}, {"another": "0.safetensors"}):
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places | more}))
        prints.add(find_model(str(folder)).weights_fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize("length", [0, 7, 300, -4])
def test_weights_cut_short_are_told_with_their_file(folder: Path, length: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:length])
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: not readable as safetensors"):
        inspect_model(find_model(str(folder)))


def test_a_vocabulary_smaller_than_the_tokenizers_is_told(folder: Path) -> None:
    change_weights(
        folder, lambda tensors: {k: v[:300].clone() if "embed_tokens" in k else v for k, v in tensors.items()}
    )
    change_settings(folder, vocab_size=300)
    assert "100 tokens that the network does not know" in refuse(folder)


@pytest.mark.parametrize("config", [BertConfig(), RobertaConfig(), GPT2Config(), Qwen2Config()])
def test_a_folder_without_a_tokenizer_is_told_where_transformers_makes_one_of_nothing(
    config: Any, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    added = {"0": {"content": "<|endoftext|>", "special": True}, "1": {"content": "<tool_call>", "special": False}}
    for settings in (None, {"added_tokens_decoder": added}):
        if settings is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(ModelError, match="holds no tokenizer"):
            read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "should hold a JSON object and holds a list"),
        ("7", "should hold a JSON object and holds a int"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "not readable as JSON"),
        ("{", "not readable as JSON"),
    ],
)
def test_settings_that_are_no_object_are_told_with_their_file(
    folder: Path, name: str, content: str, words: str
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=rf"{name}: (it )?{words}"):
        inspect_model(find_model(str(folder)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"num_hidden_layers": "three"}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"hidden_size": -8}),
        ("config.json", {"vocab_size": None}),
        ("config.json", {"max_position_embeddings": "many"}),
        ("config.json", {"model_type": "deberta"}),
        ("config.json", {"model_type": ["llama"]}),
        ("config.json", {"layer_types": 3}),
        ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
        ("tokenizer_config.json", {"tokenizer_class": 7}),
        ("tokenizer_config.json", {"model_max_length": "long"}),
        ("tokenizer_config.json", {"eos_token": [1]}),
    ],
)
def test_a_field_of_the_wrong_type_is_one_message(folder: Path, name: str, values: dict[str, Any]) -> None:
    change_settings(folder, name, **values)
    with pytest.raises(ModelError) as caught:
        inspect_model(find_model(str(folder)))
    assert str(folder) in str(caught.value) and len(str(caught.value)) < 900


def test_a_stretched_model_reads_no_further_than_it_did_where_long_rows_would_turn_others() -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 256}
    long = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    assert max_positions(Phi3Config(**shape, rope_parameters=long, original_max_position_embeddings=64)) == 64
    evenly = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    assert max_positions(LlamaConfig(**shape, rope_parameters=evenly)) == 256, "each position is turned alike"


def test_weights_of_equal_size_and_time_are_another_model(folder: Path) -> None:
    first, stat = find_model(str(folder)).weights_fingerprint, (folder / WEIGHTS).stat()
    change_weights(folder, lambda tensors: {key: value + 1 for key, value in tensors.items()})
    os.utime(folder / WEIGHTS, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (folder / WEIGHTS).stat().st_size == stat.st_size
    assert find_model(str(folder)).weights_fingerprint != first


def test_a_cache_that_cannot_be_written_costs_time_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = find_model(str(folder)).weights_fingerprint
    (tmp_path / "file").write_text("a file where a folder should be, which root cannot write into either")
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "file"))
    place = find_model(str(folder))
    assert place.weights_fingerprint == expected
    inspect_model(place)


def test_what_passed_is_not_asked_again_until_a_file_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []
    read = inspection.read_network
    monkeypatch.setattr(inspection, "read_network", lambda *given: asked.append(given[0]) or read(*given))
    for _ in range(2):
        inspect_model(find_model(str(folder)))
    assert len(asked) == 1
    change_settings(folder, "tokenizer_config.json", padding_side="left")
    inspect_model(find_model(str(folder)))
    assert len(asked) == 2


def test_two_folders_of_one_model_in_a_study_are_refused(study_file: Path, folder: Path, tmp_path: Path) -> None:
    text = study_file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("models:"))
    study = tmp_path / "study.yaml"
    study.write_text(text.replace(line, line.replace("]", f", {folder}]")))
    with pytest.raises(StudyError, match=r"models .* hold the same weights, tokenizer and configuration"):
        prepare_jobs(load_study(study), None)


def test_every_fault_of_a_studys_models_is_told_at_once(study_file: Path, folder: Path, tmp_path: Path) -> None:
    change_weights(folder, without("layers.1."))
    other = tmp_path / "other"
    other.mkdir()
    text = study_file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("models:"))
    study = tmp_path / "study.yaml"
    study.write_text(text.replace(line, f"models: [{folder}, {other}]"))
    with pytest.raises(StudyError) as caught:
        prepare_jobs(load_study(study), None)
    assert len(caught.value.faults) == 2
