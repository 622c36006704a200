"""Analysis and report import without torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import fewtune.analysis
import fewtune.report

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (fewtune.analysis, fewtune.report)
    for module in pkgutil.iter_modules(package.__path__)
]
# One process for all: the first module that brings torch in is named.
IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
"""


def test_importing_leaves_torch_out() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_EACH, *MODULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
