#!/bin/bash
# A study on a Ray cluster that lives as long as the job: sbatch examples/slurm_ray.sh STUDY
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail
study=$1
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Every node runs this; Ray starts a node on each, and the command on the first. The folder is on a shared disk.
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" --num-cpus "$SLURM_CPUS_PER_TASK" -- \
  fewtune run "$study" --executor ray --address "$head:6379" --out "out/$(basename "$study" .yaml)"
