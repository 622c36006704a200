"""Analysis and report import without torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import fewtune.analysis
import fewtune.report

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (fewtune.analysis, fewtune.report)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("module", MODULES)
def test_importing_leaves_torch_out(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
