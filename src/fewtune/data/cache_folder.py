"""The folder that fetched files are kept in, from the environment or the platform's default."""

from __future__ import annotations

import os
from pathlib import Path

CHECKPOINTS = "checkpoints"
"""Its folder of fits that did not end yet."""


def cache_folder() -> Path:
    """The folder that fetched files are kept in: `$FEWTUNE_CACHE`, else the platform's user cache."""
    given = os.environ.get("FEWTUNE_CACHE")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("fewtune"))
