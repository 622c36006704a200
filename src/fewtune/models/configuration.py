"""A model's configuration, read before any weights.

Owns reading it, and how a library's errors are worded. What is refused is for its family to say (`architectures`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

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
        max_positions(config)
    except Exception as error:  # Transformers computes with what it reads: any type of error can come of it
        raise ModelError(f"{path / 'config.json'}: it cannot be used: {describe_error(error)}") from error
    return config


def describe_error(error: BaseException) -> str:
    """A library's error in one line of bounded length, its type named where the text alone may say nothing."""
    text = shorten(" ".join(str(error).split()), 300)
    return text if len(text) > 40 else f"{type(error).__name__}: {text}".rstrip(": ")


def max_positions(config: Any) -> int:
    """Tokens a model of that configuration can read at once."""
    limits = (getattr(config, key, None) for key in _POSITION_KEYS)
    return next((int(limit) for limit in limits if limit), 1 << 30)
