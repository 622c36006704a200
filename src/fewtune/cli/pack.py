"""`fewtune pack`: a finished study's many files made into two."""

from __future__ import annotations

from fewtune.cli.options import OutFolder
from fewtune.cli.output import say
from fewtune.plurals import pluralise


def pack(out: OutFolder, /) -> int:
    """Put a finished study's records into one file and its predictions into another; every command reads these too."""
    from fewtune.running.output_folder import pack_folder

    trials = pack_folder(out)
    say(f"{out}: {pluralise(trials, 'trial')} packed into records.jsonl and predictions.parquet.")
    return 0
