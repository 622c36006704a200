"""Models that one labelled file gives: fewtune's beside those that people make instead, from the same rows.

    python -m benchmarks.take_home                       every cell that results/take-home lacks
    python -m benchmarks.take_home --part peers --budget-minutes 60
    python -m benchmarks.take_home --files sst2 qqp --contenders mpnet-lr setfit-mpnet
    python -m benchmarks.take_home --write               docs/take-home.md and its chart anew; nothing is run

A cell is a file, a number of labelled rows, a sample and a contender, and is kept as one JSON record, with figures and
no text. Each is made in a process of its own, within ten minutes, and what is there is not made again. Files whose
texts are not the project's are read where they lie (`--data-dir`).

`files` says which files there are and draws samples, `contenders` who makes models; `cells` makes one and keeps it, in
processes that `watched` watches; `side` is such a process, `peers` what people write there. `summary` is the arithmetic
over all records, `page` what the documentation shows.
"""
