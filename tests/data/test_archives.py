"""Members of archives are read by exact name, and nothing is unpacked."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fewtune.data.archives import read_member
from fewtune.errors import DataError


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
    assert read_member(read_member(outer, "inner.tar.gz"), "folder/rows.txt") == b"rows"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("folder/rows.txt", "zipped")
    assert read_member(tmp_path / "a.whl", "folder/rows.txt") == b"zipped"


@pytest.mark.parametrize("member", ["rows.txt", "link", "../inner.tar.gz"])
def test_other_members_and_links_are_refused(tmp_path: Path, member: str) -> None:
    path = tmp_path / "outer.tar.gz"
    path.write_bytes(make_tar({"folder/rows.txt": b"rows"}))
    with pytest.raises(DataError, match="has no file"):
        read_member(path, member)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outer.tar.gz"
    path.write_bytes(make_tar({"rows.txt": bytes(range(256)) * 40})[:60])
    with pytest.raises(DataError, match=r"outer\.tar\.gz: cannot be read as an archive"):
        read_member(path, "rows.txt")
