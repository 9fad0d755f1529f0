#!/usr/bin/env python3
"""From files to answers with ResNet-18: `convnet predict` beside PyTorch and ONNX Runtime, in turns.

    cargo build --release -p convnet-cli
    python bench/predict.py [--pictures 1000] [--turns 5]

Makes JPEG files of 500x375 pixels, as bench/loader.py does, and random weights that all programs read. Two questions:

- How long from the start of the program to the answer for one picture, and with how much memory? (convnet, and each peer as a
  short script; the time of inference alone, after it has warmed up, stands beside it.)
- How many pictures of a folder are answered in a second? convnet is timed as a whole program, start and weights included; of the
  peers only the pictures are. PyTorch: ImageFolder, Resize, CenterCrop, DataLoader with two workers, batches of 32, channels last.
  ONNX Runtime: the same transforms and one picture after the other, as in most programs that use it.

All programs use all cores. Needs torch, torchvision, onnx, onnxruntime, numpy, Pillow and safetensors; Linux for the memory.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loader

ROOT = Path(__file__).resolve().parents[1]
BATCH = 32
ONE = {
    "PyTorch": """
import sys, torch, torchvision
from PIL import Image
from torchvision import transforms as t
from safetensors.torch import load_file
net = torchvision.models.resnet18()
net.load_state_dict(load_file(sys.argv[1] + "/weights.safetensors"))
steps = [t.Resize(256), t.CenterCrop(224), t.ToTensor(), t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
with torch.inference_mode():
    net.eval()
    print(int(net(t.Compose(steps)(Image.open(sys.argv[2]))[None]).argmax()))
""",
    "ONNX Runtime": """
import sys, numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1] + "/net.onnx")
picture = Image.open(sys.argv[2])
scale = 256 / min(picture.size)
picture = picture.resize([round(side * scale) for side in picture.size], Image.BILINEAR)
left, top = ((side - 224) // 2 for side in picture.size)
x = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
x = ((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32).transpose(2, 0, 1)[None]
print(int(session.run(None, {"x": x})[0].argmax()))
""",
}


def write_nets(folder):
    """Weights and an ONNX file of the same network."""
    import warnings

    import torch
    import torchvision
    from safetensors.torch import save_file

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    net = torchvision.models.resnet18().eval()
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, folder / "weights.safetensors")
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    x = torch.zeros(1, 3, 224, 224)
    torch.onnx.export(
        net, x, folder / "net.onnx", input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False
    )


def timed(command):
    """Seconds and MB of a program, and what it printed."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        output, complaint = child.stdout.read(), child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"{command[0]} failed: {complaint.decode()[-1000:]}")
    return seconds, usage.ru_maxrss / 1000, output.decode()


def first_answers(arguments, folder, picture):
    """Rows of seconds and MB to the first answer."""
    convnet = [arguments.convnet, "predict", "--model", "resnet18", "--weights", folder / "weights.safetensors"]
    commands = {"convnet": [*convnet, "--json", picture]}
    commands |= {name: [sys.executable, "-c", script, folder, picture] for name, script in ONE.items()}
    rows = {name: [] for name in commands}
    for _ in range(arguments.turns + 1):
        for name, command in commands.items():
            rows[name].append(timed([str(word) for word in command]))
    print("\n| to the answer for one picture | ms | MB |\n| --- | --- | --- |")
    for name, turns in rows.items():
        # The first one reads files that are not in memory yet.
        seconds, memory = (statistics.median(column) for column in list(zip(*turns[1:]))[:2])
        print(f"| {name} | {1000 * seconds:.0f} | {memory:.0f} |")
    output = timed(
        [str(word) for word in [arguments.convnet, "bench", "resnet18", "--mode", "infer", "-b", 1, "--json"]]
    )[2]
    print(f"| of which convnet's inference, when all is warm | {json.loads(output)['median_ms']:.1f} | |")
    classes = {name: turns[0][2] for name, turns in rows.items()}
    ours = json.loads(classes.pop("convnet"))["predictions"][0]["top"][0]["class"]
    if any(int(theirs) != ours for theirs in classes.values()):
        sys.exit(f"the programs see different classes: {ours} and {classes}")


def torch_rates(folder, threads):
    """Yields PyTorch's pictures per second."""
    import torch
    import torchvision
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    torch.set_num_threads(threads)
    net = torchvision.models.resnet18().eval().to(memory_format=torch.channels_last)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize]
    pictures = datasets.ImageFolder(folder / "train", transforms.Compose(steps))
    batches = DataLoader(pictures, BATCH, num_workers=2, persistent_workers=True)
    while True:
        start = time.perf_counter()
        with torch.inference_mode():
            for images, _ in batches:
                net(images.to(memory_format=torch.channels_last)).argmax(1)
        yield len(pictures) / (time.perf_counter() - start)


def onnxruntime_rates(folder, threads):
    """Yields ONNX Runtime's pictures per second."""
    import onnxruntime
    from PIL import Image
    from torchvision import transforms

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "net.onnx", options)
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize]
    prepare = transforms.Compose(steps)
    files = sorted((folder / "train").rglob("*.jpg"))
    while True:
        start = time.perf_counter()
        for file in files:
            session.run(None, {"x": prepare(Image.open(file).convert("RGB"))[None].numpy()})
        yield len(files) / (time.perf_counter() - start)


def convnet_rates(arguments, folder):
    command = [arguments.convnet, "predict", "--model", "resnet18", "--weights", folder / "weights.safetensors"]
    command = [str(word) for word in [*command, "--json", folder / "train"]]
    while True:
        seconds, _, output = timed(command)
        yield len(json.loads(output)["predictions"]) / seconds


def folders(arguments, folder):
    threads = os.cpu_count()
    ways = {
        "convnet": convnet_rates(arguments, folder),
        "torchvision and PyTorch": torch_rates(folder, threads),
        "ONNX Runtime in a loop": onnxruntime_rates(folder, threads),
    }
    rates = {name: [] for name in ways}
    for _ in range(arguments.turns + 1):
        for name, rate in ways.items():
            rates[name].append(next(rate))
            print(f"{name}: {rates[name][-1]:.0f} pictures/s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(turns[1:]) for name, turns in rates.items()}
    print("\n| a folder of pictures | pictures/s | convnet's share |\n| --- | --- | --- |")
    for name, rate in medians.items():
        print(f"| {name} | {rate:.0f} | {medians['convnet'] / rate:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loader.make(folder, arguments.pictures)
        # In a process of its own: a program that is started by a large one would be counted as large.
        writer = multiprocessing.get_context("spawn").Process(target=write_nets, args=(folder,))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit("the networks could not be written")
        first_answers(arguments, folder, next((folder / "train").rglob("*.jpg")))
        folders(arguments, folder)


if __name__ == "__main__":
    main()
