"""`fewtune export`: a saved model for other tools, with a card that says how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fewtune.cli.options import Base, make_flag
from fewtune.cli.output import say

if TYPE_CHECKING:
    from fewtune.exporting.base_model import BaseModel
    from fewtune.exporting.export import Export


@Parameter(name="*")
@dataclass(frozen=True)
class Form:
    """What is written, and what it is compared with."""

    merge: Annotated[bool, make_flag("Merge an adapter into a whole model.")] = False
    onnx: Annotated[bool, make_flag("Write an ONNX graph too, into the folder's onnx/.")] = False
    base: Base = None
    check: Annotated[
        Path | None, Parameter(help="Rows that the export is compared on, beside texts of many kinds.")
    ] = None


def export(
    model: Annotated[Path, Parameter(help="A folder that `fewtune fit` saved.")],
    out: Annotated[Path, Parameter(help="New folder for the export.")],
    /,
    *,
    form: Form = Form(),
) -> int:
    """Write a saved model so that Transformers, PEFT or ONNX Runtime load it without fewtune.

    It computes in float32, and is kept only if its probabilities match the model's.
    """
    from fewtune.exporting.export import ExportOptions, exporting
    from fewtune.fitting.model_card import RELIABILITY, add_card
    from fewtune.predictors.model_folder import read_manifest
    from fewtune.predictors.rows import read_row_texts

    manifest = read_manifest(model)
    rows = [] if form.check is None else read_row_texts(form.check, manifest.fields)
    least = None if manifest.abstention is None else manifest.abstention.threshold
    picture = model / RELIABILITY
    drawn = picture.read_text(encoding="utf-8") if picture.is_file() else None
    with exporting(model, out, ExportOptions(form.merge, form.onnx, form.base), rows) as (finished, found):
        if found.form != "program":  # which its card says how to do
            manifest = manifest.model_copy(update={"abstention": None})
        add_card(finished, manifest, _format_loading(found, manifest.labels, form.onnx, least), drawn)
    if found.reason is not None:
        say(f"No sequence classifier can hold this model: {found.reason}")
    say(f"{_KINDS[found.form]}: {out}")
    say(f"Probabilities differ from the model's, in float32, by {found.difference:.1g} at most in {found.rows} rows.")
    say(f"How it is loaded: {out / 'README.md'}")
    return 0


_KINDS = {
    "classifier": "Transformers' sequence classifier",
    "adapter": "PEFT adapter for sequence classification",
    "sentence_transformer": "Sentence Transformers folder whose embeddings are logits",
    "program": "model with a small program of its own (classify.py)",
}


_FOLDER = 'FOLDER = "."  # where this file lies'


def _format_adapter(base: BaseModel, labels: Sequence[str], texts: str) -> str:
    """The card's lines on an adapter: how it is put onto its base model, what that is, and what is said meanwhile."""
    from fewtune.models.catalogue import CATALOGUE

    entry = CATALOGUE.get(base.name)
    place, revision = f"\n{_FOLDER}\nBASE = {json.dumps(base.name)}", ""
    if entry is not None and entry.packaged is not None:
        packages = dict.fromkeys(f"{piece.package} {piece.version}" for piece in entry.packaged.pieces)
        place = (
            f"from fewtune.models import find_model\n\n{_FOLDER}\n"
            f"BASE = find_model({json.dumps(base.name)}).path  # or where a copy of that folder lies"
        )
        said = (
            f"`BASE` is the folder of {base.name} ({entry.identity}), which fewtune makes of Python packages: "
            f"{', '.join(packages)}. A machine without fewtune takes a copy of that folder."
        )
    elif base.revision is not None:
        revision = f"revision={json.dumps(base.revision)}, "
        said = f"`BASE` is {base.name} of the Hugging Face hub at that commit, and is downloaded where it is not there."
    else:
        said = (
            "`BASE` is where the base model lay when this was exported: elsewhere, give the folder of a copy of it, "
            "here and in `adapter_config.json`."
        )
    return f"""```python
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
{place}
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
base = AutoModelForSequenceClassification.from_pretrained(
    BASE, {revision}num_labels={len(labels)}, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32)
model = PeftModel.from_pretrained(base, FOLDER)
given = tokenizer({texts}, padding=True, truncation=True, return_tensors="pt")
probabilities = model(**given).logits.softmax(-1)
```

{said} `fewtune export --merge` writes a whole model that needs no base.

Transformers prints that `score.weight` is missing from the base model, is newly initialised and should be trained.
That is the head: it is in the adapter's files, and `PeftModel.from_pretrained` puts it in place. Nothing is left to
train.

The labels in the order of the logits:

```json
{json.dumps(list(labels), ensure_ascii=False)}
```"""


def _format_loading(found: Export, labels: Sequence[str], onnx: bool, least: float | None) -> list[str]:
    """The card's lines: how the export is loaded, and what it is given."""
    columns = [[f"first {name}", f"second {name}"] for name in found.fields]
    texts = ", ".join(json.dumps(column, ensure_ascii=False) for column in columns)
    row = json.dumps({name: f"first {name}" for name in found.fields}, ensure_ascii=False)
    lines = {
        "classifier": f"""```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

{_FOLDER}
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)
given = tokenizer({texts}, padding=True, truncation=True, return_tensors="pt")
probabilities = model(**given).logits.softmax(-1)
```""",
        "adapter": "" if found.base is None else _format_adapter(found.base, labels, texts),
        "sentence_transformer": f"""```python
from scipy.special import softmax
from sentence_transformers import SentenceTransformer

{_FOLDER}
model = SentenceTransformer(FOLDER)
probabilities = softmax(model.encode({texts}), axis=1)
```

The labels in their order are `id2label` of `config.json`.""",
        "program": f"""```python
from classify import Classifier  # classify.py beside this file

{_FOLDER}
classifier = Classifier(FOLDER)
probabilities = classifier.probabilities([{row}])  # in the order of classifier.labels
```""",
    }
    told = [lines[found.form]]
    if found.form in ("classifier", "adapter"):
        told.append(
            "The tokenizer writes the prompt around the texts: give it plain texts, without white space around."
        )
    if least is not None and found.form != "program":
        told.append(f"It always answers: where it is to abstain, leave out answers of a probability under {least!r}.")
    if onnx:
        told.append(
            "`onnx/model.onnx` takes `input_ids` and `attention_mask` of the tokenizer beside it and gives `logits`."
        )
    return told
