"""Checks that an exported tokenizer reads back as it was written.

Owns that comparison. Transformers chooses a tokenizer's class by the model's type as well as by its settings, and some
classes build their normaliser anew: what an export put there is lost then.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase, TokenizersBackend

from fewtune.errors import PredictorError
from fewtune.exporting.prompt_tokenizer import PROBES
from fewtune.records import open_scratch

_AROUND = ("{}", " {}", "{}\n", "\t{} ")
"""What may stand around a text."""


def check_backend(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The tokenizer of the `tokenizers` library below one; raises PredictorError where it is written in Python."""
    if not isinstance(tokenizer, TokenizersBackend):
        raise PredictorError(
            f"its tokenizer, {type(tokenizer).__name__}, is written in Python: no file can hold it with a prompt."
        )
    return tokenizer.backend_tokenizer


def check_reread(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Raise PredictorError where a tokenizer beside a model's configuration is read back as another."""
    texts = [around.format(probe) for probe in PROBES for around in _AROUND]
    with open_scratch() as place:
        config.save_pretrained(str(place))
        tokenizer.save_pretrained(str(place))
        read: Any = AutoTokenizer.from_pretrained(place, local_files_only=True)
    if read(texts).input_ids != tokenizer(texts).input_ids:
        raise PredictorError(
            f"Transformers reads a tokenizer beside a model of type {config.model_type!r} as {type(read).__name__}, "
            "which leaves out what strips texts and writes the prompt."
        )
