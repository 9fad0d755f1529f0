"""Runs a network with ONNX Runtime: its input comes on stdin, its output goes to stdout.

    python3 - MODEL SHAPE < input > output

SHAPE is the input's, such as 2x3x224x224; elements are of the type that the model says, the output's are float32.
"""

import sys

import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
kind = {"tensor(float)": numpy.float32, "tensor(uint8)": numpy.uint8}[given.type]
shape = [int(length) for length in sys.argv[2].split("x")]
picture = numpy.frombuffer(sys.stdin.buffer.read(), kind).reshape(shape)
found = session.run(None, {given.name: picture})[0]
sys.stderr.write(onnxruntime.__version__)
sys.stdout.buffer.write(found.astype("<f4").tobytes())
