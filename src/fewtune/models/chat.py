"""A model's chat template as an option: `smollm2-135m:chat` is the same model, asked as its template has a user ask.

Owns the suffix of a name, and what the template puts around a user's turn and before the answer. A prompt with all that
stands before it is one turn of the user's, and a label word begins the assistant's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.errors import ModelError
from fewtune.models.configuration import describe_error, read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = ":chat"
_ASKED = "fewtune asks this"
"""A turn of the user's that no template holds."""


def is_chat(name: str) -> bool:
    """Whether a model's name asks for its chat template."""
    return name.endswith(CHAT)


def drop_chat(name: str) -> str:
    """The name of the model alone."""
    return name.removesuffix(CHAT)


def fingerprint_chat(fingerprint: str) -> str:
    """The SHA-256 of a model that is asked by its template, from the model's."""
    return hashlib.sha256(f"{fingerprint}{CHAT}".encode()).hexdigest()


def refuse_without_template(name: str, path: Path) -> None:
    """Raise ModelError where a model's folder holds no chat template."""
    settings = path / "tokenizer_config.json"
    held = settings.is_file() and bool(read_json_object(settings).get("chat_template"))
    if not held and not (path / "chat_template.jinja").is_file():
        raise ModelError(
            f"model {name!r}: {path} holds no chat template (chat_template.jinja, or chat_template in "
            f"tokenizer_config.json). Give {drop_chat(name)!r}, which is asked in plain text."
        )


def read_turn(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[list[int], list[int]]:
    """Tokens that the template puts before a user's only turn, and behind it up to the answer.

    Raises ModelError where the template cannot be used so.
    """
    try:
        written = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": _ASKED}], tokenize=False, add_generation_prompt=True
            )
        )
    except Exception as error:  # a template is a program: what it raises can be of any type
        raise ModelError(f"model {name!r}: its chat template cannot be used: {describe_error(error)}.") from error
    before, found, behind = written.partition(_ASKED)
    if not found or not behind.strip():
        raise ModelError(
            f"model {name!r}: its chat template does not write a user's turn as it is given and something before the "
            f"answer. Give {drop_chat(name)!r}, which is asked in plain text."
        )
    opening, closing = (list(tokenizer(text, add_special_tokens=False).input_ids) for text in (before, behind))
    return opening, closing
