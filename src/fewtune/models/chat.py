"""A model's chat template as a variant: `smollm2-135m:chat` is the same model asked through its template.

Owns the suffix of a name, and what the template puts around a user's turn and before the answer. A prompt with all that
stands before it is one turn of the user's, and a label word begins the assistant's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.errors import ModelError
from fewtune.models.configuration import describe_error, read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fewtune.models.architectures.base import AttentionKind

CHAT = ":chat"
TEMPLATE = "chat_template.jinja"
"""Its file; a program that Transformers runs in a sandbox, without files or network."""
_ASKED, _ANSWERED = "fewtune asks this", "and hears that"
"""Turns that no template holds."""


def is_chat(name: str) -> bool:
    """Whether a model's name asks for its chat template."""
    return name.endswith(CHAT)


def drop_chat(name: str) -> str:
    """The name of the model alone."""
    return name.removesuffix(CHAT)


def read_template(name: str, path: Path) -> str:
    """The chat template in a model's folder; raises ModelError where there is none, or one that tells the time."""
    settings, alone = path / "tokenizer_config.json", path / TEMPLATE
    held = read_json_object(settings).get("chat_template") if settings.is_file() else None
    template = alone.read_text(encoding="utf-8") if alone.is_file() else held
    if not template or not isinstance(template, str):
        raise ModelError(
            f"model {name!r}: {path} holds no chat template ({TEMPLATE}, or chat_template in tokenizer_config.json). "
            f"Give {drop_chat(name)!r}, which is asked in plain text."
        )
    if "strftime_now" in template:
        raise ModelError(
            f"model {name!r}: its chat template writes the date (strftime_now), so that it would be asked otherwise "
            f"each day. Put the date's text there, or give {drop_chat(name)!r}."
        )
    return template


def fingerprint_chat(fingerprint: str, template: str) -> str:
    """The SHA-256 of a model that is asked by a template, from the model's."""
    return hashlib.sha256(f"{fingerprint}{CHAT} {template}".encode()).hexdigest()


@dataclass(frozen=True)
class AnswerOpening:
    """How a word opens an answer of its own: behind the character `stem`, which ends a turn, and the text `lead`."""

    stem: str
    lead: str


@dataclass(frozen=True)
class Turn:
    """What a template puts around a user's only turn, in tokens, and how the answer's text goes on behind that."""

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    answer: AnswerOpening


def read_turn(tokenizer: PreTrainedTokenizerBase, name: str, attention: AttentionKind) -> Turn:
    """What a tokenizer's template writes; raises ModelError where it cannot be used for one turn and its answer."""
    if attention != "causal":
        raise ModelError(f"model {name!r}: an encoder answers no turn. Give {drop_chat(name)!r}.")
    asked = [{"role": "user", "content": _ASKED}]
    try:
        written = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        answered = str(
            tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": _ANSWERED}], tokenize=False)
        )
    except Exception as error:  # a template is a program: what it raises can be of any type
        raise ModelError(f"model {name!r}: its chat template cannot be used: {describe_error(error)}.") from error
    before, found, behind = written.partition(_ASKED)
    if not found or not behind.strip():
        raise ModelError(
            f"model {name!r}: its chat template does not write a user's turn as it is given and something before the "
            f"answer. Give {drop_chat(name)!r}, which is asked in plain text."
        )
    went_on = answered.partition(_ANSWERED)[0]
    lead = went_on.removeprefix(written) if went_on.startswith(written) else ""
    opening, closing = (tuple(tokenizer(text, add_special_tokens=False).input_ids) for text in (before, behind))
    return Turn(opening, closing, AnswerOpening(behind[-1], lead))
