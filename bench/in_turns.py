#!/usr/bin/env python3
"""Two builds of convnet on the same works, in turns: medians and their ratio.

    python bench/in_turns.py OLD NEW 'resnet18 infer 1' 'cnn train 256' [--isa avx2] [--turns 5] [--repeats 30] [--threads 1]

A work is a network, a mode and a batch of `convnet bench`. A turn runs both builds, each time another one first. Leave the machine
alone meanwhile.
"""

import argparse
import os
import re
import statistics
import subprocess


def median(program, work, arguments, environment):
    """Milliseconds of one run of a build."""
    net, mode, batch = work.split()
    words = [program, "bench", net, "--mode", mode, "-b", batch, "--repeats", str(arguments.repeats)]
    words += ["--threads", str(arguments.threads)] if arguments.threads else []
    text = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout
    return float(re.search(r"median ([\d.]+) ms", text)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("works", nargs="+", metavar="WORK")
    parser.add_argument("--isa", help="instruction set [default: the best one]")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    environment = os.environ | ({"CONVNET_ISA": arguments.isa} if arguments.isa else {})
    print("| work | old | new | new / old |\n| --- | --- | --- | --- |")
    for work in arguments.works:
        times = {arguments.old: [], arguments.new: []}
        for turn in range(arguments.turns):
            for program in list(times)[:: 1 if turn % 2 == 0 else -1]:
                times[program].append(median(program, work, arguments, environment))
        old, new = (statistics.median(found) for found in times.values())
        print(f"| {work} | {old:.2f} | {new:.2f} | {new / old:.3f} |", flush=True)


if __name__ == "__main__":
    main()
