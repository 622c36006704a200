"""The parts of PEFT that fewtune uses, imported in one place.

Owns that importing them prints nothing: PEFT imports bitsandbytes where it is installed, which on some processors warns
that a faster kernel, of a package that nothing here needs, is not there.
"""

from __future__ import annotations

from fewtune.models.quiet import quiet_transformers

with quiet_transformers():
    from peft import (
        IA3Config,
        LoraConfig,
        PeftConfig,
        PeftModel,
        PrefixEncoder,
        PrefixTuningConfig,
        PromptEmbedding,
        PromptTuningConfig,
        get_peft_model,
        get_peft_model_state_dict,
        set_peft_model_state_dict,
    )
    from peft.tuners.lora import Linear as LoraLinear
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as IA3_FEEDFORWARD_MODULES,
    )
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as IA3_TARGET_MODULES
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as LORA_TARGET_MODULES

__all__ = [
    "IA3_FEEDFORWARD_MODULES",
    "IA3_TARGET_MODULES",
    "LORA_TARGET_MODULES",
    "BaseTunerLayer",
    "IA3Config",
    "LoraConfig",
    "LoraLinear",
    "PeftConfig",
    "PeftModel",
    "PrefixEncoder",
    "PrefixTuningConfig",
    "PromptEmbedding",
    "PromptTuningConfig",
    "get_peft_model",
    "get_peft_model_state_dict",
    "set_peft_model_state_dict",
]
