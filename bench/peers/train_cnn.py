"""Times PyTorch's training step of the lecture's CNN: forward, loss, backward, Adam, on synthetic data.

    python bench/peers/train_cnn.py [--threads 2] [--format default|channels_last] [--steps 30] [--warmup 5]

Without --format, each format is timed in a process of its own, so that peak memory is that format's. Prints one line of
JSON per format: {"peer", "version", "format", "threads", "median_ms", "min_ms", "peak_rss_bytes"}. The net is
`convnet bench cnn --mode train --batch-size 256`: 1x28x28, cdims 32,64, hdims 1024,128, batch norm, channel dropout 0.5.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

FORMATS = ["default", "channels_last"]


def build(torch):
    nn, layers, channels = torch.nn, [], 1
    for c in [32, 64]:
        layers += [nn.Conv2d(channels, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.5)]
        channels = c
    layers += [nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(*layers)


def time_steps(args):
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net = build(torch).train()
    x = torch.randn(args.batch_size, 1, 28, 28)
    y = torch.randint(10, (args.batch_size,))
    if args.format == "channels_last":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loss_of = torch.nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(args.warmup):
        step()
    milliseconds = []
    for _ in range(args.steps):
        start = time.perf_counter()
        step()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return {
        "peer": "pytorch",
        "version": torch.__version__,
        "format": args.format,
        "threads": args.threads,
        "median_ms": round(statistics.median(milliseconds), 3),
        "min_ms": round(min(milliseconds), 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts KiB.
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5)
    args = parser.parse_args()
    if args.format:
        print(json.dumps(time_steps(args)), flush=True)
        return
    for format in FORMATS:
        subprocess.run([sys.executable, *sys.argv, "--format", format], check=True)


if __name__ == "__main__":
    main()
