#!/bin/bash
# Time to 99 % of MNIST's test pictures: the whole process, with reading the files, evaluating and writing the run.
#
#   bench/mnist.sh DATA [SEEDS]      DATA: folder with MNIST's four IDX files; SEEDS: how many runs (default 5)
#
# Needs `cargo build --release`. Each line: seed, seconds, share of the 10,000 test pictures recognised after the last epoch.
set -euo pipefail
data=$(realpath "${1:?expected the folder with the files of MNIST}")
convnet=$(dirname "$0")/../target/release/convnet
[ -x "$convnet" ] || { echo "expected $convnet: run cargo build --release first" >&2; exit 1; }
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for ((seed = 0; seed < ${2:-5}; seed++)); do
    begin=$(date +%s.%N)
    "$convnet" train --data "$data" --cdims 16,32 --hdims 128 --dropout 0.1 --batch-size 128 --epochs 3 \
        --schedule one-cycle --lr 0.004 --seed "$seed" --out "$runs/$seed" --quiet > "$runs/log"
    end=$(date +%s.%N)
    tail -n 1 "$runs/$seed/metrics.jsonl" | awk -v seed="$seed" -v begin="$begin" -v end="$end" -F'"val_accuracy":' \
        '{ split($2, rest, ","); printf "seed %d: %.1f s, %.2f %%\n", seed, end - begin, 100 * rest[1] }'
done
