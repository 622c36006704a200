"""Checks before any trial that a model's folder holds one complete language model that can be used.

Owns what is checked, and that a folder that passed is not checked again until something in it changes. Weights are read
only to see that they are finite, one tensor at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from importlib.metadata import version
from typing import TYPE_CHECKING

from fewtune.data.cache_folder import cache_folder
from fewtune.errors import ModelError
from fewtune.models.architectures import find_architecture, refuse_unsuited
from fewtune.models.chat import is_chat, read_turn
from fewtune.models.configuration import describe_error, read_config
from fewtune.models.fingerprint import list_weight_files
from fewtune.models.snapshot import ModelSnapshot
from fewtune.models.tokenizers import check_vocabulary, read_tokenizer
from fewtune.models.weights import read_network
from fewtune.records import write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_REVISION = 3
"""Raised when more is asked, so that what passed before is asked again."""


def inspect_model(snapshot: ModelSnapshot) -> PreTrainedConfig:
    """A model's configuration, once its folder is known to hold what that describes; raises ModelError elsewise."""
    config = read_config(snapshot.path)
    passed = cache_folder() / "inspected" / _name_state(snapshot)
    if passed.is_file():
        return config
    refuse_unsuited(snapshot.name, config)
    _check_files(snapshot, config)
    network = read_network(snapshot, config, "meta")
    tokenizer = read_tokenizer(snapshot.path)
    check_vocabulary(snapshot.name, tokenizer, network)
    if is_chat(snapshot.name):
        read_turn(tokenizer, snapshot.name, find_architecture(config).attention)
    _check_finite(snapshot)
    with contextlib.suppress(OSError):  # without room or right to keep it, it is asked again next time
        write_atomically(passed, b"")
    return config


def count_parameters(snapshot: ModelSnapshot) -> int:
    """How many numbers a model's weight files hold; their headers alone are read."""
    from safetensors import safe_open

    total = 0
    for file in list_weight_files(snapshot.path):
        with safe_open(file, framework="np") as opened:
            total += sum(math.prod(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118
    return total


def _name_state(snapshot: ModelSnapshot) -> str:
    """A name for all that the answer depends on: weights, settings beside them, versions."""
    digest = hashlib.sha256(f"{_REVISION} {snapshot.weights_fingerprint}".encode())
    for package in ("transformers", "tokenizers", "safetensors"):
        digest.update(f" {package} {version(package)}".encode())
    for file in sorted([*snapshot.path.glob("*.json"), *snapshot.path.glob("*.jinja")]):
        digest.update(f"\n{file.name} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _check_files(snapshot: ModelSnapshot, config: PreTrainedConfig) -> None:
    """Raise ModelError naming a weights file that is cut short or no safetensors, or far too few tensors."""
    from safetensors import SafetensorError, safe_open

    tensors = 0
    for file in list_weight_files(snapshot.path):
        try:
            with safe_open(file, framework="pt") as opened:
                tensors += len(opened.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file}: not readable as safetensors ({describe_error(error)}): cut short, or another kind of file. "
                "Copy or download it again."
            ) from error
    # Before the network is drawn up: a configuration may ask for a billion blocks.
    blocks = getattr(config, "num_hidden_layers", 0)
    if not isinstance(blocks, int) or not 0 < blocks <= tensors:
        raise ModelError(
            f"{snapshot.path / 'config.json'}: num_hidden_layers is {blocks}, and the weights hold {tensors} tensors "
            "in all. Put the configuration there that the model was saved with."
        )


def _check_finite(snapshot: ModelSnapshot) -> None:
    import torch
    from safetensors import safe_open

    for file in list_weight_files(snapshot.path):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no dictionary
                tensor = opened.get_tensor(key)
                if not tensor.is_floating_point():
                    continue
                # One pass and no copy of a large tensor: whatever is not finite stays so in a sum of 64 bits.
                total = tensor.sum(dtype=torch.float64) if tensor.element_size() > 1 else tensor.float().sum()
                if not bool(torch.isfinite(total)):
                    raise ModelError(
                        f"{file}: the weights {key} hold values that are not finite (NaN or infinity). The model was "
                        "damaged, or overflowed where it was trained or converted: take another copy."
                    )
