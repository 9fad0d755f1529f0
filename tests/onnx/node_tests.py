#!/usr/bin/env python3
"""The tests of the package `onnx` on the operators of a CNN: how many pass, and why the others do not.

    cargo build --release -p convnet --example run_onnx
    python tests/onnx/node_tests.py [OPERATOR...]
    python tests/onnx/node_tests.py --markdown docs/onnx.md    # writes its table there
    python tests/onnx/node_tests.py --check docs/onnx.md       # fails where fewer pass than its table says

A test is a graph of one node, its inputs and its outputs. The first input is the picture, and so are those of its shape: they
come as further channels of one input. Every other one becomes a constant, as it is in a network. A test whose first input is no
tensor of floating-point numbers cannot be a part of a network, and is counted apart.

A test that does not pass so is tried once more with all its inputs as constants, as networks have it where they compute shapes
and settings: the reader computes its output, which becomes the bias of a layer. These have a column of their own. The tests that
were made from PyTorch's own (`pytorch-converted`, `pytorch-operator`) are graphs with their weights, and have a row each. Needs onnx
and numpy.
"""

import argparse
import collections
import concurrent.futures
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

ROOT = Path(__file__).resolve().parents[2]
# What a classifier is made of.
ELEMENTWISE = ["Add", "Concat", "Div", "Max", "Min", "Mul", "Sub", "Sum"]
NO_PICTURE = "the first input is no tensor of floating-point numbers"
VOCABULARY = """Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv Div Dropout Erf Expand Flatten
Gather Gelu Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LRN LayerNormalization LeakyRelu MatMul Max
MaxPool Min Mul Neg PRelu Pad Pow Range ReduceMax ReduceMean ReduceProd ReduceSum Relu Reshape Shape Sigmoid Size Slice
Softmax Softsign Split Sqrt Squeeze Sub Sum Swish Tanh Transpose Unsqueeze""".split()


def case(test):
    """The model with constants in place of all inputs but the first, that input, and the first output."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    given, expected = test.data_sets[0]
    names = [value.name for value in model.graph.input]
    inputs = dict(zip(names, given, strict=True))
    first = given[0]
    alike = [name for name in names[1:] if is_picture(inputs[name]) and inputs[name].shape == first.shape]
    # Weights of a product may have the picture's shape by chance.
    alike = alike if model.graph.node[0].op_type in ELEMENTWISE and first.ndim > 1 else []
    for name in names[1:]:
        if name not in alike:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(inputs[name]), name))
    kept = model.graph.input[0]
    del model.graph.input[:]
    model.graph.input.append(kept)
    kept = model.graph.input[0]
    if alike:
        first = np.concatenate([first, *(inputs[name] for name in alike)], axis=1)
        kept.type.tensor_type.shape.dim[1].dim_value = first.shape[1]
        parts = [names[0], *alike]
        kept.name = "all"
        model.graph.node.insert(0, onnx.helper.make_node("Split", ["all"], parts, axis=1, **split_of(model, parts)))
    return model, first, expected[0]


def of_constants(test):
    """The model whose inputs are constants, and whose output is the bias of a layer with weights of 0; a picture of one number."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    given, expected = test.data_sets[0]
    graph = model.graph
    for value, array in zip(graph.input, given, strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    wanted = np.asarray(expected[0])
    del graph.input[:], graph.output[1:]
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph.input.append(info("picture", onnx.TensorProto.FLOAT, ["n", 1]))
    graph.initializer.append(numpy_helper.from_array(np.zeros((1, wanted.size), np.float32), "zeros"))
    graph.initializer.append(numpy_helper.from_array(np.array([wanted.size]), "list"))
    last = graph.output[0].name
    graph.node.append(make("Cast", [last], ["numbers"], to=onnx.TensorProto.FLOAT))
    graph.node.append(make("Reshape", ["numbers", "list"], ["bias"]))
    graph.node.append(make("Gemm", ["picture", "zeros", "bias"], ["row"]))
    graph.output[0].CopyFrom(info("row", onnx.TensorProto.FLOAT, ["n", wanted.size]))
    return model, np.ones((1, 1), np.float32), wanted


def is_picture(value):
    return isinstance(value, np.ndarray) and value.dtype in (np.float32, np.float64, np.float16)


def split_of(model, parts):
    """What Split is told from opset 18 on."""
    return {"num_outputs": len(parts)} if model.opset_import[0].version >= 18 else {}


def run(program, made):
    """Whether a test passes, or why not. `made` gives its model, the picture and what is expected."""
    try:
        model, first, expected = made()
    except Exception as error:  # Sequences, optional values and other things that are no tensors.
        return NO_PICTURE if isinstance(error, (AttributeError, TypeError, IndexError)) else f"{type(error).__name__}: {error}"
    if not is_picture(first):
        return NO_PICTURE
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        onnx.save(model, place / "model.onnx")
        first.astype("<f4").tofile(place / "in")
        words = [program, place / "model.onnx", place / "in", place / "out"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode:
            # Rust shows an error of `main` as a literal.
            told = done.stderr.split('problem: "')[-1].removesuffix('" }\n').replace("\\n", "\n")
            return told.strip().splitlines()[-1].strip()[:240]
        found = np.fromfile(place / "out", "<f4")
    wanted = np.asarray(expected, dtype=np.float32)
    if found.size != wanted.size:
        return f"expected {wanted.size} numbers, got {found.size}"
    return None if np.allclose(found, wanted.ravel(), rtol=1e-3, atol=1e-5) else "other numbers"


def stored(test):
    """The same of a test that lies in a folder: its weights stand in the model."""
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    weights = {tensor.name for tensor in model.graph.initializer}
    pictures = [value for value in model.graph.input if value.name not in weights]

    def tensor(name):
        return numpy_helper.to_array(onnx.load_tensor(folder / "test_data_set_0" / f"{name}.pb"))

    if len(pictures) > 1:
        # All but the first become constants.
        for index, value in enumerate(pictures[1:], 1):
            model.graph.initializer.append(numpy_helper.from_array(tensor(f"input_{index}"), value.name))
    return model, tensor("input_0"), tensor("output_0")


def cases(wanted):
    """Every test: the row that it is counted in, its name, what makes it, and what makes it of constants."""
    for test in load_model_tests(kind="node"):
        nodes = test.model.graph.node
        operator = nodes[0].op_type if len(nodes) == 1 else None
        if operator in wanted:
            yield operator, test.name, lambda test=test: case(test), lambda test=test: of_constants(test)
    for kind in ("pytorch-converted", "pytorch-operator"):
        for test in load_model_tests(kind=kind):
            if kind in wanted:
                yield kind, test.name, lambda test=test: stored(test), None


OF_CONSTANTS = "passes with constants"


def judged(program, entry):
    """Whether a test passes, passes with constants alone, or why it does not."""
    _, _, made, made_of_constants = entry
    problem = run(program, made)
    if problem is None or made_of_constants is None or run(program, made_of_constants) is not None:
        return problem
    return OF_CONSTANTS


def reason(problem):
    """A problem without the names and numbers of its test."""
    if problem.startswith("expected an opset"):
        return problem
    if problem.startswith("NotImplementedError"):
        return "a type that NumPy lacks"
    problem = re.sub(r"^\w+: (.*): '[^']*'$", r"\1", problem)
    return re.sub(r"\d+", "N", re.sub(r", got .*|: '[^']*'.*", "", problem))


def row(name, passed, known, problems):
    reasons = collections.Counter(reason(problem) for _, problem in problems)
    why = "; ".join(f"{text} ({count})" for text, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return f"| {name} | {passed} | {known} | {passed + known + len(problems)} | {why} |"


BEGIN, END = "<!-- tests/onnx/node_tests.py writes this table -->", "<!-- end of the table -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="these alone")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/run_onnx")
    parser.add_argument("--verbose", action="store_true", help="every test that does not pass")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table into this document")
    parser.add_argument("--check", type=Path, metavar="FILE", help="fail where fewer tests pass than this document's table says")
    arguments = parser.parse_args()
    wanted = set(arguments.operators or [*VOCABULARY, "pytorch-converted", "pytorch-operator"])
    passed, known, others = collections.Counter(), collections.Counter(), collections.Counter()
    failed = collections.defaultdict(list)
    all_cases = list(cases(wanted))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        problems = pool.map(lambda entry: judged(arguments.program, entry), all_cases)
    for (operator, name, *_), problem in zip(all_cases, problems, strict=True):
        if problem is None:
            passed[operator] += 1
        elif problem == OF_CONSTANTS:
            known[operator] += 1
        elif problem == NO_PICTURE:
            others[operator] += 1
        else:
            failed[operator].append((name, problem))
    rows = sorted(wanted & (set(passed) | set(known) | set(failed)))
    for operator in rows:
        apart = f" ({others[operator]} without a picture)" if others[operator] else ""
        count = passed[operator] + known[operator] + len(failed[operator])
        print(f"{operator}: {passed[operator]} and {known[operator]} with constants of {count}{apart}")
        for name, problem in failed[operator] if arguments.verbose else []:
            print(f"    {name}: {problem}")
    if arguments.markdown:
        text = arguments.markdown.read_text()
        table = ["| operator | pass | with constants | of | why the others do not |", "| --- | ---: | ---: | ---: | --- |"]
        table += [row(operator, passed[operator], known[operator], failed[operator]) for operator in rows]
        start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        arguments.markdown.write_text(text[:start] + "\n\n" + "\n".join(table) + "\n\n" + text[end:])
    if arguments.check:
        said = re.findall(r"^\| ([\w-]+) \| (\d+) \| (\d+) \| \d+ \|", arguments.check.read_text(), re.M)
        all_said = [(name, kind, found[name], int(count)) for name, *counts in said for kind, found, count in zip(
            ["", " with constants"], [passed, known], counts, strict=True)]
        fewer = [f"{name}{kind}: {found}, not {count}" for name, kind, found, count in all_said if name in wanted and found < count]
        if fewer:
            raise SystemExit(f"error: fewer tests pass than {arguments.check} says: {'; '.join(fewer)}")


if __name__ == "__main__":
    main()
