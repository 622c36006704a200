"""A scratchpad: text that a model generates about a row and then reads before it answers.

Owns the cue, the writing, and what is cut where a prompt is too long: first the end of what was written, then the row.
Sources: Nye et al. 2021, https://arxiv.org/abs/2112.00114; Snell et al. 2022, https://arxiv.org/abs/2209.15189
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fewtune.engine.forward import Forward
from fewtune.engine.generate import generate_greedily
from fewtune.methods.answer import Answer
from fewtune.prompts.template import render
from fewtune.records import ScratchpadNotes
from fewtune.tasks.base import Example

BLANK_LINE = "\n\n"


@dataclass(frozen=True)
class Cue:
    """What the model continues: a context, a row in the cue's template; and the most tokens it may write."""

    before: str
    text: str
    max_tokens: int


@dataclass(frozen=True)
class Scratchpad:
    """Texts written greedily after a cue until a special token or a blank line, each of them once.

    `template` holds the cue with text fields in braces; `separator` stands between what is written and the prompt.
    """

    forward: Forward
    answer: Answer
    template: str
    max_tokens: int
    separator: str
    _written: dict[Cue, list[int]] = field(default_factory=dict)

    def follow(self, before: str) -> Callable[[Sequence[Example]], list[str]]:
        """What stands before each row's prompt behind a context: context, cue, what is written, separator."""

        def write(rows: Sequence[Example]) -> list[str]:
            asked = [self._fit(before, row) for row in rows]
            self._write([cue for cue, _ in asked])
            return [self._join(cue, prompt) for cue, prompt in asked]

        return write

    def report(self) -> ScratchpadNotes:
        """The cue, the limit and the mean tokens written so far, never a text."""
        lengths = [len(tokens) for tokens in self._written.values()]
        return ScratchpadNotes(
            cue=self.template,
            most_tokens=self.max_tokens,
            mean_tokens=sum(lengths) / len(lengths) if lengths else None,
        )

    def _fit(self, before: str, row: Example) -> tuple[Cue, str]:
        """A row's cue and its prompt; the row is shortened where the two leave no room for writing."""
        encoder, template, reserve = self.answer.encoder, self.answer.template, self.answer.readout.answer_tokens
        room = encoder.count_room(before, reserve)
        cue = encoder.shorten(self.template, row, encoder.max_tokens)
        prompt = encoder.shorten(template, row, encoder.max_tokens - reserve)
        left = room - self._count(cue + self.separator + prompt)
        if left >= 0:
            return Cue(before, cue, min(self.max_tokens, left)), prompt
        both = self.template + self.separator.replace("{", "{{").replace("}", "}}") + template
        fields = encoder.shorten_fields(both, row, room)
        return Cue(before, render(self.template, fields), 0), render(template, fields)

    def _write(self, cues: Sequence[Cue]) -> None:
        # Rows of equal texts, and rows that were asked about before, are written about once.
        unwritten = [cue for cue in dict.fromkeys(cues) if cue not in self._written]
        encoder = self.answer.encoder
        written = encoder.tokenise([cue.before + cue.text for cue in unwritten])
        prompts = [[*encoder.opening, *tokens, *encoder.closing] for tokens in written]
        limits = [cue.max_tokens for cue in unwritten]
        self._written.update(zip(unwritten, generate_greedily(self.forward, prompts, limits, self._stop), strict=True))

    def _stop(self, tokens: Sequence[int]) -> bool:
        encoder = self.answer.encoder
        return tokens[-1] in encoder.special_tokens or BLANK_LINE in encoder.decode(tokens)

    def _join(self, cue: Cue, prompt: str) -> str:
        encoder = self.answer.encoder
        longest = encoder.count_room("", self.answer.readout.answer_tokens)
        tokens = self._written[cue]
        while True:
            # Its leading space stays: with `Thoughts:` before it, that is how the model wrote it.
            thoughts = encoder.decode(tokens).split(BLANK_LINE)[0].rstrip("\ufffd").rstrip()
            before = cue.before + cue.text + thoughts + self.separator
            # What was written may tokenise to a little more with its neighbours than alone.
            if not tokens or self._count(before + prompt) <= longest:
                return before
            tokens = tokens[:-1]

    def _count(self, text: str) -> int:
        return len(self.answer.encoder.tokenise([text])[0])
