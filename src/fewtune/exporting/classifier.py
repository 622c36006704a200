"""Exports a predictor as a Transformers sequence classifier that takes plain texts.

Owns its configuration, weights and tokenizer, and where offsets a label may stand: the classifier's linear layer has
none, so that they go into the bias of the norm before it where there is one. Source:
https://huggingface.co/docs/transformers/tasks/sequence_classification
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from fewtune.errors import PredictorError
from fewtune.exporting.linear import LinearAnswer
from fewtune.exporting.merge import merge_network, read_soft_tokens
from fewtune.exporting.prompt_tokenizer import build_prompt_tokenizer, split_prompt
from fewtune.exporting.reread import check_backend, check_reread
from fewtune.exporting.virtual_tokens import add_virtual_tokens, embed_virtual_tokens
from fewtune.models.architectures import architecture_of
from fewtune.predictors.language import LanguageScorer


@dataclass(frozen=True)
class ExportedClassifier:
    """A sequence classifier and the tokenizer that writes its prompt; `fields` are the texts it takes, in order."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fields: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write its folder; raises PredictorError, and writes nothing, where Transformers would read it otherwise."""
        check_reread(self.tokenizer, self.model.config)
        self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(str(folder))


def build_classifier(scorer: LanguageScorer, answer: LinearAnswer, labels: Sequence[str]) -> ExportedClassifier:
    """The classifier whose softmax is the predictor's probabilities; raises PredictorError where there is none such."""
    if scorer.prompting.forward.block is not None:
        raise PredictorError("this model answers from a block before the last, which no sequence classifier does.")
    made = start_classifier(scorer, labels)
    head: Any = made.model
    head.score.weight.data = torch.from_numpy(answer.weight).float()
    if answer.has_offset:
        _hold_offset(made.model, answer)
    return made


def start_classifier(scorer: LanguageScorer, labels: Sequence[str]) -> ExportedClassifier:
    """The classifier of a scorer's network, prompt and virtual tokens, its head not yet set."""
    soft = read_soft_tokens(scorer)
    tokenizer, fields, extra = build_tokenizer(scorer, 0 if soft is None else len(soft))
    network = merge_network(scorer)
    if soft is not None:
        embed_virtual_tokens(network, extra, soft)
    return ExportedClassifier(_make_model(network, labels, read_pad(tokenizer)).eval(), tokenizer, fields)


def read_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the token that pads."""
    held: Any = tokenizer
    return int(held.pad_token_id)


def _make_model(network: PreTrainedModel, labels: Sequence[str], pad: int) -> PreTrainedModel:
    """Transformers' classifier on a network's body."""
    config: PreTrainedConfig = copy.deepcopy(network.config)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: place for place, label in enumerate(labels)}
    config.pad_token_id = pad
    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa"
        )
    except ValueError as error:
        raise PredictorError(
            f"Transformers has no sequence classifier for models of type {config.model_type!r}."
        ) from error
    model.base_model.load_state_dict(architecture_of(network).find_body(network).state_dict())
    return model


def build_tokenizer(scorer: LanguageScorer, soft: int) -> tuple[PreTrainedTokenizerBase, tuple[str, ...], list[int]]:
    """The tokenizer, the texts that it takes, and the ids of the words that virtual tokens have become."""
    source, encoder = scorer.model.tokenizer.source, scorer.prompting.encoder
    base = Tokenizer.from_str(check_backend(source).to_str())
    extra = add_virtual_tokens(base, soft)
    before = scorer.contexts[0].before
    parts = split_prompt(before, scorer.prompting.template)
    made = build_prompt_tokenizer(base, [*extra, *encoder.opening], parts)
    longest = len(encoder.opening) + len(encoder.tokenise([before])[0]) + encoder.max_tokens if before else None
    # Padding that was added, and that the network has no embedding of, pads nothing here.
    pads = source.pad_token_id not in scorer.model.tokenizer.unknown
    known = longest or len(encoder.opening) + encoder.max_tokens
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=min(known, encoder.max_positions) + soft,
        pad_token=(source.pad_token if pads else None) or source.eos_token,
        eos_token=source.eos_token,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    if wrapped.pad_token is None:
        raise PredictorError("this model's tokenizer has no token to pad with and none that ends a text.")
    return wrapped, parts.fields, extra


def _hold_offset(model: PreTrainedModel, answer: LinearAnswer) -> None:
    """Put offsets into the bias of the final norm: what the head makes of a change there is the offset itself.

    Raises PredictorError where the final norm has no bias.
    """
    norm = architecture_of(model).find_final_norm(model)
    bias: Any = None if norm is None else getattr(norm, "bias", None)
    if bias is None:
        raise PredictorError(
            "this model's answers need an offset a label (calibration by a prior, or a regression's intercepts), which "
            "its sequence classifier has no place for: its final norm has no bias."
        )
    weight = answer.weight
    after = getattr(architecture_of(model).find_body(model), "decoder", None)
    projection: Any = getattr(after, "project_out", None)
    if projection is not None:
        weight = weight @ projection.weight.detach().double().numpy()
    # The head alone sees labels' differences: what is common to all weights moves all logits alike.
    centred = weight - weight.mean(axis=0)
    change = np.linalg.lstsq(centred, answer.offset, rcond=None)[0]
    bias.data += torch.from_numpy(change).float()
