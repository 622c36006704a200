"""Fetching whole or not at all, reading archives and row files, keeping texts apart."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewtune.errors import DataError
from fewtune.tasks import base, sources
from fewtune.tasks.base import Example

CONTENT = b"a package"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packages"


def answer_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None, stderr: str = "") -> list[list[str]]:
    """Stand in for pip: it leaves `content` in the folder asked for, or fails with `stderr`."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", stderr)
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "file").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", run)
    return calls


def test_a_package_is_fetched_once_and_then_reused(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer_pip(monkeypatch, CONTENT)
    path = sources.fetch_package("some-name", "1.0", SHA256)
    assert path == packages / "some_name-1.0-py3-none-any.whl"
    assert path.read_bytes() == CONTENT
    assert sources.fetch_package("some-name", "1.0", SHA256) == path
    assert len(calls) == 1
    assert "--require-hashes" in calls[0]


def test_a_package_of_another_hash_leaves_nothing_behind(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_pip(monkeypatch, b"something else")
    with pytest.raises(DataError, match=r"its SHA-256 is .*, wanted is"):
        sources.fetch_package("name", "1.0", SHA256, kind="sdist")
    assert [path.name for path in packages.iterdir() if not path.name.endswith(".lock")] == []


def test_an_interrupted_fetch_leaves_nothing_behind(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(command: list[str], **_: Any) -> None:
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        (target / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sources.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sources.fetch_package("name", "1.0", SHA256)
    assert [path.name for path in packages.iterdir() if not path.name.endswith(".lock")] == []


def test_a_failed_fetch_says_what_to_do(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_pip(monkeypatch, None, "ERROR: No matching distribution found for name==1.0\n")
    with pytest.raises(DataError) as caught:
        sources.fetch_package("name", "1.0", SHA256, kind="sdist")
    message = str(caught.value)
    assert message.startswith("name 1.0 could not be fetched with pip (ERROR: No matching distribution")
    assert "Set the package index that pip uses" in message
    assert f"put the file at {packages / 'name-1.0.tar.gz'} by hand" in message


def test_a_file_put_by_hand_is_checked(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer_pip(monkeypatch, None)
    packages.mkdir(parents=True)
    (packages / "name-1.0.tar.gz").write_bytes(CONTENT)
    assert sources.fetch_package("name", "1.0", SHA256, kind="sdist").read_bytes() == CONTENT
    (packages / "name-1.0.tar.gz").write_bytes(b"wrong")
    with pytest.raises(DataError, match="Delete it: the next run fetches it again"):
        sources.fetch_package("name", "1.0", SHA256, kind="sdist")
    assert calls == []


def make_tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    return buffer.getvalue()


def test_members_are_read_by_exact_name_from_tar_and_zip(tmp_path: Path) -> None:
    inner = make_tar({"folder/rows.txt": b"rows"})
    outer = tmp_path / "outer.tar.gz"
    outer.write_bytes(make_tar({"inner.tar.gz": inner}))
    assert sources.read_member(sources.read_member(outer, "inner.tar.gz"), "folder/rows.txt") == b"rows"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("folder/rows.txt", "zipped")
    assert sources.read_member(tmp_path / "a.whl", "folder/rows.txt") == b"zipped"


@pytest.mark.parametrize("member", ["rows.txt", "link", "../inner.tar.gz"])
def test_other_members_and_links_are_refused(tmp_path: Path, member: str) -> None:
    path = tmp_path / "outer.tar.gz"
    path.write_bytes(make_tar({"folder/rows.txt": b"rows"}))
    with pytest.raises(DataError, match="has no file"):
        sources.read_member(path, member)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outer.tar.gz"
    path.write_bytes(make_tar({"rows.txt": bytes(range(256)) * 40})[:60])
    with pytest.raises(DataError, match=r"outer\.tar\.gz: cannot be read as an archive"):
        sources.read_member(path, "rows.txt")


def test_tsv_rows_take_quotes_and_line_separators_as_text(write: Callable[..., Path]) -> None:
    path = write("a.tsv", 'id\ttext\r\n1\t"so\u2028he said\r\n')
    assert sources.read_tsv(path) == [{"id": "1", "text": '"so\u2028he said'}]
    assert sources.read_tsv(path, ("a", "b"))[0] == {"a": "id", "b": "text"}


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
        sources.read_tsv(path) if name.endswith("tsv") else sources.read_jsonl(path, ("text",))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_hub_out_of_reach_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="install fewtune[run] to test reading from the hub")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setenv("HF_HOME", "/some/cache")
    with pytest.raises(DataError) as caught:
        sources.load_hub_rows("owner/set", "config", "train", "abc")
    for wanted in ("owner/set (config, train)", "/some/cache", "HF_HOME", "HF_HUB_OFFLINE=1", "--data-dir"):
        assert wanted in str(caught.value)


def rows(*texts: str, label: int = 0) -> tuple[Example, ...]:
    return tuple(Example(text, {"text": text}, label) for text in texts)


def test_texts_that_differ_in_case_and_punctuation_are_the_same() -> None:
    kept, notes = sources.drop_repeats(rows("A b.", "a  B", "c"), "train")
    assert [row.row_id for row in kept] == ["A b.", "c"]
    assert notes == ["train: 1 rows left out that repeat the text of another row."]


def test_texts_of_punctuation_alone_are_told_apart() -> None:
    assert len(sources.drop_repeats(rows(":)", ":("), "train")[0]) == 2


def test_a_text_with_two_labels_is_left_out() -> None:
    kept, notes = sources.drop_repeats((*rows("a", "b"), *rows("A", label=1)), "train")
    assert [row.row_id for row in kept] == ["b"]
    assert notes == ["train: 2 rows left out whose text carries different labels."]


def test_sets_share_no_text_once_separated() -> None:
    inside = base.TestSet("in_domain", rows("t1", "both"), ("a", "b"), (0, 1))
    outside = base.TestSet("out", rows("o1", "Both!"), ("a", "b"), (0, 1))
    train, (inside, outside), notes = sources.separate_sets(rows("x", "T1", "o1"), (inside, outside))
    assert [row.row_id for row in train] == ["x"]
    assert [row.row_id for row in inside.rows] == ["t1"]
    assert len(outside.rows) == 2
    assert len(notes) == 2


def test_the_fingerprint_depends_on_ids_texts_labels_and_sets() -> None:
    train = rows("a", "b")
    test_set = base.TestSet("in_domain", rows("c"), ("a", "b"), (0, 1))
    variants = [
        (train, [test_set]),
        (rows("a", "b", label=1), [test_set]),
        (train[:1], [test_set]),
        (train[::-1], [test_set]),
        (train, []),
        (tuple(Example(row.row_id, {"text": row.fields["text"] + " "}, 0) for row in train), [test_set]),
    ]
    assert len({sources.fingerprint_rows(*variant) for variant in variants}) == len(variants)
