"""One peer with one work: worker.py ENGINE WORK FOLDER THREADS, started by compare.py.

Speaks as `convnet bench --turns` does: a line of JSON when all is ready, then for each line on stdin, which says how
many seconds a turn lasts, a line with the milliseconds of each run. FOLDER has what export.py wrote.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from works import WORKS, Work

WARM_UP = 3

# Runs once; its result can be turned into an array of logits.
Run = Callable[[], Any]


def pytorch(engine: str, work: Work, folder: Path, threads: int) -> Run:
    import torch

    import nets

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    net = nets.build(work.model)
    layout = torch.contiguous_format if engine in ["pytorch", "pytorch-compile"] else torch.channels_last
    if work.trains:
        return pytorch_step(engine, work, net.train().to(memory_format=layout), layout)
    import numpy

    net.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    net = net.eval().to(memory_format=layout)
    pictures = torch.from_numpy(numpy.load(folder / "input.npy")).to(memory_format=layout)
    call: Any = torch.compile(net) if engine == "pytorch-compile" else net

    def run() -> Any:
        with torch.inference_mode():
            return call(pictures)

    return run


def pytorch_step(engine: str, work: Work, net: Any, layout: Any) -> Run:
    """Forward, loss, backward and update."""
    import torch

    pictures = torch.randn(work.batch, *work.input).to(memory_format=layout)
    classes = net(pictures[:2]).shape[1]
    labels = torch.arange(work.batch) % classes
    parameters = net.parameters()
    # The fused updates are the faster ones.
    optimizer: torch.optim.Optimizer
    if work.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    else:
        optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()
    call: Any = torch.compile(net) if engine == "pytorch-compile" else net

    def run() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=engine == "pytorch-bf16"):
            loss = loss_of(call(pictures), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return run


def onnxruntime(_: str, work: Work, folder: Path, threads: int) -> Run:
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(folder / "net.onnx", options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: numpy.load(folder / "input.npy")}
    return lambda: session.run(None, feed)[0]


def openvino(engine: str, work: Work, folder: Path, threads: int) -> Run:
    import numpy
    import openvino

    core = openvino.Core()
    precision = engine.removeprefix("openvino-")
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise SystemExit("this processor has no bf16 arithmetic")
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(core.read_model(folder / "net.onnx"), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(numpy.load(folder / "input.npy")))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return run


def ncnn(_: str, work: Work, folder: Path, threads: int) -> Run:
    import ncnn
    import numpy

    net = ncnn.Net()
    net.opt.num_threads = threads
    # Everything in f32.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(folder / "net.ncnn.param"))
    net.load_model(str(folder / "net.ncnn.bin"))
    picture = numpy.load(folder / "input.npy")[0]

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(picture))
        return numpy.array(extractor.extract("out0")[1])

    return run


PEERS = {"pytorch": pytorch, "onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn}


def main() -> None:
    engine, name, folder, threads = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    work = next(work for work in WORKS if work.name == name)
    run = PEERS[engine.split("-")[0]](engine, work, folder, threads)
    result = [run() for _ in range(WARM_UP)][-1]
    ready: dict[str, Any] = {}
    if not work.trains:
        ready["logits"] = [float(x) for x in result.reshape(work.batch, -1)[0]]
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        end = time.perf_counter() + float(line)
        ms: list[float] = []
        while not ms or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            ms.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"ms": ms}), file=answers)


main()
