#!/usr/bin/env python3
"""Networks that PyTorch writes as ONNX, read by convnet: their logits against ONNX Runtime's.

    cargo build --release -p convnet --example run_onnx
    python tests/onnx/nets.py [--opset N...] [--dynamo] [NAME...]

Every network has the random weights and statistics of tests/golden/zoo.py. Needs torch, torchvision, onnx, onnxruntime and numpy,
for `--dynamo` onnxscript as well, and timm for the networks that torchvision does not have. The newer exporter writes opset 18
at least: torch converts its file down where it can, and says so where it cannot.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))
import zoo

NETWORKS = """resnet18 densenet121 googlenet inception_v3 vgg11_bn alexnet squeezenet1_1 mobilenet_v2 mobilenet_v3_small mnasnet1_0
shufflenet_v2_x1_0 efficientnet_b0 efficientnet_v2_s regnet_y_400mf convnext_tiny resnext50_32x4d""".split()
OF_TIMM = "mobilenetv4_conv_small tf_efficientnetv2_b0 dla34 repvgg_a0 ghostnet_100 seresnet50".split()
TOLERANCE = 1e-4


def build(name):
    if name in OF_TIMM:
        import timm

        model = timm.create_model(name).eval()
        with torch.no_grad():
            zoo.fill(model)
        return model
    model = zoo.build(name, torch.float32, **zoo.without_auxiliaries(name)).eval()
    if name == "googlenet":
        model.aux1 = model.aux2 = None
        model.aux_logits = False
    return model


def export(name, path, opset, dynamo):
    side = zoo.SIDES.get(name, 224)
    picture = zoo.pictures(1, side, side)
    axes = {} if dynamo else {"dynamic_axes": {"input": {0: "n"}, "logits": {0: "n"}}}
    names = {"input_names": ["input"], "output_names": ["logits"]}
    torch.onnx.export(build(name), picture, path, opset_version=opset, dynamo=dynamo, **names, **axes)
    return picture.numpy()


def difference(program, path, picture, folder):
    """The largest one of a logit, as a share of the largest logit; and whether both see the same class."""
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"input": picture})[0]
    picture.astype("<f4").tofile(folder / "in")
    words = [str(word) for word in (program, path, folder / "in", folder / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip(), False
    found = np.fromfile(folder / "out", "<f4").reshape(expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max()), bool(found.argmax() == expected.argmax())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="these alone")
    parser.add_argument("--opset", type=int, nargs="*", default=[17])
    parser.add_argument("--dynamo", action="store_true", help="by the newer exporter, with weights in a file of their own")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/run_onnx")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    failed = []
    for name in arguments.names or NETWORKS + OF_TIMM:
        for opset in arguments.opset:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                picture = export(name, folder / f"{name}.onnx", opset, arguments.dynamo)
                off, same = difference(arguments.program, folder / f"{name}.onnx", picture, folder)
            print(f"{name}, opset {opset}: {off if isinstance(off, str) else f'{off:.1e}'}", flush=True)
            if isinstance(off, str) or off > TOLERANCE or not same:
                failed.append(f"{name} (opset {opset})")
    if failed:
        raise SystemExit(f"error: other logits: {', '.join(failed)}")


if __name__ == "__main__":
    main()
