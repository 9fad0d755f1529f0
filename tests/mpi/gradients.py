#!/usr/bin/env python3
"""The gradients that processes of convnet add up, against a sum by mpi4py of the gradients of each shard.

    pip install -r tests/mpi/requirements.txt
    cargo build --release -p convnet-cli --features mpi
    mpirun -n 2 python tests/mpi/gradients.py [--convnet PATH]

Eight pictures are one batch in four shards of two. A run of two pictures alone gives a shard's gradient: after one step without decay the
momentum of SGD is the gradient. Each rank adds up its two shards, mpi4py exchanges slices, adds them and gathers the sums; the result
has the bits of the momentum after `mpirun -n 2 convnet train --shards 4`, and after one process's. The order of the pictures is a
rotation (`--shuffle window=1`), of which all are tried: one of them has to fit.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from mpi4py import MPI

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).resolve().parent))
from processes import ENVIRONMENT, png  # noqa: E402

PICTURES, SHARDS = 8, 4
EACH = PICTURES // SHARDS


def momentum(path):
    """All momentum buffers of a checkpoint, one after the other by their names."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    names = sorted(name for name in header if "momentum_buffer." in name)
    assert names, f"{path} has no momentum"
    read = lambda name: np.frombuffer(data[8 + length :][slice(*header[name]["data_offsets"])], "<f4")
    return np.concatenate([read(name) for name in names])


def train(options, folder, name, pictures, more, launcher=()):
    """The momentum after one step on these pictures."""
    table = folder / f"{name}.csv"
    table.write_text("".join(f"{folder}/{index}.png,{'ab'[index % 2]}\n" for index in pictures))
    command = [*launcher, options.convnet, "train", "--data", str(table), "--model", "resnet20", "--val-split", "0", "--epochs", "1"]
    command += ["--optimizer", "sgd", "--momentum", "0.9", "--weight-decay", "0", "--lr", "0.1", "--batch-size", str(len(pictures))]
    command += ["--shuffle", "window=1", "--threads", "1", "--train-eval", "0", "--precise-bn", "0", "--out", str(folder / name), *more]
    # A process that this one starts is no rank of this job.
    own = ("OMPI_", "PMI", "PRTE", "PMIX", "HYDRA", "MPI")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    done = subprocess.run(command, capture_output=True, text=True, env={**variables, **ENVIRONMENT})
    assert done.returncode == 0, done.stderr[-2000:]
    return momentum(folder / name / "last.safetensors")


def summed(world, mine):
    """This rank's shards with all others': slices are exchanged, added, and gathered."""
    own = mine[0] + mine[1]
    padded = np.zeros(-(-len(own) // world.size) * world.size, np.float32)
    padded[: len(own)] = own
    parts = np.empty_like(padded).reshape(world.size, -1)
    world.Alltoall(padded, parts)
    total = np.empty_like(padded)
    world.Allgather(parts[0] + parts[1], total)
    return total[: len(own)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", default=str(ROOT / "target/release/convnet"))
    parser.add_argument("--mpirun", default="mpirun")
    options = parser.parse_args()
    world = MPI.COMM_WORLD
    assert world.size == 2, "expected two ranks"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        generator = random.Random(5)
        for index in range(PICTURES):
            png(folder / f"{index}.png", 32, [generator.randrange(60, 200) for _ in range(3)], generator)
        fits = 0
        expected = None
        if world.rank == 0:
            everything = list(range(PICTURES))
            launcher = [options.mpirun, "-n", "2"]
            expected = train(options, folder, "together", everything, ["--shards", str(SHARDS)], launcher)
            alone = train(options, folder, "alone", everything, ["--shards", str(SHARDS)])
            assert np.array_equal(expected, alone), "one process has another gradient"
        expected = world.bcast(expected)
        shards = {}
        for rotation in range(PICTURES):
            mine = []
            for shard in range(2 * world.rank, 2 * world.rank + 2):
                first = (rotation + shard * EACH) % PICTURES
                if first not in shards:
                    pictures = [(first + offset) % PICTURES for offset in range(EACH)]
                    # Two pictures in either order: the shuffle turns them, too.
                    both = [train(options, folder, f"{first}-{turn}-{world.rank}", pictures[::step], []) for turn, step in [(0, 1), (1, -1)]]
                    shards[first] = both
                mine.append(shards[first])
            # A share of a quarter is exact.
            for choice in range(16):
                chosen = [mine[k][(choice >> (2 * world.rank + k)) & 1] / np.float32(SHARDS) for k in range(2)]
                fits += np.array_equal(summed(world, chosen), expected)
        if world.rank == 0:
            print(f"{len(expected):,} gradients of {SHARDS} shards: the sum of mpi4py has the bits of convnet's, in {fits} of the orders tried")
        sys.exit(not fits)


if __name__ == "__main__":
    main()
