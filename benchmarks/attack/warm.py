"""Imported once by the process that every command and trial worker is forked from: all that they would import.

But for `fewtune.cli`, whose consoles see as they are made whether they write to a terminal.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
with contextlib.redirect_stderr(io.StringIO()):
    import cyclopts  # noqa: F401
    import rich.live  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama  # noqa: F401

    import benchmarks.attack.kinds  # noqa: F401

gc.collect()
gc.freeze()  # each trial collects, and would look through all of this again
