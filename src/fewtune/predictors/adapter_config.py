"""Reads an adapter's configuration from PEFT's own file without PEFT, as the file may come from anywhere.

Owns which of PEFT's keys mean anything here, those that fewtune sets, and what they may hold. PEFT's configuration is
made anew of these alone. Some of the others have PEFT import a module, run a regular expression or load a tokenizer:
what is not PEFT's default is refused by its name.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fewtune.errors import PredictorError, list_names, name_choices, shorten
from fewtune.models.adapters import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
)
from fewtune.predictors.manifest import COPY_ANEW

MOST_MODULES = 1000
"""Names of modules that an adapter hangs on; fewtune writes the last parts of names, some ten."""
LARGEST_ALPHA = 1e12
"""As large as settings allow."""
# A plain name, as nothing else is compared with modules' names without a regular expression.
ModuleNames = Annotated[
    tuple[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=200)], ...],
    Field(min_length=1, max_length=MOST_MODULES),
]


class AdapterForm(BaseModel):
    """Keys that every adapter has; of these, all but its task are told to whoever reads the file, and not used."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    task_type: Literal["CAUSAL_LM", "FEATURE_EXTRACTION"]
    base_model_name_or_path: str | None = None
    revision: str | None = None
    peft_version: str | None = None
    inference_mode: bool = True

    @abstractmethod
    def build(self) -> PeftConfig:
        """PEFT's configuration of these values, and its defaults for all others."""


class LoraForm(AdapterForm):
    """Low-rank adapters, DoRA's too."""

    peft_type: Literal["LORA"]
    r: int = Field(ge=1)
    lora_alpha: float = Field(gt=0, le=LARGEST_ALPHA)
    lora_dropout: float = Field(ge=0, lt=1)
    use_rslora: bool
    use_dora: bool
    fan_in_fan_out: bool
    target_modules: ModuleNames

    def build(self) -> LoraConfig:
        return LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,  # type: ignore[arg-type]  # PEFT only divides by it
            lora_dropout=self.lora_dropout,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            fan_in_fan_out=self.fan_in_fan_out,
            target_modules=list(self.target_modules),
            task_type=self.task_type,
            inference_mode=True,
        )


class VectorsForm(AdapterForm):
    """(IA)³: vectors that scale activations."""

    peft_type: Literal["IA3"]
    fan_in_fan_out: bool
    target_modules: ModuleNames
    feedforward_modules: ModuleNames

    def build(self) -> IA3Config:
        return IA3Config(
            fan_in_fan_out=self.fan_in_fan_out,
            target_modules=list(self.target_modules),
            # PEFT refuses others; they would be no layer's.
            feedforward_modules=[name for name in self.feedforward_modules if name in self.target_modules],
            task_type=self.task_type,
            inference_mode=True,
        )


class _TokensForm(AdapterForm):
    """Virtual tokens: how many, and how wide."""

    num_virtual_tokens: int = Field(ge=1)
    token_dim: int = Field(ge=1)
    num_transformer_submodules: Literal[1]
    num_layers: int | None
    num_attention_heads: int | None

    def list_sizes(self) -> dict[str, Any]:
        names = ("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_layers", "num_attention_heads")
        return {name: getattr(self, name) for name in names}


class PromptForm(_TokensForm):
    """Virtual tokens as embeddings."""

    peft_type: Literal["PROMPT_TUNING"]
    prompt_tuning_init: Literal["SAMPLE_VOCAB", "RANDOM"]

    def build(self) -> PromptTuningConfig:
        return PromptTuningConfig(
            **self.list_sizes(),
            prompt_tuning_init=self.prompt_tuning_init,
            task_type=self.task_type,
            inference_mode=True,
        )


class PrefixForm(_TokensForm):
    """Virtual tokens as each layer's keys and values."""

    peft_type: Literal["PREFIX_TUNING"]

    def build(self) -> PrefixTuningConfig:
        return PrefixTuningConfig(**self.list_sizes(), task_type=self.task_type, inference_mode=True)


FORMS: dict[str, type[AdapterForm]] = {
    "LORA": LoraForm,
    "IA3": VectorsForm,
    "PROMPT_TUNING": PromptForm,
    "PREFIX_TUNING": PrefixForm,
}
"""Kinds of adapter that fewtune writes, by PEFT's name."""


def read_adapter_config(path: Path, kinds: Collection[str]) -> PeftConfig:
    """PEFT's configuration of one of these kinds; raises PredictorError naming the key that cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except (ValueError, RecursionError, OSError) as error:
        raise PredictorError(f"{path}: not readable as JSON. {COPY_ANEW}") from error
    kind = content.get("peft_type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise PredictorError(f"{path}: {name_choices(str(kind), kinds, 'peft_type')} {COPY_ANEW}")
    form = FORMS[kind]
    try:
        known = form.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise PredictorError(f"{path}: {shorten(reason, 300)}. {COPY_ANEW}") from error
    config = known.build()
    others = {name: value for name, value in content.items() if name not in form.model_fields}
    defaults = json.loads(json.dumps(config.to_dict(), default=list))
    asking = [
        name
        for name, value in others.items()
        # A key that this PEFT does not know asks for nothing where it is null, false or empty.
        if (value != defaults[name] if name in defaults else bool(value))
    ]
    if asking:
        raise PredictorError(
            f"{path}: it sets {list_names(asking)}, as fewtune never does, and PEFT might run code for it. {COPY_ANEW} "
            f"It was saved with PEFT {shorten(known.peft_version or 'of no said version')}, and this is "
            f"{version('peft')}: where that is newer, update peft."
        )
    return config
