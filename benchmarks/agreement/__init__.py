"""Whether all optimisations together change answers: fewtune as it runs by default against a plain float32 path.

    python -m benchmarks.agreement                   every check; goes on where it was interrupted: --again runs anew
    python -m benchmarks.agreement --only in-context
    python -m benchmarks.agreement --rows 200        fewer test rows
    python -m benchmarks.agreement --table           the table of benchmarks/results/agreement.json, nothing run

The plain path is Transformers' own network and attention in float32, rows padded or one at a time, the language-model
head over the whole vocabulary. `plain` is that path; `checks` sets the two side by side; `table` shows what came out.
"""
