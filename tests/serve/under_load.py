#!/usr/bin/env python3
"""`convnet serve` while clients ask it without pause: reloads, hostile clients, and SIGTERM. No request of theirs may fail.

    cargo build --release -p convnet-cli
    python tests/serve/under_load.py        # Python's own library alone

Hostile: slow headers, slow bodies, a body of 1 GB, 10,000 connections, pictures that claim to be huge or unpack to much, broken JSON,
wrong shapes, NaN. Each is refused with its status while the others are served, and memory stays below a limit.
"""

import argparse
import http.client
import json
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/v1/models/digits/predict"
INFER = "/v2/models/digits/infer"
CLIENTS = 8


def png(width, height, rows):
    """A grey PNG of that size whose pixels are what is given, whether they fit or not."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


PICTURE = png(28, 28, b"".join(b"\0" + bytes((x * y) % 256 for x in range(28)) for y in range(28)))


def check(holds, what):
    if not holds:
        raise SystemExit(f"error: {what}")
    print(f"ok: {what}", file=sys.stderr, flush=True)


class Server:
    def __init__(self, convnet, model, *flags):
        command = [str(convnet), "serve", f"digits={model}", "--port", "0", "-q", "--max-wait", "20000", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.host, port = self.process.stdout.readline().strip().removeprefix("http://").split(":")
        self.port = int(port)

    def ask(self, method, path, body=b"", headers=None, timeout=60):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=20)

    def memory(self):
        """Megabytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


class Clients:
    """Clients that ask without pause; what they hear."""

    def __init__(self, server):
        self.server, self.heard, self.stopping = server, {}, threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.stopping.is_set():
            try:
                heard, _ = self.server.ask("POST", PREDICT, PICTURE)
            except OSError as error:
                heard = repr(error)
            with self.lock:
                self.heard[heard] = self.heard.get(heard, 0) + 1

    def stop(self, what):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)
        check(set(self.heard) == {200}, f"{what}: {self.heard}")


def reloads(server, weights):
    """Twenty reloads, every second one of a file that is damaged."""
    clients, sound = Clients(server), weights.read_bytes()
    for turn in range(20):
        replacement = weights.with_name("next")
        replacement.write_bytes(sound[: len(sound) // 2] if turn % 2 else sound)
        replacement.rename(weights)
        status, answer = server.ask("POST", "/v2/repository/models/digits/load")
        expected = 400 if turn % 2 else 200
        if status != expected:
            check(False, f"reload {turn}: expected {expected}, got {status} {answer}")
    weights.write_bytes(sound)
    clients.stop("twenty reloads, ten of damaged files")


def hostile(server):
    clients, before = Clients(server), server.memory()
    slow = [server.connect() for _ in range(200)]
    for index, stream in enumerate(slow):
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc"
        stream.sendall(head.encode() if index % 2 else b"GET /v2 HTTP/1.1\r\nHost: lo")
    many = []
    for _ in range(10_000):
        try:
            many.append(server.connect())
        except OSError:
            break
    check(len(many) >= min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2), f"{len(many)} connections were opened")
    for stream in slow + many:
        stream.close()
    for name, expected, path, body, headers in [
        ("a body of 1 GB", 413, PREDICT, b"", {"Content-Length": "1000000000"}),
        ("a picture of 30,000 x 30,000", 413, PREDICT, png(30_000, 30_000, b"\0" * 100), {}),
        ("a picture that unpacks to 200 MB", 400, PREDICT, png(28, 28, b"\0" * 200_000_000), {}),
        ("broken JSON", 400, INFER, b'{"inputs": [', {}),
        ("a wrong shape", 400, INFER, json.dumps(tensor([1, 1, 28, 27], [0] * 756)).encode(), {}),
        ("NaN", 400, INFER, b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": [NaN]}]}', {}),
        ("lists within lists", 400, INFER, b"[" * 1_000_000, {}),
        ("nothing", 400, PREDICT, b"", {}),
        ("a gzipped body", 415, PREDICT, PICTURE, {"Content-Encoding": "gzip"}),
        ("a method that is not allowed", 405, "/v2", b"", {}),
    ]:
        start = time.monotonic()
        status, answer = server.ask("POST", path, body, headers)
        # A picture with more rows than it says is read with a warning or refused: either is within limits.
        fits = status == expected or (name.startswith("a picture that unpacks") and status == 200)
        check(fits and time.monotonic() - start < 5, f"{name}: {status} {answer[:100]}")
    clients.stop("hostile clients beside others")
    after = server.memory()
    check(after < before + 300, f"memory: {before} MB before, {after} MB after")


def stop(server):
    """SIGTERM: the clients stop when the server is not ready any more, as a load balancer lets them."""
    clients = Clients(server)
    time.sleep(1)
    server.process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    while server.ask("GET", "/v2/health/ready")[0] == 200:
        time.sleep(0.01)
    time.sleep(0.5)
    clients.stop("SIGTERM")
    code = server.process.wait(timeout=30)
    check(code == 0, f"the server stopped with {code} after {time.monotonic() - start:.1f} s")


def tensor(shape, data):
    return {"inputs": [{"name": "input", "datatype": "FP32", "shape": shape, "data": data}]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 25_000) if hard != resource.RLIM_INFINITY else 25_000, hard))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [arguments.convnet, "train", "--epochs", "1", "--out", run, "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        server = Server(arguments.convnet, run / "best.safetensors")
        try:
            reloads(server, run / "best.safetensors")
            hostile(server)
            stop(server)
        finally:
            server.process.kill()


if __name__ == "__main__":
    main()
