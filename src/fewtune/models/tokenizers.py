"""Reads models' tokenizers, and compares one with a network's vocabulary or with another tokenizer.

Does not write prompts with them (`prompts`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fewtune.errors import ModelError
from fewtune.models.architectures import architecture_of
from fewtune.models.chat import is_chat
from fewtune.models.configuration import describe_error, read_json_object
from fewtune.models.snapshot import ModelSnapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """A model folder's tokenizer; raises ModelError where there is none or it cannot be used."""
    from transformers import AutoTokenizer

    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (path / name).is_file():
            read_json_object(path / name)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=False, local_files_only=True
        )
        tokenizer("a")
    except Exception as error:  # what a damaged file leads to can be of any type
        raise ModelError(
            f"{path}: its tokenizer cannot be used: {describe_error(error)}. Save it beside the model with "
            "`tokenizer.save_pretrained`."
        ) from error
    own = tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys()
    if own <= set(tokenizer.all_special_tokens):  # some classes need no file to be made
        raise ModelError(
            f"{path}: it holds no tokenizer, no file of tokens such as tokenizer.json. Save the model's own beside it "
            "with `tokenizer.save_pretrained`."
        )
    return tokenizer


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel) -> None:
    """Raise ModelError where a tokenizer writes tokens that a network has no embedding for.

    Special tokens such as padding that was added may lie beyond it: `prompts.tokens` reads none out of a text.
    """
    rows = int(architecture_of(network).find_embeddings(network).weight.shape[0])
    special = set(tokenizer.all_special_ids) - set(tokenizer("a").input_ids)
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    met = [(number, token) for number, token in beyond if number not in special]
    if met:
        number, token = met[0]
        raise ModelError(
            f"model {name!r}: its tokenizer has {len(met)} tokens that the network does not know: {token!r} is number "
            f"{number} and the network has {rows} token embeddings. Put the tokenizer there that the model was trained "
            "with, or resize its embeddings and train them."
        )


def tell_unlike_vocabulary(teacher: ModelSnapshot, student: ModelSnapshot) -> str | None:
    """Why one cannot teach the other tokens, and the way out; None where both know the same."""
    if share_vocabulary(teacher, student):
        return None
    return (
        f"teacher {teacher.name!r} and student {student.name!r} have different vocabularies. Use a teacher of the "
        "student's family"
    )


def share_vocabulary(first: ModelSnapshot, second: ModelSnapshot) -> bool:
    """Whether two models' tokenizers know the same tokens by the same numbers; loads no weights.

    One that is asked by its chat template says other words than one that is not.
    """
    if is_chat(first.name) != is_chat(second.name):
        return False
    one, other = (read_tokenizer(snapshot.path).get_vocab() for snapshot in (first, second))
    return bool(one == other)
