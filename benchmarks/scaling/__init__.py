"""How seconds and peak memory grow: with shots, with the tokens of a row, and with the depth of the model.

    python -m benchmarks.scaling                  every curve; goes on where it was interrupted: --again measures anew
    python -m benchmarks.scaling --only tokens    one curve
    python -m benchmarks.scaling --table          the tables of benchmarks/results/scaling.json, nothing run
    python -m benchmarks.scaling --chart docs/performance-scaling.svg

Every point is a process of its own, so that its peak is no other's. A point fits some epochs and takes the median of
all after the first: the first warms up, and fills what is kept of frozen blocks, so that its seconds stand apart.

`curves` says what is swept and fits the exponents; `point` measures one point; `table` and `chart` show them.
"""
