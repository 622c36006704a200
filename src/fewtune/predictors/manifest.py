"""The manifest of a saved predictor: everything about it that is not an array.

Owns the schema, its version, what a manifest's fields must have in common, and its digest. A manifest that does not fit
is refused (`folder`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from fewtune.prompts.template import list_fields

SCHEMA_VERSION = 3
"""3: with a digest; 2, which is read too: without one."""
OLDEST_VERSION = 2
ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
"""The folder of what PEFT can read, and its files."""
COPY_ANEW = "Copy the folder anew, or fit the model again."
"""What to do about a folder that does not hold what was saved."""
LARGEST_WEIGHT, LARGEST_BIAS = 1e6, 1e6
"""Of a stack's member, and of a label in a stack: sums of such are finite."""
Temperature = Annotated[float, Field(ge=1e-3, le=1e38, description="What scores are divided by; a float32 holds it.")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _refuse(told: str) -> NoReturn:
    """Raise what Pydantic words as it stands."""
    raise PydanticCustomError("inconsistent", "{told}", {"told": told})


def _refuse_repeated(what: str, values: Sequence[object]) -> None:
    seen = set[object]()
    for value in values:
        if value in seen:
            _refuse(f"{what} names {value!r} twice")
        seen.add(value)


def _refuse_outside(what: str, labels: Iterable[int], count: int) -> None:
    beyond = [label for label in labels if not 0 <= label < count]
    if beyond:
        _refuse(f"{what} names label {beyond[0]}, and there are {count}, counted from 0")


class ConstantPart(_Part):
    """The same scores for every row."""

    kind: Literal["constant"] = "constant"


class RegressionPart(_Part):
    """A logistic regression; its arrays are saved under `regression.`."""

    kind: Literal["regression"] = "regression"
    classes: tuple[int, ...] = Field(
        min_length=2, description="Labels it knows, by number, in rising order; others score lowest."
    )
    labels: int = Field(ge=1, description="How many labels the task has.")
    unit: bool = Field(default=False, description="States are scaled to length one before it reads them.")

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        _refuse_outside("classes", self.classes, self.labels)
        if any(first >= second for first, second in pairwise(self.classes)):
            _refuse("classes do not rise")
        return self


class NeighboursPart(_Part):
    """A vote of the nearest labelled rows; what the model said of these is saved as `neighbours.anchors`."""

    kind: Literal["neighbours"] = "neighbours"
    revision: int = Field(default=1, description="How distances are taken: see `Neighbours`.")
    by: Literal["vocabulary", "states"] = Field(description="What of a row is compared: see `knn_prompting`.")
    labels_of: tuple[int, ...] = Field(min_length=1, description="The labels of the rows that vote.")
    labels: int = Field(ge=1, description="How many labels the task has.")
    count: int = Field(ge=1, description="How many of the nearest vote.")

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        _refuse_outside("labels_of", self.labels_of, self.labels)
        return self


Words = Literal["runs", "runs_and_signs"]


class WordsPart(_Part):
    """TF-IDF features and a logistic regression."""

    kind: Literal["words"] = "words"
    template: str
    longest_phrase: int = Field(ge=1)
    vocabulary: tuple[str, ...] = Field(min_length=1, description="Words and phrases, in the order of the features.")
    regression: RegressionPart
    words: Words = Field(default="runs", description="What is a word; models that do not say take runs of letters.")

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        _refuse_repeated("vocabulary", self.vocabulary)
        for phrase in self.vocabulary:
            words = phrase.split(" ")
            if not all(words) or len(words) > self.longest_phrase:
                _refuse(f"vocabulary holds {phrase!r}, which is no phrase of up to {self.longest_phrase} words")
        return self


class BasePart(_Part):
    """The model that was adapted: its name where it was fitted, and its content."""

    name: str
    weights_fingerprint: str
    precision: Literal["bfloat16", "float32"]
    revision: str | None = Field(default=None, description="The commit of the hub that it is, if it comes from there.")


class NearestPart(_Part):
    """Demonstrations of which each row is shown the nearest; the states that tell so are saved under `nearest.`."""

    template: str = Field(description="What is read of a text to tell how near it is.")
    texts: tuple[str, ...] = Field(min_length=1, description="Each demonstration as it is written, with its label.")
    count: int = Field(ge=1, description="How many stand before a row.")
    separator: str


class ContextPart(_Part):
    """A text that stands before every row, and the log prior over labels that calibration subtracts behind it."""

    before: str = ""
    log_prior: tuple[float, ...] | None = None
    centred: bool = Field(
        default=False, description="Of rows scored together, where these are enough, their own mean is subtracted."
    )
    nearest: NearestPart | None = Field(default=None, description="In place of the text: each row's own.")


class LabelWordsPart(_Part):
    """The language-model head over label words."""

    kind: Literal["label_words"] = "label_words"
    tokens: tuple[Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)], ...]
    over: Literal["label_words", "vocabulary", "continuations"]
    per_token: bool = Field(default=False, description="A word's log-likelihood is the mean of its tokens'.")

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        if self.per_token and self.over == "continuations":
            _refuse("per_token cannot be true over continuations: there is no mean of all of a word's tokens")
        for first, second in pairwise(sorted(self.tokens)):
            if second[: len(first)] == first:
                _refuse(f"tokens {list(first)} of one label begin those of another, {list(second)}")
        return self


class HeadPart(_Part):
    """A linear head on the last token's state, saved as `head.weight`."""

    kind: Literal["head"] = "head"


class UnchangedPart(_Part):
    """The base model as it is."""

    kind: Literal["unchanged"] = "unchanged"


class WeightsPart(_Part):
    """Weights that stand in place of the base model's, saved under `network.`."""

    kind: Literal["weights"] = "weights"
    names: tuple[str, ...]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _refuse_repeated("names", self.names)
        return self


class AdapterPart(_Part):
    """A PEFT adapter in the folder `adapter`, in PEFT's own layout."""

    kind: Literal["adapter"] = "adapter"
    four_bit: bool = Field(description="Whether it sits on a base whose linear layers are held in 4 bits.")


class SoftTokensPart(_Part):
    """Virtual tokens before every row, in the folder `adapter`, in PEFT's own layout."""

    kind: Literal["soft_tokens"] = "soft_tokens"
    as_keys_and_values: bool = Field(description="Prefix tuning; else embeddings (prompt tuning).")
    tokens: int = Field(ge=1)
    layers: tuple[int, ...] = ()
    heads: int = 0

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if not self.as_keys_and_values and (self.layers or self.heads):
            _refuse("layers and heads are those of keys and values, and these are embeddings")
        return self


class LanguagePart(_Part):
    """A language model that reads a prompt."""

    kind: Literal["language"] = "language"
    base: BasePart
    template: str
    compared: str | None = Field(
        default=None, description="Template of a row's second text, where two are read apart and compared."
    )
    max_tokens: int = Field(ge=1, description="Tokens that one rendered row may have.")
    max_positions: int = Field(ge=1, description="Tokens that a whole prompt may have.")
    contexts: tuple[ContextPart, ...] = Field(min_length=1, description="Probabilities are averaged over them.")
    block: int | None = Field(default=None, ge=1, description="Block whose output is read; None: the last, normed.")
    readout: Annotated[LabelWordsPart | HeadPart | RegressionPart | NeighboursPart, Field(discriminator="kind")]
    network: Annotated[UnchangedPart | WeightsPart | AdapterPart | SoftTokensPart, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _check_contexts(self) -> Self:
        reads = isinstance(self.readout, (RegressionPart, NeighboursPart))
        plain = all(c.log_prior is None and not c.centred and c.nearest is None for c in self.contexts)
        if reads and not (len(self.contexts) == 1 and plain):
            _refuse(f"contexts are one plain text where {self.readout.kind} reads the answer")
        if self.block is not None and not isinstance(self.readout, RegressionPart):
            _refuse(f"block is {self.block}, and only a regression reads one")
        if self.compared is not None and not (isinstance(self.readout, RegressionPart) and self.readout.unit):
            _refuse("compared is given, and only a regression on embeddings of length one reads two texts apart")
        if any(context.nearest != self.contexts[0].nearest for context in self.contexts):
            _refuse("contexts have unlike demonstrations to choose the nearest from")
        return self


class MemberPart(_Part):
    """One member of a stack; its files are in a folder of its own."""

    scorer: Annotated[ConstantPart | WordsPart | LanguagePart, Field(discriminator="kind")]
    temperature: Temperature = 1.0
    origin: dict[str, Any] = Field(default_factory=dict)


class StackPart(_Part):
    """Members whose log-probabilities are summed by weights, and normalised."""

    kind: Literal["stack"] = "stack"
    members: tuple[MemberPart, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0, le=LARGEST_WEIGHT)], ...] = Field(description="One a member.")
    bias: tuple[Annotated[float, Field(ge=-LARGEST_BIAS, le=LARGEST_BIAS)], ...] | None = Field(
        default=None, description="What is added to the sum, one number a label."
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if len(self.weights) != len(self.members):
            _refuse(f"weights are {len(self.weights)}, and members {len(self.members)}")
        return self


ScorerPart = Annotated[ConstantPart | WordsPart | LanguagePart | StackPart, Field(discriminator="kind")]


class AbstentionPart(_Part):
    """Below which probability of its answer the model says nothing, and what that was found to keep."""

    risk: float = Field(gt=0, lt=1, description="Share of the answers given that may be wrong.")
    confidence: float = Field(gt=0, lt=1, description="Of the bound on that share.")
    threshold: float = Field(ge=0, le=1, description="Least probability of an answer that is given.")
    coverage: float = Field(ge=0, le=1, description="Share of the rows that were answered.")
    coverage_low: float = Field(ge=0, le=1)
    coverage_high: float = Field(ge=0, le=1)
    rows: int = Field(ge=1, description="Rows, none of them fitted on, that it was chosen by.")
    errors: int = Field(ge=0, description="Wrong answers among those given.")

    @model_validator(mode="after")
    def _check_figures(self) -> Self:
        if not self.coverage_low <= self.coverage <= self.coverage_high:
            _refuse("coverage is not between coverage_low and coverage_high")
        if self.errors > self.rows:
            _refuse(f"errors is {self.errors}, and rows {self.rows}")
        return self


class Manifest(_Part):
    """A saved predictor: what it is, and the SHA-256 of every file that belongs to it."""

    format: Literal["fewtune predictor"] = "fewtune predictor"
    schema_version: int = Field(default=SCHEMA_VERSION, ge=OLDEST_VERSION, le=SCHEMA_VERSION)
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=2)
    fields: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    scorer: ScorerPart
    temperature: Temperature = 1.0
    abstention: AbstentionPart | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict, description="Packages that wrote it.")
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 by path inside the folder.")
    digest: str | None = Field(default=None, description="SHA-256 of all else that the manifest says.")

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        _refuse_repeated("labels", self.labels)
        _refuse_repeated("fields", self.fields)
        for place, count in _count_labels(self.scorer, "scorer"):
            if count != len(self.labels):
                _refuse(f"{place} is of {count} labels, and labels names {len(self.labels)}")
        return self

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        for template in _list_templates(self.scorer):
            try:
                unknown = [name for name in list_fields(template) if name not in self.fields]
            except ValueError as error:
                _refuse(f"template {template!r} cannot be read: {error}")
            if unknown:
                _refuse(f"template {template!r} reads {unknown[0]!r}, which fields does not name")
        return self


def list_members(part: ScorerPart) -> list[ConstantPart | WordsPart | LanguagePart]:
    """What scores rows by itself: the members of a stack, or else the scorer."""
    return [member.scorer for member in part.members] if isinstance(part, StackPart) else [part]


def _count_labels(part: ScorerPart, at: str) -> list[tuple[str, int]]:
    """Every field that has something of each label, and how many it has; `at` is the scorer's own."""
    if isinstance(part, StackPart):
        counts = [] if part.bias is None else [(f"{at}.bias", len(part.bias))]
        for place, member in enumerate(part.members):
            counts += _count_labels(member.scorer, f"{at}.members.{place}.scorer")
        return counts
    if isinstance(part, WordsPart):
        return [(f"{at}.regression.labels", part.regression.labels)]
    if not isinstance(part, LanguagePart):
        return []
    counts = [
        (f"{at}.contexts.{place}.log_prior", len(context.log_prior))
        for place, context in enumerate(part.contexts)
        if context.log_prior is not None
    ]
    if isinstance(part.readout, LabelWordsPart):
        counts.append((f"{at}.readout.tokens", len(part.readout.tokens)))
    elif not isinstance(part.readout, HeadPart):
        counts.append((f"{at}.readout.labels", part.readout.labels))
    return counts


def _list_templates(part: ScorerPart) -> list[str]:
    found: list[str] = []
    for member in list_members(part):
        if not isinstance(member, ConstantPart):
            found.append(member.template)
        if isinstance(member, LanguagePart):
            found += [context.nearest.template for context in member.contexts if context.nearest]
            found += [] if member.compared is None else [member.compared]
    return found


def digest_manifest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, given as JSON's values, but for its digest; its layout does not count."""
    kept = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
