"""Exports a predictor's adapter and head for PEFT's sequence classification, on the base model.

Owns the layout. Source: https://huggingface.co/docs/peft/package_reference/auto_class
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict

from fewtune.exporting.base_model import BaseModel
from fewtune.exporting.classifier import build_tokenizer
from fewtune.exporting.linear import LinearAnswer
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.network import Adapter, write_peft

HEAD = "score"
"""What Transformers calls the head of a decoder that classifies."""


def write_adapter(
    scorer: LanguageScorer, change: Adapter, answer: LinearAnswer, base: BaseModel, folder: Path
) -> tuple[str, ...]:
    """Write the adapter, its head and the tokenizer; its configuration names the base model.

    Gives the texts that the tokenizer takes, in order.
    """
    tokenizer, fields, _ = build_tokenizer(scorer, 0)
    config: Any = copy.copy(change.wrapped.peft_config["default"])
    config.base_model_name_or_path, config.revision = base.name, base.revision
    config.task_type = "SEQ_CLS"
    config.modules_to_save = [HEAD]
    state = get_peft_model_state_dict(change.wrapped, save_embedding_layers=False)
    head = {f"base_model.model.{HEAD}.weight": torch.from_numpy(answer.weight)}
    write_peft(folder, config, {name: tensor.float() for name, tensor in {**state, **head}.items()})
    tokenizer.save_pretrained(str(folder))
    return fields
