"""Answers texts with the language model in this folder; needs torch, transformers and safetensors.

    python classify.py < texts.txt            a label and its probability a line; no label where the model abstains

    from classify import Classifier
    Classifier("this folder").probabilities(["a text", ...])     # (texts, labels), in the order of `labels`

A row is a text, or a mapping where the model reads several. `classifier.json` says what is read how: the template, the
contexts before it, the label words' tokens, the prior that is subtracted behind a context, the temperature.
"""

from __future__ import annotations

import inspect
import json
import string
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, DynamicCache

NETWORKS: dict[str, Any] = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "headless": AutoModel}


class Classifier:
    """A language model that answers with a label."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        folder = Path(folder)
        self.content: dict[str, Any] = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.content["labels"]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        network = NETWORKS[self.content["network"]]
        model: Any = network.from_pretrained(str(folder), dtype=torch.float32, use_kernels=False)
        self.model = model.to(device).eval()
        self.device = device
        arrays = folder / "classifier.safetensors"
        self.arrays = load_file(arrays, device=device) if arrays.exists() else {}

    def predict(self, rows: list[Any]) -> list[str | None]:
        """The label of each row; None where the model abstains."""
        least = self.content["abstain_below"] or 0.0
        found = [(each, max(range(len(each)), key=each.__getitem__)) for each in self.probabilities(rows)]
        return [self.labels[place] if each[place] >= least else None for each, place in found]

    @torch.no_grad()
    def probabilities(self, rows: list[Any], at_once: int = 16) -> list[list[float]]:
        """Probabilities (rows, labels)."""
        found: list[list[float]] = []
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            each = []
            for context in self.content["contexts"]:
                scores = self._answer(part, context["before"]).log_softmax(-1)
                if context["log_prior"] is not None:
                    scores = (scores - torch.tensor(context["log_prior"], device=self.device)).log_softmax(-1)
                each.append(scores)
            mean = torch.stack(each).logsumexp(0)
            found += (mean / self.content["temperature"]).softmax(-1).tolist()
        return found

    def _answer(self, rows: list[Any], before: str) -> torch.Tensor:
        """Scores (rows, labels) behind a text."""
        prompts = [self._encode(row, before, self.content["template"]) for row in rows]
        if self.content["label_tokens"] is not None:
            return self._read(prompts)
        states = self._pool(prompts).double()
        if self.content["compared"] is not None:
            others = self._pool([self._encode(row, before, self.content["compared"]) for row in rows]).double()
            states = compare(states, others)
        scores: torch.Tensor = states @ self.arrays["weight"].T + self.arrays["offset"]
        return scores

    def _encode(self, row: Any, before: str, template: str) -> list[int]:
        fields = self.content["fields"]
        texts = {fields[0]: row} if isinstance(row, str) else row
        texts = {name: texts[name].strip() for name in fields}
        taken = len(self._tokenise(before)) if before else 0
        around = len(self.content["opening"]) + len(self.content["closing"])
        left = self.content["max_positions"] - around - taken
        room = min(self.content["max_tokens"], left) - self._answer_tokens()
        prompt = self._tokenise(before + render(template, texts))
        limit = room
        while len(prompt) > taken + room:
            prompt = self._tokenise(before + render(template, self._shorten(template, texts, limit)))
            limit -= 1  # joined texts may tokenise to a little more than apart
        asked = [] if self.content["mask"] is None else [self.content["mask"]] * self._answer_tokens()
        return [*self.content["opening"], *prompt, *asked, *self.content["closing"]]

    def _shorten(self, template: str, texts: dict[str, str], limit: int) -> dict[str, str]:
        """The texts such that the prompt has at most so many tokens: the longest lose their ends, never the prompt."""
        texts = dict(texts)
        named = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        while (length := len(self._tokenise(render(template, texts)))) > limit:
            tokens = {name: self._tokenise(texts[name]) for name in named}
            most = max(map(len, tokens.values()), default=0)
            if most == 0:
                raise ValueError("the prompt is longer than the model reads, whatever the texts are")
            around = length - sum(len(tokens[name]) for name in named)
            while most and around + sum(min(len(tokens[name]), most) for name in named) > limit:
                most -= 1
            for name, own in tokens.items():
                if len(own) > most:
                    texts[name] = self.tokenizer.decode(own[:most]).rstrip("\ufffd")
        return texts

    def _tokenise(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _answer_tokens(self) -> int:
        return max((len(tokens) for tokens in self.content["label_tokens"] or ()), default=0)

    def _read(self, prompts: list[list[int]]) -> torch.Tensor:
        words = self.content["label_tokens"]
        if self.content["mask"] is not None:
            ids, inside = self._pad(prompts)
            said = self.model(input_ids=ids, attention_mask=inside).logits
            first = inside.sum(1) - len(self.content["closing"]) - self._answer_tokens()
            each = [said[torch.arange(len(prompts)), first + i].log_softmax(-1) for i in range(self._answer_tokens())]
            totals = [
                torch.stack([self._choose(each[place], word, place) for place in range(len(word))]).sum(0)
                / (len(word) if self.content["per_token"] else 1)
                for word in words
            ]
            return torch.stack(totals, dim=1).double()
        if all(len(word) == 1 for word in words):
            states, ends = self._run(prompts)
            said = self._say(states[torch.arange(len(prompts)), ends])
            chosen: torch.Tensor = said[:, [word[0] for word in words]].double()
            return chosen
        columns = []
        for word in words:
            states, ends = self._run([[*prompt, *word[:-1]] for prompt in prompts])
            total = torch.zeros(len(prompts), device=self.device, dtype=torch.float64)
            for place in range(len(word)):
                at = states[torch.arange(len(prompts)), ends - (len(word) - 1 - place)]
                total += self._choose(self._say(at), word, place)
            columns.append(total / len(word) if self.content["per_token"] else total)
        return torch.stack(columns, dim=1)

    def _choose(self, said: torch.Tensor, word: list[int], place: int) -> torch.Tensor:
        """Log-probability (rows,) of a word's token; if constrained, among those alone with which a word goes on."""
        own = said[:, word[place]]
        if not self.content["constrained"]:
            return own
        words = [each for each in self.content["label_tokens"] if each[:place] == word[:place]]
        return own - said[:, sorted({each[place] for each in words})].logsumexp(-1)

    def _say(self, states: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (rows, words) of what is said next; words that stand for virtual tokens are never said."""
        logits: torch.Tensor = self.model.get_output_embeddings()(states)[:, : self.content["vocabulary"]]
        return logits.log_softmax(-1)

    def _pool(self, prompts: list[list[int]]) -> torch.Tensor:
        """The state that stands for each row, (rows, width)."""
        states, ends = self._run(prompts)
        if self.content["pooling"] == "mean":
            inside = (torch.arange(states.shape[1], device=self.device)[None] <= ends[:, None])[..., None]
            pooled = (states * inside).sum(1) / inside.sum(1)
        else:
            places = ends if self.content["pooling"] == "last_token" else torch.zeros_like(ends)
            pooled = states[torch.arange(len(prompts)), places]
        return torch.nn.functional.normalize(pooled, dim=-1) if self.content["unit"] else pooled

    def _pad(self, sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (rows, tokens), filled up behind, and which of them are a row's own."""
        longest, filling = max(map(len, sequences)), getattr(self.model.config, "pad_token_id", None) or 0
        ids = torch.tensor([[*s, *([filling] * (longest - len(s)))] for s in sequences], device=self.device)
        lengths = torch.tensor([len(s) for s in sequences], device=self.device)
        return ids, (torch.arange(longest, device=self.device)[None] < lengths[:, None]).long()

    def _run(self, sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """States (rows, tokens, width) and each row's last token; pads stand behind, where no token looks."""
        ids, inside = self._pad(sequences)
        ends = inside.sum(1) - 1
        given: dict[str, Any] = {}
        seen = 0
        if "prefix" in self.arrays:
            held = self.arrays["prefix"]  # (layers, 2, heads, tokens, features)
            seen = held.shape[3]
            pairs = [(keys.expand(len(ids), -1, -1, -1), values.expand(len(ids), -1, -1, -1)) for keys, values in held]
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(pairs):
                cache.update(keys, values, layer)
            named = "cache" if "cache" in inspect.signature(type(self.model.base_model).forward).parameters else None
            given = {named or "past_key_values": cache, "use_cache": True}  # its name in older releases
        mask = torch.cat([torch.ones(len(ids), seen, dtype=torch.long, device=self.device), inside], dim=1)
        block = self.content["block"]
        out = self.model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=block is not None, **given)
        return (out.last_hidden_state if block is None else out.hidden_states[block]), ends


def render(template: str, texts: dict[str, str]) -> str:
    """A template with texts in it."""
    parts = string.Formatter().parse(template)
    return "".join(literal + ("" if name is None else texts[name]) for literal, name, _, _ in parts)


def compare(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What is read of two texts that are read apart: both states (rows, width), and how they compare."""
    product = first * second
    parts = (first, second, (first - second).abs(), product * first.shape[-1] ** 0.5)
    return torch.cat([*(part / 2 for part in parts), product.sum(-1, keepdim=True)], dim=-1)


if __name__ == "__main__":
    classifier = Classifier(Path(__file__).parent)
    fields = classifier.content["fields"]
    for number, read in enumerate(sys.stdin.buffer, start=1):
        try:
            line = read.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            sys.exit(f"line {number} is not UTF-8")
        texts = line.split("\t") if len(fields) > 1 else [line]
        if len(texts) != len(fields):
            sys.exit(f"line {number} has {len(texts)} texts; give {', '.join(fields)} with a tab between them")
        if not all(map(str.strip, texts)):
            sys.exit(f"line {number} has an empty text")
        row = [dict(zip(fields, texts, strict=True))]
        [label], [probabilities] = classifier.predict(row), classifier.probabilities(row)
        sys.stdout.write(f"{label or ''}\t{max(probabilities):.6f}\n")
