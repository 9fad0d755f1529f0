#!/usr/bin/env python3
"""Grad-CAM of a network beside pytorch-grad-cam's, in turns, and each beside its own inference.

    cargo build --release -p convnet-cli
    python bench/explain.py [--program target/release/convnet] [--model resnet50] [--turns 5] [--repeats 20] [--threads 2]

A turn runs both, each time another one first. Medians in milliseconds; times of ours are those that `convnet explain --json` and
`convnet bench` say, without reading the picture and drawing. Needs torch, torchvision and grad-cam. Leave the machine alone
meanwhile.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {"resnet": lambda net: net.layer4[-1], "vgg": lambda net: net.features[-1], "densenet": lambda net: net.features[-1]}


class Ours:
    def __init__(self, arguments, folder):
        self.program, self.model, self.folder = arguments.program, arguments.model, folder
        self.repeats, self.threads = arguments.repeats, ["--threads", str(arguments.threads)]
        # The first one plans.
        self.pictures = [folder / "picture.png"] * (arguments.repeats + 1)

    def run(self, *words):
        words = [self.program, *words, "--json", "-q", *self.threads]
        return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)

    def explain(self):
        flags = ["--model", self.model, "--weights", self.folder / "net.pth", "--out", self.folder / "out"]
        found = self.run("explain", *flags, *self.pictures)["pictures"][1:]
        return [1000 * picture["explanations"][0]["seconds"] for picture in found]

    def infer(self):
        words = ["bench", self.model, "--mode", "infer", "-b", "1", "--repeats", str(self.repeats)]
        return [self.run(*words)["median_ms"]]


class Theirs:
    def __init__(self, arguments, net, image):
        torch.set_num_threads(arguments.threads)
        self.net, self.image, self.repeats = net, image, arguments.repeats
        layer = next(layer for family, layer in LAYERS.items() if arguments.model.startswith(family))
        self.layer = layer(net)

    def times(self, work):
        found = []
        for _ in range(self.repeats + 1):
            start = time.perf_counter()
            work()
            found.append(1000 * (time.perf_counter() - start))
        return found[1:]

    def explain(self):
        with GradCAM(self.net, [self.layer]) as cam:
            return self.times(lambda: cam(self.image, [ClassifierOutputTarget(3)]))

    def infer(self):
        with torch.inference_mode():
            return self.times(lambda: self.net(self.image))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/convnet")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    net = getattr(torchvision.models, arguments.model)(weights=None).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(net.state_dict(), folder / "net.pth")
        Image.fromarray(pixels).save(folder / "picture.png")
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        engines = {"convnet": Ours(arguments, folder), "pytorch-grad-cam": Theirs(arguments, net, image)}
        times = {(engine, work): [] for engine in engines for work in ("explain", "infer")}
        for turn in range(arguments.turns):
            for engine in list(engines)[:: 1 if turn % 2 == 0 else -1]:
                for work in ("explain", "infer"):
                    times[engine, work] += getattr(engines[engine], work)()
        print("| | Grad-CAM | inference | ratio |\n| --- | --- | --- | --- |")
        for engine in engines:
            explain, infer = (statistics.median(times[engine, work]) for work in ("explain", "infer"))
            print(f"| {engine} | {explain:.1f} | {infer:.1f} | {explain / infer:.2f} |")


if __name__ == "__main__":
    main()
