"""Another package adds a method and a task by entry points, once it is installed, and studies name them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
    """The two worked examples as an installation of their wheel lays them out, in a folder of its own: that folder."""
    target = folder / "installed"
    package, told = target / name, target / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    told.mkdir()
    (package / "__init__.py").touch()
    (package / "norms.py").write_text(read_example("src/fewtune/methods/norms.py"), encoding="utf-8")
    (package / "parity.py").write_text(read_example("src/fewtune/tasks/parity.py"), encoding="utf-8")
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (told / "entry_points.txt").write_text(entries, encoding="utf-8")
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
        "methods: [{norms: {epochs: 2}}]\nshots: [8]\nprecision: float32\nbaselines: false\n"
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
