"""fewtune: adapt a language model with few labelled examples, every way side by side, and say which to use.

From Python: `run_study`, `analyse`, `fit` and `load` (`fewtune.api`).
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fewtune.api import analyse, fit, load, run_study

__all__ = ["analyse", "fit", "load", "run_study"]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are first asked for: `fewtune --help` needs none."""
    if name in __all__:
        from fewtune import api

        return getattr(api, name)
    raise AttributeError(f"module 'fewtune' has no attribute {name!r}")
