"""How a sentence encoder's folder says that its states are pooled, as old and new Sentence Transformers write it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

import tiny_models
from fewtune.engine.loading import load_model
from fewtune.errors import ModelError
from fewtune.methods.embeddings import prompt_plainly
from fewtune.models import find_model, max_positions
from fewtune.models.configuration import read_config, read_pooling
from fewtune.tasks.base import Example, Task


@pytest.fixture
def folder(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(model_folders["sentence-encoder"], tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls", "include_prompt": True}, "first_token"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "first_token"),
    ],
)
def test_both_forms_are_read(folder: Path, said: dict[str, Any], pooling: str) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    assert read_pooling(folder) == pooling


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"pooling_mode": "max"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
    ],
)
def test_other_poolings_are_refused(folder: Path, said: dict[str, Any]) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="another pooling"):
        read_pooling(folder)


def test_no_more_tokens_are_read_than_the_folder_says(folder: Path) -> None:
    whole = find_model(str(folder)).weights_fingerprint
    assert max_positions(read_config(folder)) == tiny_models.POSITIONS
    for said, read in (({"max_seq_length": 40}, 40), ({"max_seq_length": 1000}, tiny_models.POSITIONS), ({}, None)):
        (folder / "sentence_bert_config.json").write_text(json.dumps(said))
        assert max_positions(read_config(folder)) == (read or tiny_models.POSITIONS)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}))
    assert find_model(str(folder)).weights_fingerprint != whole, "it is another model"
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": "many"}))
    with pytest.raises(ModelError, match="max_seq_length is 'many'"):
        read_config(folder)


@pytest.mark.parametrize("network", ["sentence-encoder", "mpnet"])
def test_long_texts_are_embedded_as_by_sentence_transformers(
    network: str, folder: Path, model_folders: dict[str, Path], task: Task
) -> None:
    if network != "sentence-encoder":  # another network and its tokenizer, pooled as the folder says
        shutil.copytree(model_folders[network], folder, dirs_exist_ok=True)
        config = AutoConfig.from_pretrained(folder)
        with torch.random.fork_rng():
            AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from sentence_transformers import SentenceTransformer
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40, "do_lower_case": False}))
    texts = ["the cook is kind and " * 30, "a pilot"]
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == 40
    model = load_model(find_model(str(folder)), "float32")
    ours = prompt_plainly(model, task, model.forward(model.frozen)).read(
        [Example(str(place), {"text": text}, None) for place, text in enumerate(texts)]
    )
    np.testing.assert_allclose(ours, theirs.encode(texts), atol=1e-5)


def test_what_sentence_transformers_saves_is_read(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
    SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "saved"))
    assert read_pooling(tmp_path / "saved") == "mean"
