"""Language models: which there are, where their weights lie, and one loaded once a process.

Owns nothing but the names that the rest of fewtune uses. Torch is imported only where a model is loaded.
"""

from fewtune.models.cache import ModelCache
from fewtune.models.catalogue import CATALOGUE
from fewtune.models.configuration import max_positions, read_config, refuse_unsuited, sketch_network
from fewtune.models.inspection import inspect_model
from fewtune.models.language_model import LanguageModel
from fewtune.models.loading import load_model
from fewtune.models.precision import Precision, find_device, has_native_bfloat16, resolve_precision
from fewtune.models.snapshot import ModelSnapshot, find_model
from fewtune.models.tokenizers import share_vocabulary

__all__ = [
    "CATALOGUE",
    "LanguageModel",
    "ModelCache",
    "ModelSnapshot",
    "Precision",
    "find_device",
    "find_model",
    "has_native_bfloat16",
    "inspect_model",
    "load_model",
    "max_positions",
    "read_config",
    "refuse_unsuited",
    "resolve_precision",
    "share_vocabulary",
    "sketch_network",
]
