"""The table of methods: name to module; adding a method is one file and one line here."""

from __future__ import annotations

from importlib import import_module

from fewtune.errors import FewtuneError, name_choices
from fewtune.methods.base import Method
from fewtune.system.plugins import add_plugins

OWN: dict[str, str] = {
    "majority": "fewtune.methods.majority",
    "tfidf": "fewtune.methods.tfidf",
    "probe": "fewtune.methods.probe",
    "zero_shot": "fewtune.methods.zero_shot",
    "in_context": "fewtune.methods.in_context",
    "knn_prompting": "fewtune.methods.knn_prompting",
    "embeddings": "fewtune.methods.embeddings",
    "contrastive": "fewtune.methods.contrastive",
    "vanilla": "fewtune.methods.vanilla",
    "pattern": "fewtune.methods.pattern",
    "adaptive": "fewtune.methods.adaptive",
    "lora": "fewtune.methods.lora",
    "bitfit": "fewtune.methods.bitfit",
    "ia3": "fewtune.methods.ia3",
    "soft_prompt": "fewtune.methods.soft_prompt",
    "self_training": "fewtune.methods.self_training",
    "context_distillation": "fewtune.methods.context_distillation",
}

METHODS = add_plugins(OWN, "fewtune.methods", "method")
"""Our own, and those that installed packages add by the entry points `fewtune.methods`."""


def get_method(name: str) -> Method:
    """The method of that name; raises FewtuneError naming the nearest where there is none."""
    if name not in METHODS:
        raise FewtuneError(name_choices(name, METHODS, "method"))
    method: Method = import_module(METHODS[name]).METHOD
    return method
