#!/bin/bash
# Whether time grows as the work does: with the batch, and with the area of a picture.
#
#   bench/scaling.sh [MODEL] [RUNS]      MODEL: one for pictures of 224x224 (default resnet18); RUNS: of each line (default 10)
#
# Needs `cargo build --release`. The last column is what should stay the same: milliseconds for each picture of 224x224, or for as
# much area.
set -euo pipefail
model=${1:-resnet18}
convnet=$(dirname "$0")/../target/release/convnet
[ -x "$convnet" ] || { echo "expected $convnet: run cargo build --release first" >&2; exit 1; }
line() { # mode, batch, side
    "$convnet" bench "$model" --mode "$1" -b "$2" --input "3x$3x$3" --opt sgd --repeats "$runs" --quiet --json |
        sed -n 's/.*"median_ms": *\([0-9.]*\).*/\1/p' |
        awk -v mode="$1" -v batch="$2" -v side="$3" '{
            printf "%-6s batch %3d, %dx%d: %8.1f ms, %6.2f\n", mode, batch, side, side, $1, $1 / batch / (side / 224) ^ 2 }'
}
runs=${2:-10}
for batch in 1 2 4 8 16 32; do line infer "$batch" 224; done
for side in 160 224 320 448; do line infer 4 "$side"; done
for batch in 4 8 16 32; do line train "$batch" 224; done
for side in 160 224 320; do line train 8 "$side"; done
