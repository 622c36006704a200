"""What each speed lever of the engine gives: every work with all levers on, and with one at a time switched off.

    python -m benchmarks.ablation                 every work, three repeats; goes on where it was interrupted, so that
                                                  nothing is run where nothing is missing: --again times anew
    python -m benchmarks.ablation --only lora     one work
    python -m benchmarks.ablation --steps 20      more timed steps a fit
    python -m benchmarks.ablation --table         the table of benchmarks/results/ablation.json, nothing run

One process, the levers of a work in turn, repeat after repeat. A fit is timed after its first steps: what is kept of
frozen blocks is then there, so that its lever shows what it gives a step, not a whole fit.

`levers` says what there is to switch off and how; `works` what is timed; `table` does the arithmetic.
"""
