"""Exports an encoder's predictor as a Sentence Transformers folder whose text embedding is the logits.

Owns the folder's layout: the network, its pooling, a scaling to length one where embeddings are read, and a linear
layer that is the head or the regression. Source: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.normalizers import Sequence, Strip
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fewtune.errors import PredictorError, format_install
from fewtune.exporting.linear import LinearAnswer
from fewtune.exporting.merge import merge_network
from fewtune.exporting.reread import check_backend, check_reread
from fewtune.models.architectures import architecture_of
from fewtune.models.architectures.base import Pooling
from fewtune.predictors.language import LanguageScorer
from fewtune.prompts.template import plain_template

_MODES: dict[Pooling, str] = {
    "mean": "pooling_mode_mean_tokens",
    "first_token": "pooling_mode_cls_token",
    "last_token": "pooling_mode_lasttoken",
}


def write_sentence_transformer(
    scorer: LanguageScorer, answer: LinearAnswer, fields: tuple[str, ...], labels: tuple[str, ...], out: Path
) -> None:
    """Write the folder; raises PredictorError where such a folder would answer otherwise, or cannot be compared."""
    prompting, forward = scorer.prompting, scorer.prompting.forward
    if find_spec("sentence_transformers") is None:
        raise PredictorError(
            "an encoder's form for other tools is a Sentence Transformers folder, and sentence-transformers is not "
            f"installed here to compare it: {format_install('sentences')}."
        )
    if prompting.compared is not None:
        raise PredictorError("this model compares two texts, and Sentence Transformers embed one.")
    if prompting.template != plain_template(fields) or len(fields) != 1 or scorer.contexts[0].before:
        raise PredictorError("Sentence Transformers embed a text as it is, and this model reads it within a prompt.")
    if forward.block is not None:
        raise PredictorError("this model answers from a block before the last, which Sentence Transformers do not run.")
    encoder = prompting.encoder
    longest = min(encoder.max_tokens + len(encoder.opening) + len(encoder.closing), encoder.max_positions)
    tokenizer = _strip_texts(scorer.model.tokenizer.source, longest)
    network = merge_network(scorer)
    body: Any = architecture_of(network).find_body(network)
    check_reread(tokenizer, body.config)
    body.config.id2label = dict(enumerate(labels))
    body.config.label2id = {label: place for place, label in enumerate(labels)}
    body.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    _write_json(out / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    width = answer.weight.shape[1]
    pooling = {mode: kind == forward.pooling for kind, mode in _MODES.items()}
    _write_json(out / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **pooling})
    dense = {"in_features": width, "out_features": len(labels), "bias": True}
    _write_json(out / "2_Dense" / "config.json", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    layer = {"linear.weight": torch.from_numpy(answer.weight), "linear.bias": torch.from_numpy(answer.offset)}
    save_file({name: each.float().contiguous() for name, each in layer.items()}, out / "2_Dense" / "model.safetensors")
    parts = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    if answer.unit:
        parts.insert(2, ("Normalize", "3_Normalize"))
        (out / "3_Normalize").mkdir()
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(parts)
    ]
    _write_json(out / "modules.json", modules)


def _strip_texts(source: PreTrainedTokenizerBase, longest: int) -> PreTrainedTokenizerBase:
    """A tokenizer that reads texts as another does, without white space around, whatever class the other is of."""
    backend = Tokenizer.from_str(check_backend(source).to_str())
    own = backend.normalizer
    backend.normalizer = Sequence([Strip(), *([] if own is None else [own])])
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
        model_input_names=source.model_input_names,
        **source.special_tokens_map,
    )
    return made


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
