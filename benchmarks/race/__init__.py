"""The race: fewtune against what its users would do otherwise, on the same work, side by side on one machine.

    python -m benchmarks.race               every work, three repeats; goes on where it was interrupted, so that
                                            nothing is run where nothing is missing: --again times anew
    python -m benchmarks.race --only lora   one work
    python -m benchmarks.race --smoke       the same path in small, into a temporary folder
    python -m benchmarks.race --table       the table of benchmarks/results/race.json, nothing run

Both sides run on as many threads as the command may use cores (`taskset` gives it fewer), on the processor alone.

`works` says what is raced and which ratio is to be reached; `material` holds the rows both sides get; `ours`,
`classifier`, `label_words`, `harness` and `whole_study` are the sides; `side` runs one of them in a process of its own.
"""
