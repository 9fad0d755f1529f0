#!/usr/bin/env python3
"""Weights that convnet writes for torchvision's and timm's networks, loaded there as the program says.

    cargo build --release
    python tests/onnx/libraries.py [NAME...]

Every network of `convnet models` that a library has gets random weights and running statistics, for 7 classes. `convnet export
--names` writes them, and prints lines of Python: these are run, with all names demanded, and the logits of a picture are
compared with those of `convnet predict`. Needs torch, torchvision, timm, safetensors and what exports.py needs.
"""

import argparse
import contextlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from exports import ROOT, Failed, Program, difference, fill

TOLERANCE = 1e-5
CLASSES = 7
# Side of the pictures, where it is not a small one.
SMALL, SIDES = 64, {"alexnet": 96, "googlenet_v1": 96, "inception_v3": 96}


def side_of(model):
    return 224 if model["family"] == "VGG" else SIDES.get(model["name"], SMALL)


def loaded(python, folder):
    """The model that the printed lines make."""
    names = {}
    before = os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(python, names)
    finally:
        os.chdir(before)
    return names["model"]


def logits(model, pictures):
    with torch.inference_mode():
        found = model(torch.from_numpy(pictures))
    return found.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="these alone")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/convnet")
    arguments = parser.parse_args()
    program = Program(arguments.program.resolve())
    failed, absent = [], {"torchvision": [], "timm": []}
    for model in program("models", "--json")["models"]:
        name, side = model["name"], side_of(model)
        if arguments.names and name not in arguments.names:
            continue
        shape = [model["input"][0], side, side] if model["input"][1] > SMALL else model["input"]
        network = ["--model", name, "--input", "x".join(map(str, shape)), "--classes", str(CLASSES)]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            fill(program, network, folder / "weights.safetensors")
            what = [*network, "--weights", folder / "weights.safetensors"]
            pictures = np.random.default_rng(6).standard_normal([2, *shape]).astype(np.float32)
            expected = program.logits(what, pictures, folder)
            for library in absent:
                try:
                    path = folder / f"{library}.safetensors"
                    python = program("export", *what, "--names", library, path, "--json", "--quiet")["python"]
                    off = difference(logits(loaded(python, folder), pictures), expected)
                    if off > TOLERANCE:
                        raise Failed(f"logits differ by {off:.1e}")
                    print(f"{name}, {library}: {off:.1e}", flush=True)
                except Exception as problem:
                    if "has no network" in str(problem):
                        absent[library].append(name)
                    else:
                        print(f"{name}, {library}: {type(problem).__name__}: {str(problem)[:400]}", flush=True)
                        failed.append(f"{name} ({library})")
    for library, names in absent.items():
        print(f"{library} has no {', '.join(names)}")
    if failed:
        raise SystemExit(f"error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
