"""Language models: finds, fetches, identifies and reads them.

Owns nothing but the names that the rest of fewtune uses. Torch is imported only where weights are read.
"""

from fewtune.models.architectures import refuse_unsuited
from fewtune.models.catalogue import CATALOGUE, format_identity, format_terms, is_english
from fewtune.models.configuration import max_positions, read_config
from fewtune.models.inspection import count_parameters, inspect_model
from fewtune.models.precision import Precision, find_device, has_native_bfloat16, resolve_precision
from fewtune.models.snapshot import ModelSnapshot, find_model, place_model
from fewtune.models.tokenizers import share_vocabulary, tell_unlike_vocabulary

__all__ = [
    "CATALOGUE",
    "ModelSnapshot",
    "Precision",
    "count_parameters",
    "find_device",
    "find_model",
    "format_identity",
    "format_terms",
    "has_native_bfloat16",
    "inspect_model",
    "is_english",
    "max_positions",
    "place_model",
    "read_config",
    "refuse_unsuited",
    "resolve_precision",
    "share_vocabulary",
    "tell_unlike_vocabulary",
]
