"""What keeping keys and values between steps saves when a model writes: tokens a second with and without.

python benchmarks/cached_keys.py      prints the figures and writes benchmarks/results/cached_keys.json

SmolLM2 135M, 8 rows of 15 to 49 tokens behind a shared opening of 300, 8 tokens a row, one run of each.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from fewtune.engine.forward import Forward
from fewtune.engine.generate import generate_greedily
from fewtune.engine.loading import load_model
from fewtune.models import find_model, resolve_precision

ROWS, OPENING, TOKENS = 8, 300, 8


def main() -> None:
    precision = resolve_precision("auto")
    forward = Forward(load_model(find_model("smollm2-135m"), precision).frozen, precision)
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return [int(t) for t in torch.randint(100, 40_000, (count,), generator=generator)]

    opening = draw(OPENING)
    lengths = torch.randint(15, 50, (ROWS,), generator=generator).tolist()
    prompts = [opening + draw(length) for length in lengths]

    def write(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        return generate_greedily(forward, prompts, [tokens] * len(prompts), lambda written: False)

    write(prompts, 1)
    started = time.perf_counter()
    kept = write(prompts, TOKENS)
    with_cache = time.perf_counter() - started
    started = time.perf_counter()
    anew: list[list[int]] = [[] for _ in prompts]
    for _ in range(TOKENS):
        step = write([p + w for p, w in zip(prompts, anew, strict=True)], 1)
        anew = [w + s for w, s in zip(anew, step, strict=True)]
    without = time.perf_counter() - started
    result = {
        "precision": precision,
        "threads": torch.get_num_threads(),
        "same_tokens": kept == anew,
        "tokens_a_second": {
            "cached": round(ROWS * TOKENS / with_cache, 1),
            "run anew": round(ROWS * TOKENS / without, 1),
        },
    }
    print(json.dumps(result, indent=2))
    target = Path(__file__).parent / "results" / "cached_keys.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
