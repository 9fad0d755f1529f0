#!/usr/bin/env python3
"""Fine-tuning: features that were trained on five of CIFAR-10's classes, for the other five with 50 pictures a class.

    cargo build --release -p convnet-cli
    python bench/transfer.py --data ../shared/data/cifar10/cifar10-jpeg.tar.gz

Trains once on all pictures of five classes (`--recipe cifar-fast`). Then, for each seed, 50 pictures of each other class are
drawn, and networks are trained on these 250 in three ways: from the trained features (`--weights RUN --recipe fine-tune`), from
these with all layers but the last frozen (`--freeze backbone` as well), and from scratch, with `cifar-fast` for more epochs.
All are measured on all test pictures of the five classes, which none of them has seen. Needs Python alone.
"""

import argparse
import datetime
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = ["airplane", "automobile", "deer", "dog", "frog"]


def read(archive):
    """Contents of the files, by part and class."""
    found = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile():
                part, name, file = entry.name.split("/")[-3:]
                found.setdefault((part, name), []).append((file, tar.extractfile(entry).read()))
    return found


def write(path, parts):
    with tarfile.open(path, "w") as tar:
        for (part, name), files in sorted(parts.items()):
            for file, content in files:
                header = tarfile.TarInfo(f"{part}/{name}/{file}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def run(convnet, *words):
    """Runs convnet; its stdout, and seconds."""
    start = time.perf_counter()
    command = [str(word) for word in (convnet, *words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout, time.perf_counter() - start


def accuracy(convnet, folder, data):
    return json.loads(run(convnet, "eval", "--run", folder, "--data", data, "--split", "test", "--json")[0])["top1"]


def ways(arguments, base):
    tuned = ["--recipe", "fine-tune", "--weights", base / "best.safetensors", "--epochs", arguments.epochs]
    # The rate is in proportion to the batch.
    scratch = [
        "--recipe",
        "cifar-fast",
        "--batch-size",
        32,
        "--lr",
        0.75 * 32 / 512,
        "--epochs",
        arguments.scratch_epochs,
    ]
    return {
        "fine-tuned": tuned,
        "fine-tuned, backbone frozen": [*tuned, "--freeze", "backbone"],
        "from scratch": [*scratch, "--warmup-epochs", arguments.scratch_epochs * 0.23],
    }


def measure(arguments, found, classes, folder):
    base_data = {(part, name): files for (part, name), files in found.items() if name in FIRST}
    others = [name for name in classes if name not in FIRST]
    test = write(folder / "test.tar", {("test", name): found["test", name] for name in others})
    base = folder / "base"
    command = ["train", "--recipe", "cifar-fast", "--data", write(folder / "base.tar", base_data), "-q", "--out", base]
    command += ["--epochs", arguments.base_epochs, "--warmup-epochs", arguments.base_epochs * 0.23]
    seconds = run(arguments.convnet, *command)[1]
    own = json.loads((base / "metrics.jsonl").read_text().splitlines()[-1])["val_accuracy"]
    print(f"the first five classes: accuracy {own:.2%}, {seconds:.0f} s", file=sys.stderr, flush=True)
    results = {}
    for seed in arguments.seeds:
        choice = random.Random(seed)
        few = {("train", name): choice.sample(found["train", name], arguments.pictures) for name in others}
        data = write(folder / f"few{seed}.tar", few)
        for way, flags in ways(arguments, base).items():
            out = folder / f"{way}-{seed}".replace(" ", "-").replace(",", "")
            seconds = run(arguments.convnet, "train", "--data", data, "--seed", seed, "-q", "--out", out, *flags)[1]
            results.setdefault(way, []).append((accuracy(arguments.convnet, out, test), seconds))
            print(f"seed {seed}, {way}: {results[way][-1][0]:.2%}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return own, results


def table(arguments, own, results):
    lines = ["| | " + " | ".join(f"seed {seed}" for seed in arguments.seeds) + " | mean | seconds |"]
    lines.append("| --- |" + " --- |" * (len(arguments.seeds) + 2))
    for way, found in results.items():
        figures = [f"{value:.1%}" for value, _ in found]
        mean = sum(value for value, _ in found) / len(found)
        seconds = sum(seconds for _, seconds in found) / len(found)
        lines.append(f"| {way} | {' | '.join(figures)} | {mean:.1%} | {seconds:.0f} |")
    lines += ["", f"The first five classes end at {own:.1%}. {os.cpu_count()} cores, {datetime.date.today()}."]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="tar with train/CLASS/* and test/CLASS/*")
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=int, default=50, help="of each class")
    parser.add_argument("--base-epochs", type=int, default=6, help="on the first five classes")
    parser.add_argument("--epochs", type=int, default=10, help="of fine-tuning")
    parser.add_argument("--scratch-epochs", type=int, default=40, help="from scratch")
    arguments = parser.parse_args()
    found = read(arguments.data)
    classes = sorted({name for _, name in found})
    if missing := set(FIRST) - set(classes):
        raise SystemExit(
            f"error: {arguments.data}: expected CIFAR-10's classes, got none called {', '.join(sorted(missing))}"
        )
    with tempfile.TemporaryDirectory() as folder:
        own, results = measure(arguments, found, classes, Path(folder))
    print(table(arguments, own, results))


if __name__ == "__main__":
    main()
