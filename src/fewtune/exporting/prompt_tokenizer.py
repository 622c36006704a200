"""Builds a tokenizer that writes the prompt itself, so that callers of an exported model pass plain texts.

Owns where a prompt's own tokens stand. Most stand in the tokenizer's post-processor, which truncation leaves alone.
What would join with a text's first or last characters into one token goes before or behind the text in the normaliser
instead, as little of it as makes the tokens those of the whole prompt; this is checked over texts that open and close
in many ways. Source: https://huggingface.co/docs/tokenizers/api/post-processors
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

from fewtune.errors import PredictorError

PROBES = (
    *("a", "A good one", "bad.", "Why?", "so good!", "well...", "said (twice)", '"quoted"', "it's", "10", "3.5 of 5"),
    *(
        "-no-",
        "#tag",
        "@you",
        "http://a.b/c?d=1",
        "naïve café",
        "Жук",
        "中文。",
        "日本",
        "🙂",
        "good 📦",
        "a\nb",
        "a\n\nb",
        "a \n b",
        "a \n\n b",
        "a \t b",
        "x,",
    ),
    *(
        "y;",
        "z:",
        "e-mail",
        "50%",
        "$5",
        "a  b",
        "tab\tb",
        "[x]",
        "{y}",
        "/",
        "'",
        "…",
        "—",
        "end _",
        "UPPER",
        "ﬁn",
        "1,000",
    ),
)
"""Texts that open and close in many ways."""
_CLOSING = {"Regex": r"\z"}
"""Where the normaliser puts what stands behind a text: its very end."""


@dataclass(frozen=True)
class PromptParts:
    """A prompt as text: what stands before each of one or two texts, and behind the last; fields in that order."""

    fields: tuple[str, ...]
    literals: tuple[str, ...]
    """One more than there are fields."""


def split_prompt(before: str, template: str) -> PromptParts:
    """The parts of a template with a context before it.

    Raises PredictorError where the template names a field twice, or none: no tokenizer can hold that.
    """
    fields, literals = [], [before]
    for literal, name, _, _ in string.Formatter().parse(template):
        literals[-1] += literal
        if name is not None:
            fields.append(name)
            literals.append("")
    if len(set(fields)) != len(fields) or not 1 <= len(fields) <= 2:
        raise PredictorError(f"the prompt {template!r} does not name one or two texts, each once.")
    return PromptParts(tuple(fields), tuple(literals))


def build_prompt_tokenizer(source: Tokenizer, opening: Sequence[int], parts: PromptParts) -> Tokenizer:
    """The tokenizer that gives, of texts alone, the tokens of the whole prompt behind the opening tokens.

    Texts are taken without the white space around them. Raises PredictorError where no tokenizer can do it.
    """
    bare = json.loads(source.to_str())
    bare["post_processor"], bare["truncation"], bare["padding"] = None, None, None
    plain = Tokenizer.from_str(json.dumps(bare))
    whole = [
        plain.encode(_render(parts.literals, texts), add_special_tokens=False).ids for texts in _pick_probes(parts)
    ]
    # Byte-level tokenizers part letters from signs; of others a merge may go over the joint wherever no space stands.
    merges_over = "ByteLevel" not in json.dumps(bare.get("pre_tokenizer"))
    for head, tail in _list_joints(parts.literals):
        if merges_over and not _parts_at_spaces(parts.literals, head, tail):
            continue
        inner = Tokenizer.from_str(json.dumps(_normalise(bare, head, tail)))
        fixed = _find_fixed(inner, whole, _pick_probes(parts))
        if fixed is None:
            continue
        fixed[0] = [*opening, *fixed[0]]
        made = _normalise(bare, head, tail)
        made["post_processor"] = _write_processor(fixed, plain)
        return Tokenizer.from_str(json.dumps(made))
    raise PredictorError("this model's tokenizer joins the prompt with the texts in it, so that it cannot write it.")


def _pick_probes(parts: PromptParts) -> list[tuple[str, ...]]:
    if len(parts.fields) == 1:
        return [(probe,) for probe in PROBES]
    return [*zip(PROBES, reversed(PROBES), strict=True), *pairwise(PROBES)]


def _render(literals: Sequence[str], texts: Sequence[str]) -> str:
    return literals[0] + "".join(text + literal for text, literal in zip(texts, literals[1:], strict=True))


def _list_joints(literals: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What the normaliser may put before and behind every text: as little as may be first."""
    opens = min(literals[:-1], key=len)
    heads = [
        opens[len(opens) - n :]
        for n in range(len(opens) + 1)
        if all(x.endswith(opens[len(opens) - n :]) for x in literals[:-1])
    ]
    closes = min(literals[1:], key=len)
    tails = [closes[:n] for n in range(len(closes) + 1) if all(x.startswith(closes[:n]) for x in literals[1:])]
    pairs = [(head, tail) for head in heads for tail in tails]
    for head, tail in sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1])):
        # Between two texts one literal gives both its start and its end.
        if all(len(head) + len(tail) <= len(middle) for middle in literals[1:-1]):
            yield head, tail


def _parts_at_spaces(literals: Sequence[str], head: str, tail: str) -> bool:
    """Whether what is left of every literal, once the texts have these, ends or begins with a space towards them."""
    before = [literal[: len(literal) - len(head)] for literal in literals[:-1]]
    behind = [literal[len(tail) :] for literal in literals[1:]]
    return all(not x or x[-1].isspace() for x in before) and all(not x or x[0].isspace() for x in behind)


def _normalise(bare: dict[str, Any], head: str, tail: str) -> dict[str, Any]:
    """A tokenizer's content with a normaliser that strips each text and puts these before and behind it."""
    steps: list[dict[str, Any]] = [{"type": "Strip", "strip_left": True, "strip_right": True}]
    steps += [{"type": "Prepend", "prepend": head}] if head else []
    steps += [{"type": "Replace", "pattern": _CLOSING, "content": tail}] if tail else []
    own = bare.get("normalizer")
    return {**bare, "normalizer": {"type": "Sequence", "normalizers": [*steps, *([own] if own else [])]}}


def _find_fixed(
    inner: Tokenizer, whole: Sequence[Sequence[int]], probes: Sequence[tuple[str, ...]]
) -> list[list[int]] | None:
    """The tokens before, between and behind the texts' own, alike for every probe; None where there are none such."""
    pieces = [[inner.encode(text, add_special_tokens=False).ids for text in texts] for texts in probes]
    for fixed in _split(whole[0], pieces[0]):
        if all(_join(fixed, own) == list(tokens) for own, tokens in zip(pieces, whole, strict=True)):
            return fixed
    return None


def _split(tokens: Sequence[int], pieces: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Every way to find the pieces in tokens, in order: what stands before, between and behind them."""
    if not pieces:
        yield [list(tokens)]
        return
    first = pieces[0]
    for place in range(len(tokens) - len(first) + 1):
        if list(tokens[place : place + len(first)]) == first:
            for rest in _split(tokens[place + len(first) :], pieces[1:]):
                yield [list(tokens[:place]), *rest]


def _join(fixed: Sequence[list[int]], pieces: Sequence[list[int]]) -> list[int]:
    return [*fixed[0], *(token for own, after in zip(pieces, fixed[1:], strict=True) for token in (*own, *after))]


def _write_processor(fixed: Sequence[list[int]], plain: Tokenizer) -> dict[str, Any]:
    """Template processing for one text or for two: a post-processor that puts the fixed tokens around them."""
    names = [f"prompt{number}" for number in range(len(fixed))]
    special = {
        name: {"id": name, "ids": ids, "tokens": [plain.id_to_token(token) for token in ids]}
        for name, ids in zip(names, fixed, strict=True)
        if ids
    }

    def put(name: str) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": name, "type_id": 0}}] if name in special else []

    def text(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    single = [*put(names[0]), text("A"), *put(names[-1])]
    middle = put(names[1]) if len(fixed) == 3 else []
    pair = [*put(names[0]), text("A"), *middle, text("B"), *put(names[-1])]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
