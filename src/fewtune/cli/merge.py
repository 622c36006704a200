"""`fewtune merge`: folders of one study made into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fewtune.cli.output import say


def merge(
    parts: Annotated[list[Path], Parameter(negative="", help="Folders that `fewtune run --shard` wrote.")],
    *,
    out: Annotated[Path, Parameter(help="The folder to put all of their trials into.")],
) -> int:
    """Join the folders of a study that was run in parts; all other commands read the whole."""
    from fewtune.merging import merge_folders

    trials = merge_folders(parts, out, say)
    say(f"{out}: {trials} trials of {len(parts)} folders.")
    return 0
