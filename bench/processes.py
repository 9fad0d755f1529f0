#!/usr/bin/env python3
"""Two processes of one thread against one process of two threads, in turns, on the same two shards.

    cargo build --release -p convnet-cli --features mpi
    python3 bench/processes.py [BUILD …] [--works 'resnet18 3x64x64 32' 'resnet20 3x32x32 128'] [--steps 30] [--turns 5]

A work is a network, its input and a batch; pictures are made by this script. Printed are the medians over turns of the pictures a second,
each of the second epoch of a run, and of the share of the time that the first of the processes waited for the other. Needs two cores that nobody
else uses, and Open MPI.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from scale import ROOT, photos, trained


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="*", metavar="BUILD", default=[str(ROOT / "target/release/convnet")])
    parser.add_argument("--works", nargs="+", default=["resnet18 3x64x64 32", "resnet20 3x32x32 128"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print("| work | build | 1 process, 2 threads: images/s | 2 processes, 1 thread: images/s | waiting | times slower |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for work in options.works:
        model, shape, batch = work.split()
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            data = photos(folder / "photos", int(shape.split("x")[1]), options.steps * int(batch))
            for turn in range(options.turns):
                ways = [(build, processes) for build in options.builds for processes in [1, 2]]
                for build, processes in ways[:: 1 if turn % 2 == 0 else -1]:
                    launcher = ["mpirun", "-n", "2"] if processes == 2 else []
                    command = [*launcher, build, "train", "--data", str(data), "--model", model, "--input", shape]
                    command += ["--batch-size", batch, "--shards", "2", "--threads", str(2 // processes), "--epochs", "2"]
                    command += ["--val-split", "0", "--train-eval", "0", "--precise-bn", "0"]
                    found.setdefault((build, processes), []).append(trained(command, folder)[-1])
        for build in options.builds:
            one, two = (statistics.median(epoch["images_per_second"] for epoch in found[build, processes]) for processes in [1, 2])
            waited = statistics.median(epoch["process_wait"] for epoch in found[build, 2])
            print(f"| {work} | {build} | {one:.0f} | {two:.0f} | {100 * waited:.0f} % | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
