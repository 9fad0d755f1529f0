#!/usr/bin/env bash
# Training steps of the lecture's CNN, convnet and PyTorch in turns (A B A B …), on 2 threads; one JSON line a turn.
#
#   bench/train_cnn.sh [TURNS] [PYTHON]
#
# PYTHON has PyTorch, for example from `python3 -m venv venv && venv/bin/pip install torch numpy`.
set -euo pipefail
cd "$(dirname "$0")/.."
turns=${1:-3} python=${2:-python3}
cargo build --release --quiet
for _ in $(seq "$turns"); do
    target/release/convnet bench cnn --mode train --batch-size 256 --threads 2 --repeats 40 --json | tr -d '\n'
    echo
    "$python" bench/peers/train_cnn.py --threads 2 --steps 20
done
