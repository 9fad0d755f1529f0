#!/usr/bin/env python3
"""How many pictures `convnet serve` answers a second, and how long they wait: ResNet-18 at 224x224, JPEG files of 500x375.

    cargo build --release -p convnet-cli
    python bench/serve.py --peer            # needs torch, torchvision, numpy, Pillow and, for the peer, litserve

First the service time (one client), then the capacity (32 clients that ask without pause), then requests at 0.5, 0.9 and 2 times
the capacity at fixed times, whatever the answers: a latency counts from the time at which its request was due, so that a server that
falls behind is not asked less (what load generators call the correction for coordinated omission). The load comes from a process of
its own on the same cores.

`--peer` measures the capacity of LitServe in the same way: PyTorch with the same network and weights (channels last), batches of up
to 16 pictures, pictures decoded and resized by torchvision on Pillow.
"""

import argparse
import asyncio
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 32
# Seconds in which the load itself gets going.
WARM_UP = 1.0
# Seconds for which the capacity is measured, at most, and between two looks at the memory.
CAPACITY_SECONDS, LOOK = 20, 2.0
PEER = """
import litserve as ls, torch, torchvision
from PIL import Image
from torchvision.transforms import v2

class Api(ls.LitAPI):
    def setup(self, device):
        torch.set_num_threads({threads})
        self.net = torchvision.models.resnet18()
        self.net.load_state_dict(torch.load({weights!r}))
        self.net = self.net.eval().to(memory_format=torch.channels_last)
        self.prepare = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
                                   v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    def decode_request(self, request):
        return self.prepare(Image.open(request["picture"].file).convert("RGB"))
    def batch(self, pictures):
        return torch.stack(pictures).to(memory_format=torch.channels_last)
    def predict(self, pictures):
        with torch.inference_mode():
            return self.net(pictures).softmax(1).topk(5)
    def unbatch(self, found):
        return list(zip(found.values.tolist(), found.indices.tolist()))
    def encode_response(self, found):
        return {{"probabilities": found[0], "classes": found[1]}}

if __name__ == "__main__":
    api = Api(max_batch_size=16, batch_timeout=0.005)
    ls.LitServer(api, accelerator="cpu").run(port={port}, num_api_servers=1, log_level="error", generate_client_file=False)
"""


def told(line):
    print(line, file=sys.stderr, flush=True)


def pictures(count):
    """JPEG files that look like photographs to a decoder: smooth shapes with noise."""
    import numpy as np
    from PIL import Image

    rng, files = np.random.default_rng(0), []
    y, x = np.mgrid[0:375, 0:500]
    for _ in range(count):
        waves = [np.sin(x / rng.uniform(5, 80) + y / rng.uniform(5, 80) + rng.uniform(0, 6)) for _ in range(3)]
        pixels = np.stack(waves, -1) * 90 + 128 + rng.normal(0, 8, (375, 500, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def request(path, body, kind="image/jpeg"):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def as_form(body):
    """The same picture as multipart/form-data."""
    head = b'--xyz\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + body + b"\r\n--xyz--\r\n"


class Client:
    """Connections that are kept, one for each request under way."""

    def __init__(self, port):
        self.port, self.idle = port, []

    async def ask(self, message):
        """The status of the answer."""
        for attempt in range(2):
            reader, writer = self.idle.pop() if self.idle and not attempt else await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(message)
                head = await reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError):
                # A connection that was idle may have been closed meanwhile.
                writer.close()
                if attempt:
                    raise
                continue
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if b": " in line)
            await reader.readexactly(int(fields.get(b"content-length", 0)))
            if fields.get(b"connection") == b"close":
                writer.close()
            else:
                self.idle.append((reader, writer))
            return int(head.split(b" ", 2)[1])


async def closed_loop(port, messages, clients, seconds):
    """Answers a second of clients that ask without pause, and the latencies."""
    client, latencies, end = Client(port), [], time.perf_counter() + seconds

    async def ask(first):
        turn = first
        while (start := time.perf_counter()) < end:
            status = await client.ask(messages[turn % len(messages)])
            if status != 200:
                raise SystemExit(f"error: expected 200, got {status}")
            latencies.append(time.perf_counter() - start)
            turn += clients

    await asyncio.gather(*(ask(first) for first in range(clients)))
    return len(latencies) / seconds, latencies


async def open_loop(port, messages, rate, seconds):
    """Statuses and latencies of requests that are due at fixed times, without those of the first second."""
    client, found, begin = Client(port), [], time.perf_counter() + 0.1

    async def ask(index):
        due = begin + index / rate
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        try:
            status = await client.ask(messages[index % len(messages)])
        except OSError as error:
            status = type(error).__name__
        if due >= begin + WARM_UP:
            found.append((status, time.perf_counter() - due))

    await asyncio.gather(*(ask(index) for index in range(int(rate * (seconds + WARM_UP)))))
    return found


def quantile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else float("nan")


def memory(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Memory(threading.Thread):
    """Looks at the memory of a process, in MB, until it is told to stop."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.found, self.ended = process, [], threading.Event()
        self.start()

    def run(self):
        while not self.ended.is_set():
            self.found.append(round(memory(self.process), 1))
            self.ended.wait(LOOK)

    def stop(self):
        """What it was in the second tenth of the time and in the last, where it was largest."""
        self.ended.set()
        self.join()
        tenth = max(len(self.found) // 10, 1)
        return [max(self.found[tenth : 2 * tenth] or self.found), max(self.found[-tenth:])]


def in_a_process(function, *arguments):
    """The result of a coroutine that runs in a process of its own."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        return pool.submit(run, function, arguments).result()


def run(function, arguments):
    return asyncio.run(function(*arguments))


def of_convnet(arguments, weights, files):
    command = [arguments.convnet, "serve", f"resnet18={weights}", "--model", "resnet18", "--port", "0", "-q"]
    command += ["--max-wait", arguments.max_wait]
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().strip().rsplit(":", 1)[1])
        messages = [request("/v1/models/resnet18/predict", file) for file in files]
        in_a_process(closed_loop, port, messages, 1, 2)
        _, latencies = in_a_process(closed_loop, port, messages, 1, 3)
        service = statistics.median(latencies)
        capacity, _ = in_a_process(closed_loop, port, messages, CLIENTS, min(arguments.seconds, CAPACITY_SECONDS))
        rows = [{"service_ms": 1000 * service, "capacity": capacity, "memory_mb": memory(server)}]
        told(f"convnet: service time {1000 * service:.2f} ms, capacity {capacity:.0f} pictures/s")
        for load in arguments.loads:
            looking = Memory(server)
            found = in_a_process(open_loop, port, messages, load * capacity, arguments.seconds)
            good = [latency for status, latency in found if status == 200]
            statuses = {str(status): sum(1 for other, _ in found if other == status) for status, _ in found}
            row = {"load": load, "requests": len(found), "statuses": statuses, "memory_mb": looking.stop()}
            row |= {"p50_ms": 1000 * quantile(good, 0.5), "p99_ms": 1000 * quantile(good, 0.99)}
            told(f"convnet at {load}: {row}")
            rows.append(row)
        return rows
    finally:
        server.terminate()
        server.wait()


def of_peer(arguments, weights, files):
    port = 18231
    program = PEER.format(weights=str(weights), port=port, threads=os.cpu_count())
    file = weights.with_name("peer.py")
    file.write_text(program)
    server = subprocess.Popen([sys.executable, file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        messages = [request("/predict", as_form(file), "multipart/form-data; boundary=xyz") for file in files]
        for _ in range(120):
            time.sleep(0.5)
            try:
                in_a_process(closed_loop, port, messages, 1, 0.5)
                break
            except (OSError, SystemExit):
                continue
        else:
            raise SystemExit("error: the peer does not answer")
        in_a_process(closed_loop, port, messages, CLIENTS, 3)
        _, latencies = in_a_process(closed_loop, port, messages, 1, 3)
        capacity, _ = in_a_process(closed_loop, port, messages, CLIENTS, min(arguments.seconds, CAPACITY_SECONDS))
        service = 1000 * statistics.median(latencies)
        told(f"LitServe: service time {service:.2f} ms, capacity {capacity:.0f} pictures/s")
        return {"service_ms": service, "capacity": capacity}
    finally:
        subprocess.run(["pkill", "-P", str(server.pid)], check=False)
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    parser.add_argument("--seconds", type=float, default=20, help="of each load")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.9, 2.0], help="shares of the capacity")
    parser.add_argument("--max-wait", type=int, default=500, help="milliseconds, as --max-wait of the server")
    parser.add_argument("--peer", action="store_true", help="LitServe, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import torch
    import torchvision

    files = pictures(64)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "resnet18.pth"
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), weights)
        result = {"convnet": of_convnet(arguments, weights, files)}
        if arguments.peer:
            result["LitServe"] = of_peer(arguments, weights, files)
            again = of_convnet(argparse.Namespace(**vars(arguments) | {"loads": []}), weights, files)
            result["convnet again"] = again
            ratio = (result["convnet"][0]["capacity"] + again[0]["capacity"]) / 2 / result["LitServe"]["capacity"]
            told(f"capacity, convnet to LitServe: {ratio:.2f}")
    result["machine"] = f"{os.cpu_count()} cores, {datetime.date.today()}, PyTorch {torch.__version__}"
    text = json.dumps(result, indent=1)
    if arguments.json:
        arguments.json.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
