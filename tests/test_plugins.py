"""Another package adds a method and a task by entry points, once it is installed, and studies name them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fewtune.cli import main

PAGE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
ENTRIES = "[fewtune.methods]\nnorms = {module}.norms\n[fewtune.tasks]\nparity = {module}.parity\n"


def read_example(path: str) -> str:
    found = re.search(re.escape(f"`{path}`:") + r"\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def install(folder: Path, name: str, entries: str) -> Path:
    """Install a wheel of the two worked examples into a folder of its own, with pip, and return that folder."""
    info = f"{name}-1.0.dist-info"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}/norms.py", read_example("src/fewtune/methods/norms.py"))
        archive.writestr(f"{name}/parity.py", read_example("src/fewtune/tasks/parity.py"))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", entries)
        archive.writestr(f"{info}/RECORD", "")
    target = folder / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*command, "--disable-pip-version-check", str(wheel)], check=True)
    return target


def run_beside(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fewtune.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=120
    )


def test_an_installed_package_adds_a_method_and_a_task(
    model_folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = install(tmp_path, "tiny_plugin", ENTRIES.format(module="tiny_plugin"))
    assert "layer norms alone" in run_beside(installed, "list", "methods").stdout
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: added\nmodels: [{model_folders['llama']}]\ntasks: [{{parity: {{limit: 60}}}}]\n"
        "methods: [{norms: {epochs: 2}}]\nshots: [8]\nprecision: float32\nfloors: false\n"
    )
    done = run_beside(installed, "run", str(study), "--out", str(tmp_path / "out"))
    assert done.returncode == 0 and "[1/1] parity" in done.stdout, done.stderr
    with pytest.raises(SystemExit) as ended:  # where the package is not installed
        main(["check", str(study)])
    assert ended.value.code == 2 and "unknown method 'norms'" in capsys.readouterr().err


@pytest.mark.parametrize("taken", ["lora"])
def test_a_name_that_is_taken_is_told_with_the_package(tmp_path: Path, taken: str) -> None:
    installed = install(tmp_path, "greedy_plugin", f"[fewtune.methods]\n{taken} = greedy_plugin.norms\n")
    told = run_beside(installed, "list", "methods")
    assert told.returncode == 2 and "Traceback" not in told.stderr
    assert "the installed package greedy_plugin adds a method 'lora', a name that fewtune itself has" in told.stderr
