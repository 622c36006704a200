"""Schemas of requests and answers, for the OpenAPI description.

Owns the shapes of answers and the schemas of requests, which name the model's own columns. Sources: Text Embeddings
Inference's `/predict`, https://github.com/huggingface/text-embeddings-inference, and vLLM's `/classify`,
https://docs.vllm.ai
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from fewtune.serving.limits import RequestLimits


class Prediction(BaseModel):
    """A label and its probability."""

    score: float
    label: str


class Classification(BaseModel):
    """A row's likeliest label and the probability of each label, in the model's order."""

    index: int
    label: str
    probs: list[float]
    num_classes: int
    abstained: bool | None = None
    """Told by models that may abstain alone: whether the label's probability is under the threshold."""


class Usage(BaseModel):
    """Tokens that a language model read of the rows; 0 where the model is none."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None


class Classifications(BaseModel):
    """What came of all rows of a request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classification]
    usage: Usage


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"]


class Refusal(BaseModel):
    """What was wrong, in words, and of which kind."""

    error: str
    error_type: str


def describe_predict(fields: Sequence[str], limits: RequestLimits) -> dict[str, Any]:
    """The body of `/predict`."""
    flags = {
        "raw_scores": {"type": ["boolean", "null"], "description": "Only false: answers are probabilities."},
        "truncate": {"type": ["boolean", "null"], "description": "Long texts are cut as `fewtune predict` cuts them."},
    }
    return _describe_body("inputs", {"inputs": describe_rows(fields, limits), **flags}, fields)


def describe_classify(fields: Sequence[str], limits: RequestLimits, served: str) -> dict[str, Any]:
    """The body of `/classify`."""
    name = {"type": ["string", "null"], "description": "The model's name, or none.", "enum": [served, None]}
    use = {"type": ["boolean", "null"], "description": "Only true: answers are probabilities."}
    return _describe_body(
        "input", {"model": name, "input": describe_rows(fields, limits), "use_activation": use}, fields
    )


def describe_rows(fields: Sequence[str], limits: RequestLimits) -> dict[str, Any]:
    """The schema of one row or a list of rows."""
    text = {"type": "string", "minLength": 1, "maxLength": limits.characters, "pattern": r"\S"}
    by_column = {
        "type": "object",
        "properties": dict.fromkeys(fields, text),
        "required": list(fields),
        "additionalProperties": False,
    }
    in_order = {"type": "array", "items": text, "minItems": len(fields), "maxItems": len(fields)}
    single = [text, by_column] if len(fields) == 1 else [in_order, by_column]
    several = {
        "type": "array",
        "items": {"anyOf": [*([text] if len(fields) == 1 else []), in_order, by_column]},
        "minItems": 1,
        "maxItems": limits.rows,
    }
    return {"anyOf": [*single, several]}


def give_example(name: str, fields: Sequence[str]) -> dict[str, Any]:
    """A body with one row."""
    return {name: "a text" if len(fields) == 1 else dict.fromkeys(fields, "a text")}


def _describe_body(name: str, properties: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [name]}
    content = {"application/json": {"schema": schema, "example": give_example(name, fields)}}
    return {"requestBody": {"required": True, "content": content}}
