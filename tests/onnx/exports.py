#!/usr/bin/env python3
"""Networks that convnet writes as ONNX, computed by others: ONNX Runtime, OpenVINO and the reference of the package `onnx`.

    cargo build --release
    python tests/onnx/exports.py [NAME...]

Every network of `convnet models` gets random weights and running statistics, is written at opset 17 and checked by
`onnx.checker` (full). Its logits for two pictures, by each of the three, are compared with those of `convnet predict`, and the
file is read again by convnet: the same bits. So is a run that is trained on the built-in digits. Some of them are then written
with each flag of `convnet export`. Networks of more than 20 billion multiply-adds get pictures of 96x96.
Needs onnx, onnxruntime, openvino, safetensors and numpy.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
# Differences as a share of the largest logit; with weights in 16 bits, from the logits of those in 32.
TOLERANCE, HALF = 1e-5, 2e-2
LARGE, SMALL = 20e9, [96, 96]
PICTURES = 2
# Factors of batch norm, where sums of many branches would make of a change of 1e-7 in a pixel one of half a logit.
GAINS = {"efficientnet_v2_m": 0.5, "efficientnet_v2_l": 0.5}
# Written with every flag.
FLAGGED = "resnet18 densenet121 mobilenet_v3_small shufflenet_v2_x1_0 convnext_tiny alexnet_2012 airbench94".split()
RUN = "a trained run"


class Failed(Exception):
    """What a network does not fulfil."""


class Program:
    """The program, with the Python that runs this script as `python3`."""

    def __init__(self, path):
        self.path = path
        self.env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def __call__(self, *words):
        done = subprocess.run([str(word) for word in [self.path, *words]], capture_output=True, text=True, env=self.env, check=False)
        if done.returncode:
            raise Failed(done.stderr.strip()[-500:])
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def logits(self, what, pictures, folder):
        np.save(folder / "pictures.npy", pictures)
        found = self("predict", *what, "--npy", folder / "pictures.npy", "--logits", "--json", "--quiet")
        return np.array([each["logits"] for each in found["predictions"]], np.float32)


def formula(name, shape, random, gain):
    """A parameter's values: activations stay near 1, and sums of many branches small; `gain` is of norms."""
    values = random.uniform(-1, 1, shape)
    if name.endswith("running_var"):
        values = 1 + values / 2
    elif name.endswith("layer_scale"):
        values = 0.5 + values / 4
    elif len(shape) > 1:
        values *= math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        values = gain * (1 + values / 3)
    else:
        values /= 8
    return values.astype(np.float32)


def fill(program, network, path):
    """Writes random weights for a network, whose names and shapes it says itself."""
    layers = program("summary", *network, "--training", "--json")["layers"]
    tops = ",".join(sorted({layer["name"].split(".")[0] for layer in layers}))
    save_file({}, path)
    first = path.with_name("first.safetensors")
    program("convert", *network, "--ignore-mismatched", tops, path, first, "--quiet")
    tensors = load_file(first)
    first.unlink()
    random = np.random.default_rng(zlib.crc32(" ".join(network).encode()))
    gain = GAINS.get(network[1], 0.75)
    save_file({name: formula(name, tensors[name].shape, random, gain) for name in sorted(tensors)}, path)


def by_runtime(path, pictures):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": pictures})[0]


def by_openvino(path, pictures):
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(pictures)[0]


class LRN(OpRun):
    """In place of onnx 1.23.2's own, which sums squares for as many channels as there are pictures."""

    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        before, after = (size - 1) // 2, size // 2
        squares = np.pad(x**2, [(0, 0), (before, after), (0, 0), (0, 0)])
        sums = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(axis=-1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


def by_reference(path, pictures):
    return ReferenceEvaluator(path, new_ops=[LRN]).run(None, {"input": pictures})[0]


OTHERS = {"ONNX Runtime": by_runtime, "OpenVINO": by_openvino, "onnx.reference": by_reference}


def difference(found, expected):
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise Failed(f"expected finite numbers of shape {expected.shape}, got {found.shape}")
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


def agree(path, pictures, expected, tolerance=TOLERANCE):
    """How far each of the others is from these outputs."""
    onnx.checker.check_model(str(path), full_check=True)
    found = {name: difference(run(str(path), pictures), expected) for name, run in OTHERS.items()}
    for name, off in found.items():
        if off > tolerance:
            raise Failed(f"{name} differs by {off:.1e}")
    return "  ".join(f"{name} {off:.1e}" for name, off in found.items())


def plain(program, what, pictures, expected, folder):
    """Written as it is: all agree, and what is read again gives the same bits."""
    path = folder / "net.onnx"
    program("export", *what, path, "--quiet")
    model = onnx.load(path, load_external_data=False)
    if (model.opset_import[0].version, model.ir_version) != (17, 8):
        raise Failed(f"expected opset 17 and IR version 8, got {model.opset_import[0].version} and {model.ir_version}")
    again = program.logits(["--weights", path], pictures, folder)
    if not np.array_equal(again, expected):
        raise Failed(f"other bits when it is read again: {difference(again, expected):.1e}")
    return agree(path, pictures, expected)


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def flagged(program, what, pictures, expected, folder):
    """Written with every flag; yields the flags and how far the others are from what was expected."""
    path = folder / "flags.onnx"

    def written(*flags):
        return program("export", *what, *flags, path, "--json", "--quiet")

    written("--batch", str(PICTURES))
    if onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value != PICTURES:
        raise Failed("--batch: the batch is not fixed")
    yield "--batch", agree(path, pictures, expected)
    written("--softmax")
    # A probability is off by the share of itself that its logit is off by.
    yield "--softmax", agree(path, pictures, softmax(expected), TOLERANCE * max(1, np.abs(expected).max()))
    written("--fold")
    norms = [node.name for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"]
    yield f"--fold ({len(norms)} norms left)", agree(path, pictures, expected)
    written("--half")
    off = difference(program.logits(["--weights", path], pictures, folder), expected)
    if not 0 < off < HALF:
        raise Failed(f"--half: logits differ by {off:.1e}")
    yield f"--half (from 32 bits: {off:.1e})", agree(path, pictures, program.logits(["--weights", path], pictures, folder))
    bytes_, normalized = as_bytes(program, what, path, pictures.shape, folder)
    written("--with-preprocessing")
    yield "--with-preprocessing", agree(path, bytes_, program.logits(what, normalized, folder))
    checked = written("--check")
    if checked.get("difference", math.inf) > TOLERANCE:
        raise Failed(f"--check: {checked}")
    yield "--check", f"{checked['difference']:.1e}"


def as_bytes(program, what, path, shape, folder):
    """Pictures as bytes (batch, height, width, channels), and what a network takes for them."""
    program("export", *what, path, "--quiet")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    said = json.loads(metadata["preprocessing"])
    bytes_ = np.random.default_rng(5).integers(0, 256, [shape[0], *shape[2:], shape[1]], np.uint8)
    normalized = (bytes_ / 255 - np.array(said["mean"])) / np.array(said["std"])
    return bytes_, np.ascontiguousarray(normalized.transpose(0, 3, 1, 2).astype(np.float32))


def network_of(program, name, facts, folder):
    """The flags that say a network and its weights, and the shape of its pictures."""
    if name == RUN:
        program("train", "--out", folder / "run", "--epochs", "1", "--quiet")
        return ["--run", folder / "run"], [1, 28, 28]
    shape = facts["input"] if facts["macs"] < LARGE else [facts["input"][0], *SMALL]
    network = ["--model", name, *([] if shape == facts["input"] else ["--input", "x".join(map(str, shape))])]
    fill(program, network, folder / "weights.safetensors")
    return [*network, "--weights", folder / "weights.safetensors"], shape


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"these alone, of `convnet models` or '{RUN}'")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/convnet")
    arguments = parser.parse_args()
    program = Program(arguments.program)
    facts = {model["name"]: model for model in program("models", "--json")["models"]}
    failed = []
    for name in arguments.names or [RUN, *facts]:
        try:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                what, shape = network_of(program, name, facts.get(name), folder)
                pictures = np.random.default_rng(4).standard_normal([PICTURES, *shape]).astype(np.float32)
                expected = program.logits(what, pictures, folder)
                size = "x".join(map(str, shape))
                print(f"{name} {size}: {plain(program, what, pictures, expected, folder)}", flush=True)
                if name in FLAGGED or name == RUN:
                    for flags, found in flagged(program, what, pictures, expected, folder):
                        print(f"    {flags}: {found}", flush=True)
        except Exception as problem:
            print(f"{name}: {type(problem).__name__}: {problem}", flush=True)
            failed.append(name)
    if failed:
        raise SystemExit(f"error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
