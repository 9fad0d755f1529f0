"""Writes a net in the forms that the engines read: export.py WORK FOLDER, run by compare.py.

weights.pth for convnet and PyTorch, net.onnx for convnet-onnx, ONNX Runtime, OpenVINO, rten and tract, net.ncnn.param and net.ncnn.bin for ncnn,
input.npy, and expected.json: what PyTorch makes of the input's first picture.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy
import pnnx
import torch

import nets
from works import WORKS


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    work = next(work for work in WORKS if work.name == name)
    # The exporter and tracer that need no further packages are called old at every use.
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(max(work.batch, 4), *work.input, generator=generator)
    net = nets.settled(nets.build(work.model), pictures)
    pictures = pictures[: work.batch].contiguous()
    with torch.no_grad():
        expected = net(pictures)[0]
    (folder / "expected.json").write_text(json.dumps(expected.tolist()))
    numpy.save(folder / "input.npy", pictures.numpy())
    torch.save(net.state_dict(), folder / "weights.pth")
    torch.onnx.export(net, (pictures,), str(folder / "net.onnx"), dynamo=False)
    if work.batch == 1:
        export_ncnn(net, pictures, folder)


def export_ncnn(net: torch.nn.Module, pictures: torch.Tensor, folder: Path) -> None:
    """By way of TorchScript and pnnx, with weights in f32."""
    torch.jit.trace(net, pictures).save(str(folder / "net.pt"))
    shape = ",".join(map(str, pictures.shape))
    program = Path(sys.prefix) / "bin" / "pnnx"
    arguments = ["net.pt", f"inputshape=[{shape}]", "fp16=0", "ncnnparam=net.ncnn.param", "ncnnbin=net.ncnn.bin"]
    result = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode or not (folder / "net.ncnn.bin").exists():
        raise SystemExit(f"pnnx {pnnx.__version__} failed: {result.stderr[-500:]}")
    for rest in [*folder.glob("net.pnnx.*"), *folder.glob("net_*.py"), folder / "net.pt"]:
        rest.unlink()


main()
