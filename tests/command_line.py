"""Commands run in the process of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune import cli


def call(*arguments: object) -> int:
    """Run the command line in this process: its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def run_cli(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, output, errors."""
    code, captured = call(*arguments), capsys.readouterr()
    return code, captured.out, captured.err
