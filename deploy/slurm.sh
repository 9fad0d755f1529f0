#!/bin/bash
# Training on 8 machines under Slurm: sbatch deploy/slurm.sh. The run's folder, the pictures and the program lie on a disk that all of
# them see.
#SBATCH --job-name=convnet
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
# SIGTERM two minutes before the end: the run writes a checkpoint and stops.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

run=${RUN:-runs/imagenet}
arguments=(--resume "$run")
[ -e "$run/config.toml" ] || arguments=(
    --data "${DATA:?the folder or the shards of pictures}" --model resnet50 --input 3x224x224 --recipe imagenet
    --batch-size 2048 --base-batch-size 256 --warmup-epochs 5 --shards 64 --out "$run"
)
# --mpi as `srun --mpi=list` names what the program's MPI library understands: pmix for Open MPI, pmi2 for MPICH.
srun --mpi=pmix --cpu-bind=cores --kill-on-bad-exit=1 convnet train "${arguments[@]}"
