"""The manifest of a saved predictor: everything about it that is no array.

Owns the schema and its version. A manifest that does not fit it is refused (`folder`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2
ADAPTER, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
"""The folder of what PEFT can read, and its files."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConstantPart(_Part):
    """The same scores for every row."""

    kind: Literal["constant"] = "constant"


class RegressionPart(_Part):
    """A logistic regression; its arrays are saved under `regression.`."""

    kind: Literal["regression"] = "regression"
    classes: tuple[int, ...] = Field(description="Labels it knows, by number; others score lowest.")
    labels: int = Field(ge=1, description="How many labels the task has.")
    unit: bool = Field(default=False, description="States are scaled to length one before it reads them.")


class NeighboursPart(_Part):
    """A vote of the nearest labelled rows; what the model said of these is saved as `neighbours.anchors`."""

    kind: Literal["neighbours"] = "neighbours"
    revision: int = Field(default=1, description="How distances are taken: see `Neighbours`.")
    by: Literal["vocabulary", "states"] = Field(description="What of a row is compared: see `knn_prompting`.")
    labels_of: tuple[int, ...] = Field(min_length=1, description="The labels of the rows that vote.")
    labels: int = Field(ge=1, description="How many labels the task has.")
    count: int = Field(ge=1, description="How many of the nearest vote.")


Words = Literal["runs", "runs_and_signs"]


class WordsPart(_Part):
    """TF-IDF features and a logistic regression."""

    kind: Literal["words"] = "words"
    template: str
    longest_phrase: int
    vocabulary: tuple[str, ...] = Field(description="Words and phrases, in the order of the features.")
    regression: RegressionPart
    words: Words = Field(default="runs", description="What is a word; models that do not say take runs of letters.")


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
    tokens: tuple[tuple[int, ...], ...]
    over: Literal["label_words", "vocabulary", "continuations"]
    per_token: bool = Field(default=False, description="A word's log-likelihood is the mean of its tokens'.")


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


class LanguagePart(_Part):
    """A language model that reads a prompt."""

    kind: Literal["language"] = "language"
    base: BasePart
    template: str
    max_tokens: int = Field(ge=1, description="Tokens that one rendered row may have.")
    max_positions: int = Field(ge=1, description="Tokens that a whole prompt may have.")
    contexts: tuple[ContextPart, ...] = Field(min_length=1, description="Probabilities are averaged over them.")
    block: int | None = Field(default=None, description="Block whose output is read; None: the last, normed.")
    readout: Annotated[LabelWordsPart | HeadPart | RegressionPart | NeighboursPart, Field(discriminator="kind")]
    network: Annotated[UnchangedPart | WeightsPart | AdapterPart | SoftTokensPart, Field(discriminator="kind")]


ScorerPart = Annotated[ConstantPart | WordsPart | LanguagePart, Field(discriminator="kind")]


class AbstentionPart(_Part):
    """Below which probability of its answer the model says nothing, and what that was found to keep."""

    risk: float = Field(gt=0, lt=1, description="Share of the answers given that may be wrong.")
    confidence: float = Field(gt=0, lt=1, description="Of the bound on that share.")
    threshold: float = Field(ge=0, le=1, description="Least probability of an answer that is given.")
    coverage: float = Field(ge=0, le=1, description="Share of the rows that were answered.")
    coverage_low: float
    coverage_high: float
    rows: int = Field(ge=1, description="Rows, none of them fitted on, that it was chosen by.")
    errors: int = Field(ge=0, description="Wrong answers among those given.")


class Manifest(_Part):
    """A saved predictor: what it is, and the SHA-256 of every file that belongs to it."""

    format: Literal["fewtune predictor"] = "fewtune predictor"
    schema_version: int = SCHEMA_VERSION
    labels: tuple[str, ...] = Field(min_length=1)
    fields: tuple[str, ...] = Field(min_length=1)
    scorer: ScorerPart
    temperature: float = Field(default=1.0, gt=0, description="What the scorer's scores are divided by.")
    abstention: AbstentionPart | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict, description="Packages that wrote it.")
    files: dict[str, str] = Field(default_factory=dict, description="SHA-256 by path inside the folder.")
