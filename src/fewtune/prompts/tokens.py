"""Encodes prompts and label words as tokens, and shortens texts that are too long.

Owns tokenisation and its seconds: the tokens that open a prompt once, label words without stray special tokens, and
which text loses tokens when a row is too long (never the end of the prompt). Does not know models' weights or methods.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from fewtune.errors import DataError
from fewtune.models.chat import AnswerOpening
from fewtune.prompts.template import list_fields, render
from fewtune.records import CutInputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

from fewtune.tasks.base import Example, Pattern


@dataclass(frozen=True)
class Surroundings:
    """What stands around a prompt and within it, as the model's architecture or its chat template says."""

    opening: Sequence[int]
    """Special tokens that stand once before a prompt."""
    closing: Sequence[int] = ()
    """Special tokens that stand once behind it."""
    mask: int | None = None
    """The token in whose place a word is said; None: words follow the prompt."""
    answer: AnswerOpening | None = None
    """A word opens an answer, behind the closing tokens, and does not go on with the prompt."""
    between: str = "\n"
    """The text that stands between two of a row's own."""


class Tokenizer:
    """A model's own tokenizer, `source`, as prompts are written with it; `seconds` is all the time it has taken."""

    def __init__(self, source: PreTrainedTokenizerBase, around: Surroundings, known: int | None = None) -> None:
        """`known`: how many tokens the network has embeddings of; a text spells special ones beyond."""
        self.source = source
        self.opening = list(around.opening)
        self.closing = list(around.closing)
        self.mask = around.mask
        self.answer = around.answer
        self.between = around.between
        self.special_tokens = frozenset(source.all_special_ids)
        """Tokens that are never text: those that end it, separate or pad."""
        beyond = [token for token in self.special_tokens if known is not None and token >= known]
        self.unknown = {token: str(source.convert_ids_to_tokens(token)) for token in beyond}
        """The spelling of special tokens that the network knows nothing of."""
        self._spelt = {
            token: source(word, add_special_tokens=False, split_special_tokens=True).input_ids
            for token, word in self.unknown.items()
        }
        self.seconds = 0.0

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts without any special tokens."""
        started = time.perf_counter()
        ids: list[list[int]] = self.source(list(texts), add_special_tokens=False).input_ids if texts else []
        if self._spelt:
            ids = [[part for token in tokens for part in self._spelt.get(token, [token])] for tokens in ids]
        self.seconds += time.perf_counter() - started
        return ids

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        """The text of tokens."""
        started = time.perf_counter()
        text = str(self.source.decode(list(tokens), skip_special_tokens=skip_special))
        self.seconds += time.perf_counter() - started
        return text


class Encoder:
    """Turns examples into prompts of tokens, and counts what had to be cut.

    `max_tokens` bounds one rendered example; `max_positions` bounds the whole prompt with everything before it.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, max_positions: int) -> None:
        self._tokenizer = tokenizer
        self.given_tokens = max_tokens
        self.max_positions = max_positions
        self.opening, self.closing, self.mask = tokenizer.opening, tokenizer.closing, tokenizer.mask
        self.special_tokens = tokenizer.special_tokens
        self.max_tokens = min(max_tokens, max_positions - len(self.opening) - len(self.closing))
        self.between = tokenizer.between
        self._cut: dict[str, int] = {}

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts without any special tokens."""
        return self._tokenizer.tokenise(texts)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return self._tokenizer.decode(tokens, skip_special=True)

    def encode(
        self, template: str, examples: Sequence[Example], before: str | Sequence[str] = "", reserve: int = 0
    ) -> list[list[int]]:
        """Prompts, one an example: the opening tokens, `before` and the rendered example as one text, the closing ones.

        `before` is one text for all, or one an example. `reserve` is how many tokens of a word are asked for: room is
        kept for them after the prompt, or the mask stands in their place. Raises DataError where `before` leaves no
        room.
        """
        asked = [self.mask] * reserve if self.mask is not None else []
        texts = [before] * len(examples) if isinstance(before, str) else before
        rooms = {text: self.count_room(text, reserve) for text in dict.fromkeys(texts)}
        whole = self.count_room("", reserve)
        prompts = self.tokenise([text + render(template, e.fields) for text, e in zip(texts, examples, strict=True)])
        for index, (text, example) in enumerate(zip(texts, examples, strict=True)):
            limit = min(rooms[text], self.max_tokens - reserve)
            taken = whole - rooms[text]
            longest = taken + limit
            while len(prompts[index]) > longest:
                prompts[index] = self.tokenise([text + self.shorten(template, example, limit)])[0]
                limit -= 1  # joined texts may tokenise to a little more than apart
        return [[*self.opening, *tokens, *asked, *self.closing] for tokens in prompts]

    def count_room(self, before: str, reserve: int = 0) -> int:
        """Tokens that the model can read after `before`, less a `reserve`; raises DataError where there are none."""
        return self.check_room(len(self.tokenise([before])[0]) if before else 0, reserve)

    def check_room(self, taken: int, reserve: int = 0) -> int:
        """Tokens that the model can read after so many, less a `reserve`; raises DataError where there are none."""
        room = self.max_positions - len(self.opening) - len(self.closing) - reserve - taken
        if room <= 0:
            raise DataError(
                f"the demonstrations have {taken} tokens and the model reads {self.max_positions}, "
                "which leaves no room for a row. Use fewer demonstrations, or lower max_tokens."
            )
        return room

    def shorten(self, template: str, example: Example, limit: int) -> str:
        """Render an example in at most `limit` tokens: its longest texts lose tokens from their ends."""
        return render(template, self.shorten_fields(template, example, limit))

    def shorten_fields(self, template: str, example: Example, limit: int) -> Mapping[str, str]:
        """An example's texts such that the template with them has at most `limit` tokens: the longest are cut alike."""
        fields = dict(example.fields)
        named = list_fields(template)
        length = first_length = len(self.tokenise([render(template, fields)])[0])
        while length > limit:
            tokens = {name: self.tokenise([fields[name]])[0] for name in named}
            longest = max(map(len, tokens.values()), default=0)
            if longest == 0:
                raise DataError(
                    f"row {example.row_id!r}: the pattern alone is longer than the {limit} tokens there is room "
                    "for. Raise max_tokens, shorten the pattern, or use fewer demonstrations."
                )
            lengths = [len(tokens[name]) for name in named]  # a text that the template names twice counts twice
            room = limit - (length - sum(lengths))
            # As many levels as fit are the tokens that a text may keep; where joined texts take more, it is lower next.
            most = bisect_left(
                range(1, longest + 1), True, key=lambda level: sum(min(own, level) for own in lengths) > room
            )
            for name, own in tokens.items():
                if len(own) > most:
                    # Tokens may end within a character: what stands for its part is no text, and may be longer than it.
                    fields[name] = self._tokenizer.decode(own[:most], skip_special=False).rstrip("\ufffd")
            length = len(self.tokenise([render(template, fields)])[0])
        if length < first_length:
            self._cut[example.row_id] = first_length - length
        return fields

    def encode_label_words(self, pattern: Pattern) -> list[list[int]]:
        """Tokens of each label word as they follow the pattern, or open an answer, without special tokens.

        Raises DataError where two label words have equal tokens, or one begins another.
        """
        # Tokenised behind the pattern's last character, as some tokenizers write a word differently at the start.
        stem = pattern.template[-1:] if not pattern.template.endswith("}") else "."
        if self._tokenizer.answer is not None:
            stem = self._tokenizer.answer.stem
        base = self.tokenise([stem])[0]
        words = []
        for word in self.write_label_words(pattern):
            joint = self.tokenise([stem + word])[0]
            words.append(joint[len(base) :] if joint[: len(base)] == base else self.tokenise([word])[0])
        # Whatever one word's tokens begin stands right behind them.
        for i, j in pairwise(sorted(range(len(words)), key=lambda index: words[index])):
            if words[i] == words[j][: len(words[i])]:
                raise DataError(
                    f"pattern {pattern.name!r}: label words {pattern.label_words[i]!r} and "
                    f"{pattern.label_words[j]!r} collide: tokens {words[i]} begin {words[j]}. Use words that differ."
                )
        return words

    def write_label_words(self, pattern: Pattern) -> tuple[str, ...]:
        """The label words as the model is to say them: what its template has before an answer in place of a space."""
        answer = self._tokenizer.answer
        if answer is None:
            return pattern.label_words
        return tuple(answer.lead + word.lstrip(" ") for word in pattern.label_words)

    def splits_words_cleanly(self, template: str, example: Example, words: Sequence[str]) -> bool:
        """Whether prompt and label word tokenise apart as they do together."""
        if self._tokenizer.answer is not None:
            return True  # special tokens stand between them
        prompt = render(template, example.fields)
        alone = self.tokenise([prompt])[0]
        return all(self.tokenise([prompt + word])[0][: len(alone)] == alone for word in words)

    def list_cut(self) -> list[str]:
        """The ids of the rows that were shortened so far."""
        return list(self._cut)

    def count_cut(self) -> CutInputs:
        """How many rows were shortened so far, and the tokens they lost."""
        return CutInputs(rows=len(self._cut), tokens=sum(self._cut.values()))
