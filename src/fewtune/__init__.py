"""fewtune: adapt a language model with few labelled examples, every way side by side, and say which to use.

From Python: `run_study`, `analyse`, `fit` and `load` (`fewtune.api`), and `FewtuneClassifier` for scikit-learn.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # what type checkers take for True; `typing` itself would be half of this import's time

if TYPE_CHECKING:
    from fewtune.api import analyse, fit, load, run_study
    from fewtune.estimator import FewtuneClassifier

__all__ = ["FewtuneClassifier", "analyse", "fit", "load", "run_study"]


def __getattr__(name: str) -> object:
    """The public names, imported when they are first asked for: `fewtune --help` needs none."""
    if name == "FewtuneClassifier":
        from fewtune.estimator import FewtuneClassifier

        return FewtuneClassifier
    if name in __all__:
        from fewtune import api

        found: object = getattr(api, name)
        return found
    raise AttributeError(f"module 'fewtune' has no attribute {name!r}")
