"""How a predictor's network differs from its base model: not at all, by weights, an adapter or virtual tokens.

Owns how each is told from the base, saved, and put onto the base again. Only what differs is kept. Adapters and virtual
tokens are written in PEFT's own layout, so that PEFT alone can read them too.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from fewtune.engine.forward import Forward
from fewtune.engine.four_bit import find_obstacle, quantise_linear_layers
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.layers import LINEAR, holds_transposed
from fewtune.engine.soft import SoftPrefix, SoftPrompt, find_layer_shapes
from fewtune.errors import PredictorError, format_install, list_names
from fewtune.models.adapters import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from fewtune.models.chat import drop_chat
from fewtune.predictors.adapter_config import read_adapter_config
from fewtune.predictors.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    COPY_ANEW,
    AdapterPart,
    SoftTokensPart,
    UnchangedPart,
    WeightsPart,
)
from fewtune.predictors.tensors import FLOAT32, TensorFile, TensorForm

NetworkPart = UnchangedPart | WeightsPart | AdapterPart | SoftTokensPart


class Change(Protocol):
    """What a method did to a model's network."""

    def describe(self, forward: Forward, model: LanguageModel) -> NetworkPart: ...
    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]: ...
    def write_more(self, folder: Path, model: LanguageModel) -> None: ...


@dataclass(frozen=True)
class Unchanged:
    """The base model as it is."""

    def describe(self, forward: Forward, model: LanguageModel) -> UnchangedPart:
        return UnchangedPart()

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        """Nothing: the base model is all there is."""


@dataclass(frozen=True)
class ChangedWeights:
    """Weights that were trained in place, all or some."""

    def describe(self, forward: Forward, model: LanguageModel) -> WeightsPart:
        return WeightsPart(names=tuple(self._find(forward, model)))

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        found = self._find(forward, model)
        return {f"network.{name}": tensor.float().cpu().numpy() for name, tensor in found.items()}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        """Nothing: arrays hold all of it."""

    def _find(self, forward: Forward, model: LanguageModel) -> dict[str, torch.Tensor]:
        """The network's own tensors that are not the base model's to the last bit."""
        shared = {p.data_ptr() for network in model.networks.alive for p in network.parameters()}
        own = {n: p.detach() for n, p in forward.network.named_parameters() if p.data_ptr() not in shared}
        base = model.read_weights() if own else {}
        return {name: tensor for name, tensor in own.items() if not torch.equal(tensor.cpu(), base[name])}


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter hung onto frozen layers."""

    wrapped: PeftModel
    four_bit: bool = False

    def describe(self, forward: Forward, model: LanguageModel) -> AdapterPart:
        return AdapterPart(four_bit=self.four_bit)

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        # Told not to look for embeddings: PEFT would ask the hub about the base model.
        state = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        _write_adapter(folder, self.wrapped.peft_config["default"], state, model)


@dataclass(frozen=True)
class SoftTokensAdded:
    """Virtual tokens before every row: PEFT's configuration of them, and what the engine reads."""

    config: PeftConfig
    soft: SoftPrompt | SoftPrefix

    def describe(self, forward: Forward, model: LanguageModel) -> SoftTokensPart:
        if isinstance(self.soft, SoftPrefix):
            return SoftTokensPart(
                as_keys_and_values=True, tokens=self.soft.tokens, layers=self.soft.layers, heads=self.soft.heads
            )
        return SoftTokensPart(as_keys_and_values=False, tokens=self.soft.tokens)

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        device = next(self.soft.encoder.parameters()).device
        vectors: torch.Tensor = self.soft.encoder(torch.arange(self.soft.tokens, device=device))
        _write_adapter(folder, self.config, {"prompt_embeddings": vectors}, model)


def list_change_forms(part: NetworkPart, folder: Path, model: LanguageModel) -> dict[str, TensorForm]:
    """The tensors that a change keeps beside its adapter: weights in place of the base model's.

    Raises PredictorError where the base model has no such weights.
    """
    if not isinstance(part, WeightsPart):
        return {}
    shapes = {name: tuple(parameter.shape) for name, parameter in model.frozen.named_parameters()}
    unknown = [name for name in part.names if name not in shapes]
    if unknown:
        raise PredictorError(
            f"{folder}: its manifest replaces weights that the base model has not: {list_names(unknown, 3)}. "
            f"{COPY_ANEW}"
        )
    return {f"network.{name}": TensorForm(shapes[name], FLOAT32) for name in part.names}


def rebuild_forward(
    part: NetworkPart, arrays: Mapping[str, np.ndarray], folder: Path, model: LanguageModel, block: int | None
) -> tuple[Forward, Change]:
    """The network that was saved, on its base model, and what it differs by.

    Raises PredictorError where an adapter's files are not those of an adapter on this model.
    """
    if isinstance(part, UnchangedPart):
        return model.forward(model.frozen, block=block), Unchanged()
    if isinstance(part, WeightsPart):
        network = model.adaptable_copy()
        own = dict(network.named_parameters())
        for name in part.names:
            own[name].data = torch.from_numpy(arrays[f"network.{name}"]).to(model.device)
        return model.forward(network, block=block), ChangedWeights()
    if isinstance(part, AdapterPart):
        wrapped, network = _rebuild_adapter(part, folder / ADAPTER, model)
        return model.forward(network, block=block), Adapter(wrapped, part.four_bit)
    change = _rebuild_soft_tokens(part, folder / ADAPTER, model)
    return model.forward(model.adaptable_copy(), change.soft, block), change


def _rebuild_adapter(part: AdapterPart, folder: Path, model: LanguageModel) -> tuple[PeftModel, PreTrainedModel]:
    """PEFT's wrapping of a copy of the base model, and that copy."""
    path = folder / ADAPTER_CONFIG
    config: Any = read_adapter_config(path, ("LORA", "IA3"))
    tensors = TensorFile(folder / ADAPTER_WEIGHTS)
    network = model.adaptable_copy()
    _compare(path, {"task_type": (config.task_type, model.architecture.peft_task)})
    _compare(path, {"fan_in_fan_out": (config.fan_in_fan_out, holds_transposed(network))})
    _check_targets(path, config.target_modules, network)
    if isinstance(config, LoraConfig):
        _check_rank(config.r, tensors)
    if part.four_bit:
        _check_four_bit(folder, model)
        quantise_linear_layers(network, torch.bfloat16 if model.precision == "bfloat16" else torch.float32)
    with warnings.catch_warnings(), torch.random.fork_rng():
        # PEFT asks Transformers for something by its old name; the user can do nothing about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped: Any = get_peft_model(network, config)
    made = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    read = tensors.read({name: TensorForm(tuple(tensor.shape), FLOAT32) for name, tensor in made.items()})
    set_peft_model_state_dict(wrapped, {name: torch.from_numpy(value) for name, value in read.items()})
    network.eval()
    return wrapped, network


def _check_targets(path: Path, targets: Collection[str], network: PreTrainedModel) -> None:
    """Raise PredictorError where names of modules are those of none, or of one that is no linear layer."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if any(name == target or name.endswith(f".{target}") for target in targets)
    ]
    others = [name for name, module in found if not isinstance(module, LINEAR)]
    if others or not found:
        reason = f"{others[0]}, which is no linear layer" if others else "no module of the base model"
        raise PredictorError(f"{path}: target_modules names {reason}. {COPY_ANEW}")


def _check_rank(rank: int, tensors: TensorFile) -> None:
    """Raise PredictorError where adapters are of another rank, before any of this one are made: it may be huge."""
    found = {name: form.shape for name, form in tensors.forms.items() if ".lora_A." in name}
    others = [name for name, shape in found.items() if shape[:1] != (rank,)]
    if others or not found:
        shown = f"{others[0]} has the shape {list(found[others[0]])}" if others else "it holds no tensor lora_A"
        raise PredictorError(f"{tensors.place}: {shown}, and {ADAPTER_CONFIG} says that r is {rank}. {COPY_ANEW}")


def _check_four_bit(folder: Path, model: LanguageModel) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise PredictorError(f"{folder}: its base is held in 4 bits, which needs {format_install('4bit')}")
    obstacle = find_obstacle(model.networks.sketch, model.device)
    if obstacle is not None:
        raise PredictorError(f"{folder}: its base is to be held in 4 bits, and cannot be: {obstacle}.")


def _rebuild_soft_tokens(part: SoftTokensPart, folder: Path, model: LanguageModel) -> SoftTokensAdded:
    path = folder / ADAPTER_CONFIG
    config: Any = read_adapter_config(path, ("PREFIX_TUNING" if part.as_keys_and_values else "PROMPT_TUNING",))
    if part.as_keys_and_values:
        shapes = find_layer_shapes(model.networks.sketch)
        if len(set(shapes.values())) > 1:
            raise PredictorError(f"{folder}: a prefix is of one shape, and the base model's layers are of several.")
        heads, size = next(iter(shapes.values()))
        width, own = 2 * len(shapes) * heads * size, heads * size
        _compare(folder, {"layers": (part.layers, tuple(shapes)), "heads": (part.heads, heads)})
        _compare(path, {"num_layers": (config.num_layers, len(shapes))})
        _compare(path, {"num_attention_heads": (config.num_attention_heads, heads)})
    else:
        width = own = model.architecture.find_embeddings(model.networks.sketch).embedding_dim
    _compare(
        path, {"num_virtual_tokens": (config.num_virtual_tokens, part.tokens), "token_dim": (config.token_dim, own)}
    )
    form = TensorForm((part.tokens, width), FLOAT32)
    read = TensorFile(folder / ADAPTER_WEIGHTS).read({"prompt_embeddings": form})
    encoder = nn.Embedding.from_pretrained(torch.from_numpy(read["prompt_embeddings"]).to(model.device))
    if part.as_keys_and_values:
        return SoftTokensAdded(config, SoftPrefix(encoder, part.tokens, part.layers, part.heads))
    return SoftTokensAdded(config, SoftPrompt(encoder, part.tokens))


def _compare(place: Path, values: Mapping[str, tuple[object, object]]) -> None:
    """Raise PredictorError naming the first of the values that is not what it must be."""
    for name, (given, needed) in values.items():
        if given != needed:
            raise PredictorError(
                f"{place}: {name} is {given!r} and must be {needed!r} on this base model, with these tensors. "
                f"{COPY_ANEW}"
            )


def _write_adapter(folder: Path, config: Any, state: Mapping[str, torch.Tensor], model: LanguageModel) -> None:
    config = copy.copy(config)
    config.base_model_name_or_path = drop_chat(model.name)  # not the folder that the weights were read from
    (folder / ADAPTER).mkdir()
    write_peft(folder / ADAPTER, config, state)


def write_peft(folder: Path, config: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Write an adapter's configuration, which is changed to be for inference, and its tensors in PEFT's own layout."""
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):  # PEFT keeps modules' names so, in an order that differs from run to run
            setattr(config, name, sorted(value))
    config.save_pretrained(str(folder))
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(kept, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
