#!/usr/bin/env python3
"""Decoded and augmented pictures per second: convnet's loader beside torchvision's, in turns.

    cargo build --release -p convnet --example loader
    python bench/loader.py [--pictures 1000] [--workers 2] [--turns 5]

Makes JPEG files of 500x375 pixels (quality 90, about 50 kB, smooth shapes with texture) in a temporary folder. Both
loaders read and decode them, cut out an area at random and resize it to 224x224, mirror half of them and normalise
(torchvision: ImageFolder, RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, DataLoader), into batches of 64.
Each turn measures an epoch of each, after a first one that does not count; the figures are medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BATCH = 64


def picture(random, height, width):
    """Smooth colours with texture that is stronger in some places: about as many bytes as a photograph."""

    def stretched(values):
        return np.asarray(Image.fromarray(values).resize((width, height), Image.BICUBIC), dtype=np.float32)

    base = stretched(random.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8))
    texture = stretched(random.normal(0, 1, (height // 4 + 1, width // 4 + 1)).astype(np.float32))
    gain = stretched(random.random((6, 8)).astype(np.float32))
    noise = 3 * random.normal(0, 1, (height, width, 1))
    return np.clip(base + 25 * (gain * texture)[..., None] + noise, 0, 255).astype(np.uint8)


def make(folder, count, height=375, width=500):
    random = np.random.default_rng(0)
    for index in range(count):
        size = (height, width) if index % 4 else (width, height)
        path = folder / "train" / f"class{index % 10}" / f"{index:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(random, *size)).save(path, quality=90)


def torchvision_epochs(folder, workers):
    """Yields the pictures per second of an epoch, again and again."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    data = datasets.ImageFolder(folder / "train", transforms.Compose(steps))
    loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    while True:
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        yield count / (time.perf_counter() - start)


def convnet_epoch(program, folder, workers):
    """The second epoch of a run: in the first, damage is looked for in each picture."""
    command = [program, str(folder), str(workers), str(BATCH), "2"]
    rates = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return [float(rate) for rate in rates]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--program", default="target/release/examples/loader")
    arguments = parser.parse_args()
    if not os.access(arguments.program, os.X_OK):
        sys.exit(f"{arguments.program}: build it with cargo build --release -p convnet --example loader")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, arguments.pictures)
        size = sum(path.stat().st_size for path in folder.rglob("*.jpg")) / arguments.pictures / 1000
        print(f"{arguments.pictures} pictures of 500x375, {size:.0f} kB each, {arguments.workers} workers")
        peer = torchvision_epochs(folder, arguments.workers)
        next(peer)
        rows = []
        for turn in range(arguments.turns):
            first, later = convnet_epoch(arguments.program, folder, arguments.workers)
            rows.append((first, later, next(peer)))
            print("convnet {:.0f} (first epoch {:.0f}), torchvision {:.0f} pictures/s".format(later, first, rows[-1][2]))
        first, later, other = (statistics.median(column) for column in zip(*rows))
        print(f"median: convnet {later:.0f}, its first epoch {first:.0f}, torchvision {other:.0f}; ratio {later / other:.2f}")


if __name__ == "__main__":
    main()
