"""fewtune as a scikit-learn classifier: rows and labels of any usual kind in, a fitted and saved model out."""

from fewtune.estimator.classifier import FewtuneClassifier

__all__ = ["FewtuneClassifier"]
