"""Embeddings that busy machines keep: each text once for all cells, where seconds are no figures anyway.

Owns where they lie, and making them by fewtune's own engine in its fastest precision. Cells that are timed make their
own, as their users do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.take_home.files import FILES, SAMPLES, LabelledFile, draw_sample
from benchmarks.take_home.peers import join_texts, keep_embeddings

SCRATCH = ROOT / "out" / "take-home"
"""What is kept on this machine alone."""
AT_ONCE = 250
"""Texts between two looks at the clock."""

Embed = Callable[[Sequence[str]], np.ndarray]


def name_embeddings(encoder: str, file: str) -> Path:
    """Where an encoder's embeddings of a file's texts lie; copies share those of what they are copied from."""
    source = FILES[file].of if file in FILES else None
    return SCRATCH / "embeddings" / f"{encoder}-{source or file}.npz"


def list_texts(file: LabelledFile, most_rows: int | None = None) -> list[str]:
    """Every text that cells of a file read, those of no more labelled rows than given; test rows first."""
    sizes = [size for size in file.sizes if most_rows is None or size <= most_rows]
    samples = [draw_sample(file, max(sizes), sample) for sample in range(SAMPLES)] if sizes else []
    rows = [*(samples[0].test if samples else ()), *(row for sample in samples for row in sample.train)]
    return join_texts([row.texts for row in rows])


def embed_file(texts: Sequence[str], kept: Path, embed: Embed, has_time: Callable[[], bool]) -> int:
    """Embed a file's texts while there is time; how many are left."""
    for start in range(0, len(texts), AT_ONCE):
        if not has_time():
            return len(texts) - start
        keep_embeddings(kept, texts[start : start + AT_ONCE], embed)
    return 0


def open_encoder(name: str) -> Embed:
    """fewtune's engine; the model is read when it is first asked."""

    @cache
    def read() -> Embed:
        from fewtune.engine.loading import load_model
        from fewtune.methods.embeddings import prompt_plainly
        from fewtune.models import find_model, resolve_precision
        from fewtune.tasks import sentiment
        from fewtune.tasks.base import Example

        model = load_model(find_model(name), resolve_precision("auto"))
        # Any task of one field: a row is its text alone.
        prompting = prompt_plainly(model, sentiment.load(sentiment.Settings(), None), model.forward(model.frozen))
        [field] = sentiment.load(sentiment.Settings(), None).fields
        return lambda texts: np.asarray(
            prompting.read([Example(str(place), {field: text}, None) for place, text in enumerate(texts)])
        )

    return lambda texts: read()(texts)
