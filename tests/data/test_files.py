"""Row files and the hub are read as they stand; what cannot be read is named with its line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fewtune.data.files import read_jsonl, read_tsv
from fewtune.data.hub import load_hub_rows
from fewtune.errors import DataError


def test_tsv_rows_take_quotes_and_line_separators_as_text(write: Callable[..., Path]) -> None:
    path = write("a.tsv", 'id\ttext\r\n1\t"so\u2028he said\r\n')
    assert read_tsv(path) == [{"id": "1", "text": '"so\u2028he said'}]
    assert read_tsv(path, ("a", "b"))[0] == {"a": "id", "b": "text"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "id\ttext\n1\tx\ty\n", "line 2 has 3 cells where 2 are due (id, text)"),
        ("a.tsv", "", "the file is empty"),
        ("a.jsonl", '{"text": "x"}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"texts": "x"}\n', "line 1 has no text. It has: texts"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', "line 2 is not UTF-8 (byte 0xe9). Save the file as UTF-8."),
    ],
)
def test_bad_row_files_name_file_and_line(
    write: Callable[..., Path], name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_tsv(path) if name.endswith("tsv") else read_jsonl(path, ("text",))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_hub_out_of_reach_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="install fewtune[run] to test reading from the hub")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setenv("HF_HOME", "/some/cache")
    with pytest.raises(DataError) as caught:
        load_hub_rows("owner/set", "config", "train", "abc")
    for wanted in ("owner/set (config, train)", "/some/cache", "HF_HOME", "HF_HUB_OFFLINE=1", "--data-dir"):
        assert wanted in str(caught.value)


def test_a_hub_cache_without_room_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="install fewtune[run] to test reading from the hub")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setenv("HF_HOME", "/some/cache")
    with pytest.raises(DataError, match=r"could not be kept in the cache /some/cache \(No space left on device\)"):
        load_hub_rows("owner/set", "config", "train", "abc")
