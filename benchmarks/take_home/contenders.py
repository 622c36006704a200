"""Who makes a model of a file: fewtune's commands, what people use instead, and single methods of fewtune.

Owns their names, settings and which cells are theirs. Does not know how any of them is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.take_home.files import MANY

Kind = Literal["fewtune", "tfidf", "embeddings", "setfit", "autointent"]
Part = Literal["fewtune", "peers", "hindsight"]
MINILM, MPNET = "minilm-l6", "mpnet-base"
FOUR_FILES = ("sentiment", "questions", "ag_news", "qqp")
"""Where every single method is tried too, with 200 rows, beside ten minutes of choosing between them."""


@dataclass(frozen=True)
class Contender:
    """One way to make a model of a file."""

    name: str
    title: str
    kind: Kind
    part: Part = "peers"
    encoder: str | None = None
    """A peer's, by fewtune's name of it: all use the same weights."""
    options: tuple[str, ...] = ()
    """Of `fewtune fit`."""
    four_files: bool = False
    """Whether it is tried on FOUR_FILES with 200 rows alone."""

    def suits(self, file: str, rows: int) -> bool:
        """Whether it has a cell there."""
        return not self.four_files or (file in FOUR_FILES and rows == MANY)


def _single(method: str, model: str | None = None) -> Contender:
    """One method of fewtune, fitted as it is when it is named."""
    named = ("--method", method, *(("--model", model) if model is not None else ()))
    name = "-".join(("single", method, *((model,) if model is not None else ())))
    title = f"{method} alone" + (f" ({model})" if model is not None else "")
    return Contender(name, title, "fewtune", "hindsight", options=named, four_files=True)


def _name_all(contenders: Iterable[Contender]) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


CONTENDERS: Mapping[str, Contender] = _name_all(
    (
        Contender("tfidf-lr", "TF-IDF + logistic regression", "tfidf"),
        Contender("minilm-lr", "MiniLM + logistic regression", "embeddings", encoder=MINILM),
        Contender("mpnet-lr", "MPNet + logistic regression", "embeddings", encoder=MPNET),
        Contender("setfit-minilm", "SetFit, MiniLM", "setfit", encoder=MINILM),
        Contender("setfit-mpnet", "SetFit, MPNet", "setfit", encoder=MPNET),
        Contender("autointent-mpnet", "AutoIntent, classic-light, MPNet", "autointent", encoder=MPNET),
        Contender("fewtune-fast", "fewtune fit --fast", "fewtune", "fewtune", options=("--fast",)),
        Contender("fewtune-3m", "fewtune fit --budget 3m", "fewtune", "fewtune", options=("--budget", "3m")),
        Contender(
            "fewtune-10m",
            "fewtune fit --budget 10m",
            "fewtune",
            "fewtune",
            options=("--budget", "10m"),
            four_files=True,
        ),
        _single("tfidf"),
        *(_single(method, model) for model in (MPNET, MINILM) for method in ("embeddings", "contrastive", "lora")),
        *(_single(method, "smollm2-135m") for method in ("zero_shot", "in_context", "probe", "pattern", "lora")),
    )
)


def find_contenders(part: Part) -> list[str]:
    """The names of a part's."""
    return [name for name, contender in CONTENDERS.items() if contender.part == part]
