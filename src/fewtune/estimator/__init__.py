"""fewtune as a scikit-learn classifier: takes the usual kinds of rows and labels, fits and saves a model."""

from fewtune.estimator.classifier import FewtuneClassifier

__all__ = ["FewtuneClassifier"]
