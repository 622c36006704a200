"""`fewtune merge`: folders of one study made into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fewtune.cli.options import check_number
from fewtune.cli.output import say
from fewtune.plurals import pluralise


def merge(
    parts: Annotated[list[Path], Parameter(help="Folders that `fewtune run --shard` wrote.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="The folder to put all of their trials into.")],
    race: Annotated[
        int | None, Parameter(help="Draws that a race may have, of which these are the first look: it goes on there.")
    ] = None,
) -> int:
    """Join the folders of a study that was run in parts; all other commands read the whole."""
    from fewtune.running.merging import merge_folders
    from fewtune.study.values import MOST_ENTRIES

    if race is not None:
        check_number("--race", race, 2, MOST_ENTRIES)
    trials = merge_folders(parts, out, say, race=race)
    say(f"{out}: {pluralise(trials, 'trial')} of {pluralise(len(parts), 'folder')}.")
    return 0
