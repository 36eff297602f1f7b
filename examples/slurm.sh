#!/bin/sh
# A job array of Slurm that upscales a folder on a shared file system: sbatch examples/slurm.sh IN OUT
#
# Each task takes the share of the inputs that has its number. A task that fails, or runs out of time, is given again
# as it is: --resume skips what is finished.
#SBATCH --job-name=upscale
#SBATCH --array=1-16
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -eu

exec lkdn-upscale "$1" "$2" --recursive --resume --quiet \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --threads "$SLURM_CPUS_PER_TASK"
