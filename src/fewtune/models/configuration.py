"""Reads a model's configuration before any weights.

Owns reading it, and how a library's errors are worded. What is refused is for its family to say (`architectures`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError, shorten
from fewtune.models.architectures import find_architecture
from fewtune.models.architectures.base import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_POOLINGS: dict[Pooling, tuple[str, str]] = {
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "first_token": ("cls", "pooling_mode_cls_token"),
}
"""What each is called in a sentence encoder's folder: the mode's name, and before Sentence Transformers 6 a switch."""
_POSITION_KEYS = ("max_position_embeddings", "n_positions")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a model's folder holds; raises ModelError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}). Save the model again.") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else type(content).__name__
        raise ModelError(f"{path}: it should hold a JSON object and holds a {kind}. Save the model again.")
    return content


def read_config(path: Path) -> PreTrainedConfig:
    """A model folder's configuration as Transformers reads it, without weights; ModelError where it cannot."""
    from transformers import AutoConfig

    if "model_type" not in read_json_object(path / "config.json"):
        raise ModelError(
            f"{path / 'config.json'}: it has no `model_type`, so that Transformers cannot tell what the network is. "
            "Save the model again with `save_pretrained`."
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        config.return_dict = True  # as the engine reads what networks give, whatever the file says
        _read_positions(config)
        pooling = read_pooling(path)
        if pooling is not None:
            config.sentence_pooling = pooling
            config.sentence_tokens = read_sentence_tokens(path)
    except ModelError:
        raise
    except Exception as error:  # Transformers computes with what it reads: any type of error can come of it
        raise ModelError(f"{path / 'config.json'}: it cannot be used: {describe_error(error)}") from error
    return config


def read_pooling(path: Path) -> Pooling | None:
    """How a sentence encoder's states become one for a text; None where the folder is no sentence encoder's.

    Raises ModelError where its parts are others than a network, a pooling and a norm.
    """
    modules = path / "modules.json"
    if not modules.is_file():
        return None
    try:
        kinds = {str(part["type"]).rpartition(".")[2]: str(part["path"]) for part in json.loads(modules.read_bytes())}
        pooling = read_json_object(path / kinds["Pooling"] / "config.json")
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{modules}: no list of a sentence encoder's parts, each with type and path.") from error
    others = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    mode = pooling.get("pooling_mode")
    on = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
    said = [mode] if mode is not None else on
    chosen = [name for name, words in _POOLINGS.items() if len(said) == 1 and said[0] in words]
    if others or not chosen:
        raise ModelError(
            f"{path}: a sentence encoder whose states go through {', '.join(others) or 'another pooling'}, which "
            "fewtune does not do. Use one that takes their mean or the first token's."
        )
    return chosen[0]


def read_sentence_tokens(path: Path) -> int | None:
    """Tokens that a sentence encoder's folder says it reads of a text, special ones included; None where it does not.

    It may be fewer than there are positions: all that was seen in its training. Raises ModelError for another value.
    """
    told = path / "sentence_bert_config.json"
    limit = read_json_object(told).get("max_seq_length") if told.is_file() else None
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ModelError(f"{told}: max_seq_length is {limit!r}: it should be a number of tokens, or left out.")
    return limit


def describe_error(error: BaseException) -> str:
    """A library's error in one line of bounded length, its type named where the text alone may say nothing."""
    text = shorten(" ".join(str(error).split()), 300)
    return text if len(text) > 40 else f"{type(error).__name__}: {text}".rstrip(": ")


def max_positions(config: PreTrainedConfig) -> int:
    """Tokens a model of that configuration can read at once: its positions, less those before a row's first token.

    A sentence encoder reads no more than its folder says, a decoder no more than the window of its attention: what
    reaches beyond it is not reproduced. Of one with LongRoPE those are its original positions, for the longest row of a
    pass beyond them turns all others' positions too.
    """
    architecture = find_architecture(config)
    positions = _read_positions(config) - architecture.find_first_position(config)
    window = _read_window(config) if architecture.attention == "causal" else None
    limits = (getattr(config, "sentence_tokens", None), window, _read_original_positions(config))
    return min(positions, *(limit or positions for limit in limits))


def _read_original_positions(config: Any) -> int | None:
    """The positions that a model with LongRoPE had before it was stretched; None without it.

    Source: Ding et al. 2024, https://arxiv.org/abs/2402.13753
    """
    given = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (given, *given.values()) if isinstance(kind, dict)]  # of all layers, or by type of layer
    original = [kind.get("original_max_position_embeddings") for kind in kinds if kind.get("rope_type") == "longrope"]
    return min(filter(None, original), default=None)


def _read_window(config: Any) -> int | None:
    """How many tokens back the nearest-sighted layers read; None: all."""
    kinds = getattr(config, "layer_types", None)
    everywhere = getattr(config, "use_sliding_window", True) if not kinds else "sliding_attention" in kinds
    window: int | None = getattr(config, "sliding_window", None)
    return window if everywhere else None


def _read_positions(config: Any) -> int:
    limits = (getattr(config, key, None) for key in _POSITION_KEYS)
    return next((int(limit) for limit in limits if limit), 1 << 30)
