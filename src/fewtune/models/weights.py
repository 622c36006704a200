"""Reads a model's network from its folder, complete or not at all.

Owns the one call that reads weights, and the refusal of weights that do not match the configuration: Transformers would
fill in random numbers for missing ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fewtune.errors import ModelError
from fewtune.models.architectures import find_architecture
from fewtune.models.configuration import describe_error
from fewtune.models.quiet import quiet_transformers
from fewtune.models.snapshot import ModelSnapshot
from fewtune.system.failure_kinds import find_failure_kind

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_NAMED = 3
"""Of the tensors that do not fit, how many a message names."""


def read_network(
    snapshot: ModelSnapshot, config: PreTrainedConfig, onto: Literal["cpu", "meta"], attention: str | None = None
) -> PreTrainedModel:
    """A folder's network in float32; onto `meta` without its weights, of which only names and shapes are read.

    `attention`: a name that Transformers knows it by; None: the network's own. Raises ModelError where any weight is
    missing, unexpected or of another shape.
    """
    import torch

    name, path = snapshot.name, snapshot.path
    try:
        with quiet_transformers():
            read: Any = (
                find_architecture(config, name)
                .choose_class(config)
                .from_pretrained(
                    path,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    attn_implementation=attention,
                    use_kernels=False,  # newer Transformers replaces layers by the hub's, and cannot onto `meta`
                    ignore_mismatched_sizes=True,  # else it raises without naming them; they are refused below
                    output_loading_info=True,
                    **({"device_map": "meta"} if onto == "meta" else {}),
                )
            )
    except Exception as error:  # what a damaged folder leads to can be of any type
        if find_failure_kind(error) == "out_of_memory":
            raise
        raise ModelError(
            f"model {name!r} at {path} could not be loaded: {describe_error(error)}. fewtune reads language "
            "models saved as safetensors with their tokenizer, and never runs code from a model folder."
        ) from error
    network: PreTrainedModel = read[0]
    is_needless = find_architecture(config, name).is_needless
    unexpected = [key for key in read[1]["unexpected_keys"] if not is_needless(key)]
    _refuse_misfits(name, path, {**read[1], "unexpected_keys": unexpected})
    return network


def _refuse_misfits(name: str, path: Path, loaded: dict[str, Any]) -> None:
    shapes = [
        f"{key} ({' x '.join(map(str, has))}, wanted {' x '.join(map(str, wants))})"
        for key, has, wants in loaded["mismatched_keys"]
    ]
    faults = [
        _format_faults("missing", sorted(loaded["missing_keys"])),
        _format_faults("of another shape", sorted(shapes)),
        _format_faults("not known to the network", sorted(loaded["unexpected_keys"])),
        _format_faults("that cannot be converted", sorted(loaded["error_msgs"])),
    ]
    told = "; ".join(fault for fault in faults if fault)
    if told:
        raise ModelError(
            f"model {name!r} at {path}: its weights are not those that its config.json describes: {told}. Whatever is "
            "missing would be random. Save the whole language model again (its class ends in ForCausalLM, LMHeadModel "
            "or ForMaskedLM), or copy the folder anew."
        )


def _format_faults(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:_NAMED])}{more}"
