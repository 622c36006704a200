#!/bin/bash
# A study in parts, one a task of a Slurm array: sbatch --array=1-8 examples/slurm_shards.sh STUDY [OPTION ...]
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
# One part again: SHARDS=8 sbatch --array=3 examples/slurm_shards.sh STUDY [OPTION ...]
# A task that is preempted runs again and goes on where it stopped.
#SBATCH --requeue
set -euo pipefail
fewtune run "$@" --shard "$SLURM_ARRAY_TASK_ID/${SHARDS:-$SLURM_ARRAY_TASK_COUNT}" --out "parts/$SLURM_ARRAY_TASK_ID"
