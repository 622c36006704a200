"""Exports of models whose tokenizers are of classes that Transformers builds anew, as those of most hub models are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    LlamaConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    RobertaTokenizer,
)

import tiny_models
from fewtune.engine.loading import load_model
from fewtune.errors import PredictorError
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.exporting.reread import check_backend, check_reread
from fewtune.methods import get_method
from fewtune.models import find_model
from fewtune.tasks.base import Draw, Task
from method_cases import run


def save_as(kind: type[PreTrainedTokenizerBase], folder: Path, **special: str) -> None:
    """Put the tiny tokenizer's words and merges there as a tokenizer of another class, under equal numbers."""
    content = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [tuple(pair) for pair in content["merges"]]
    for file in folder.glob("tokenizer*"):
        file.unlink()
    kind(vocab=content["vocab"], merges=merges, pad_token="<pad>", eos_token="</s>", **special).save_pretrained(folder)


def test_a_type_whose_tokenizer_loses_the_prompt_gets_a_program(task: Task, draw: Draw, tmp_path: Path) -> None:
    folder = tiny_models.save("llama", tmp_path / "model")
    shape = json.loads((folder / "config.json").read_text())
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    Qwen2ForCausalLM(Qwen2Config(**{key: shape[key] for key in kept}, num_key_value_heads=2)).save_pretrained(folder)
    save_as(Qwen2Tokenizer, folder)
    method = get_method("pattern")
    model = load_model(find_model(str(folder)), "float32")
    run(method, method.settings(epochs=1), model, task, draw).predictor.save(tmp_path / "saved")
    found = export_model(tmp_path / "saved", tmp_path / "out")
    assert found.form == "program" and found.reason is not None
    assert "reads a tokenizer beside a model of type 'qwen2' as Qwen2Tokenizer" in found.reason
    with pytest.raises(PredictorError, match="leaves out what strips texts and writes the prompt"):
        export_model(tmp_path / "saved", tmp_path / "graph", ExportOptions(onnx=True))


def test_sentence_transformers_strip_texts_whatever_the_tokenizers_class(
    model_folders: dict[str, Path], task: Task, draw: Draw, tmp_path: Path
) -> None:
    folder = tiny_models.save("roberta", tmp_path / "model")
    save_as(RobertaTokenizer, folder, bos_token="</s>", cls_token="</s>", sep_token="</s>", unk_token="</s>")
    method = get_method("embeddings")
    model = load_model(find_model(str(folder)), "float32")
    assert type(model.tokenizer.source) is RobertaTokenizer
    predictor = run(method, method.settings(), model, task, draw).predictor
    predictor.save(tmp_path / "saved")
    assert export_model(tmp_path / "saved", tmp_path / "out").form == "sentence_transformer"
    texts = ["the cook made us all smile", " the cook made us all smile", "the cook made us all smile\n"]
    logits = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    np.testing.assert_allclose(logits, np.repeat(logits[:1], 3, axis=0), atol=1e-5)
    expected = predictor.log_probabilities([row.without_label() for row in draw.support[:1]])
    text = draw.support[0].fields["text"]
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode([f" {text} "])
    np.testing.assert_allclose(found - np.logaddexp.reduce(found, axis=1), expected, atol=1e-4)


def test_a_tokenizer_that_is_read_back_as_it_was_is_no_reason(model_folders: dict[str, Path]) -> None:
    check_reread(AutoTokenizer.from_pretrained(model_folders["llama"]), LlamaConfig())


def test_tokenizers_written_in_python_are_told() -> None:
    with pytest.raises(PredictorError, match="ByT5Tokenizer, is written in Python"):
        check_backend(ByT5Tokenizer())
