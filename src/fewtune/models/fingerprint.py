"""A model's fingerprint: SHA-256 over its weights, tokenizer and configuration.

Owns which files of a folder count, and the cached hashes of large files. Refuses files that Transformers would read too
and that change what the weights mean: an adapter, or weights that are not safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from fewtune.data.cache_folder import cache_folder
from fewtune.errors import ModelError
from fewtune.models.configuration import read_json_object
from fewtune.records import write_atomically

INDEX = "model.safetensors.index.json"
"""The file that says which of several weight files holds which tensor."""

_OTHER_VOCABULARIES = ("vocab.txt", "spm.model", "spiece.model", "sentencepiece.bpe.model", "bpe.codes")
"""Where families of models keep their tokens if there is no tokenizer.json, besides the files that always count."""
_SPELLING = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
"""What BERT's tokenizers do to a text, and whether they usually do: by their settings, whatever tokenizer.json says."""
_ADDED_TOKENS = ("add_bos_token", "add_eos_token", "add_prefix_space")


def list_weight_files(path: Path) -> list[Path]:
    """The files that Transformers reads a folder's weights from; raises ModelError where they are not safetensors."""
    if (path / "adapter_config.json").exists():
        raise ModelError(
            f"{path}: it holds a PEFT adapter (adapter_config.json), which would be put onto a base model that lies "
            "elsewhere. Merge it (`merge_and_unload`) and save the whole model, or take the adapter's files out."
        )
    whole, indexed = path / "model.safetensors", _list_indexed(path)
    if whole.is_file():
        return [whole]  # which Transformers prefers to an index
    return sorted(path.glob("*.safetensors")) if indexed is None else indexed


def _list_indexed(path: Path) -> list[Path] | None:
    """The files that a folder's index names, each of them there; None without an index."""
    index = path / INDEX
    if not index.is_file():
        return None
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{index}: `weight_map` must name a file for each tensor. Save the model again.")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(
                f"{index}: it names {name!r}. fewtune reads safetensors files of the same folder and no others (a "
                "pickle can run code): save the model again with `save_pretrained`."
            )
        if not (path / name).is_file():
            raise ModelError(f"{path}: {name}, which {INDEX} names, is not there. Copy or download it again.")
    return [path / name for name in names]


def fingerprint_model(path: Path) -> str:
    """SHA-256 over a folder's weights, tokenizer and configuration; raises ModelError where it holds no model."""
    weights = sorted(path.glob("*.safetensors"))
    config = path / "config.json"
    if not weights or not config.is_file():
        raise ModelError(
            f"{path}: a model folder holds config.json and *.safetensors; "
            f"found {', '.join(sorted(p.name for p in path.iterdir())[:8]) or 'nothing'}. "
            "Save the model with `save_pretrained` (safetensors is its default)."
        )
    read = list_weight_files(path)
    settings = read_json_object(config)
    for key in ("transformers_version", "_name_or_path"):  # these say who saved it, not what it is
        settings.pop(key, None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for file in weights:
        digest.update(_hash_large_file(file).encode())
    if len(read) > 1:
        digest.update((path / INDEX).read_bytes())
    others = () if (path / "tokenizer.json").is_file() else _OTHER_VOCABULARIES
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", *others):
        if (path / name).is_file():
            digest.update((path / name).read_bytes())
    if (path / "modules.json").is_file():  # how a sentence encoder pools its states, and of how many tokens
        for file in [path / "modules.json", *sorted(path.glob("*_Pooling/config.json"))]:
            digest.update(file.read_bytes())
        if (path / "sentence_bert_config.json").is_file():
            digest.update((path / "sentence_bert_config.json").read_bytes())
    # What a tokenizer puts before and after a text, where its settings say so and not its own file.
    told = read_json_object(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    if any(told.get(key) is not None for key in _ADDED_TOKENS):
        wanted = (*_ADDED_TOKENS, "bos_token", "eos_token")
        digest.update(json.dumps([told.get(key) for key in wanted], sort_keys=True).encode())
    spelt = {key: told[key] for key, usual in _SPELLING.items() if told.get(key, usual) != usual}
    if spelt:
        digest.update(json.dumps(spelt, sort_keys=True).encode())
    return digest.hexdigest()


def _hash_large_file(file: Path) -> str:
    """SHA-256 of a file; kept in the cache for as long as nothing writes to that file, whatever its time says."""
    stat = file.stat()
    # A file's modification time can be set, the time of its last change (ctime) cannot.
    what = f"{file.resolve()}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
    kept = cache_folder() / "fingerprints" / hashlib.sha256(what.encode()).hexdigest()[:32]
    with contextlib.suppress(OSError):
        known = kept.read_text()
        if len(known) == 64:
            return known
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # without room or right to keep it, it is computed anew next time
        write_atomically(kept, found.encode())
    return found
