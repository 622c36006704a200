"""How a sentence encoder's folder says that its states are pooled, as old and new Sentence Transformers write it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewtune.errors import ModelError
from fewtune.models.configuration import read_pooling


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


def test_what_sentence_transformers_saves_is_read(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="fewtune's test extra brings it: pip install 'fewtune[test]'")
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "saved"))
    assert read_pooling(tmp_path / "saved") == "mean"
