#!/usr/bin/env python3
"""What `convnet scale` predicts, against runs of processes whose links are slowed: a network namespace for each, on one bridge.

    cargo build --release -p convnet-cli --features mpi
    sudo python3 bench/scale.py [--model resnet18] [--input 3x128x128] [--batch-size 16] [--rates 1gbit 100mbit] [--nodes 2 4]
                                [--rounds 3]

Each process has a namespace with a link of its own (`tc`'s token bucket in both directions). What a link carries is measured with a
stream of bytes, its latency with bytes that come back; a step of one process is measured by as many copies of `convnet scale` at the same time as there
will be processes, since they share this machine. Then the same network is trained by `mpirun` over these links, with exchanges while backward
goes on (buckets of 4 MiB) and after it. All of this is done in turns, round by round, since a machine's speed changes, and the medians of
the rounds are told, with the least and the greatest error of a round's prediction. Needs Linux, root, iproute2, Open MPI 4.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "mpi"))
from processes import ENVIRONMENT, png  # noqa: E402

BRIDGE, NET = "convnet-br", "10.77.0"
STEPS, EPOCHS = 4, 5
AGENT = """#!/bin/sh
host=$1; shift
exec ip netns exec "convnet-${host##*.}" unshare --uts sh -c "hostname node-${host##*.}; $*"
"""
# Receives a stream of bytes, and says how many came in a second after the first.
RECEIVE = """
import socket, time
server = socket.create_server(("0.0.0.0", 7777)); print("ready", flush=True)
link, _ = server.accept(); got, begin = 0, None
while True:
    data = link.recv(1 << 20)
    if not data: break
    if begin is None: begin = time.time(); continue
    got += len(data)
print(got, time.time() - begin)
"""
# Answers a byte with a byte.
ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 7778)); print("ready", flush=True)
link, _ = server.accept(); link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while link.recv(1): link.sendall(b"0")
"""
PING = """
import socket, statistics, sys, time
link = socket.create_connection((sys.argv[1], 7778)); link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(200):
    begin = time.time(); link.sendall(b"0"); link.recv(1); times.append(time.time() - begin)
print(statistics.median(times) / 2)
"""
SEND = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], 7777)); end = time.time() + 4
while time.time() < end: link.sendall(bytes(1 << 16))
"""


def sh(command, **options):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True, **options).stdout


def inside(node, command):
    return f"ip netns exec convnet-{node} {command}"


def lay(nodes, rate):
    """Namespaces on a bridge, each behind a link of this rate."""
    sh(f"ip link add {BRIDGE} type bridge; ip addr add {NET}.254/24 dev {BRIDGE}; ip link set {BRIDGE} up")
    for node in range(1, nodes + 1):
        sh(f"ip netns add convnet-{node}; ip link add cn{node} type veth peer name eth0 netns convnet-{node}")
        sh(f"ip link set cn{node} master {BRIDGE} up; {inside(node, 'ip link set lo up')}")
        sh(inside(node, f"ip addr add {NET}.{node}/24 dev eth0") + "; " + inside(node, "ip link set eth0 up"))
        # A burst is more than the 64 KiB that TCP hands down at once: else the kernel would cut them into packets on the cores that compute,
        # which a network card does by itself. What waits is as much as a switch keeps for a port.
        bucket = f"tbf rate {rate} burst 128kb limit 256kb"
        sh(f"tc qdisc add dev cn{node} root {bucket}; " + inside(node, f"tc qdisc add dev eth0 root {bucket}"))


def clear():
    for node in range(1, 9):
        subprocess.run(f"ip netns del convnet-{node}; ip link del cn{node}", shell=True, capture_output=True)
    subprocess.run(f"ip link del {BRIDGE}", shell=True, capture_output=True)


def kernel_seconds():
    """Seconds that all cores have spent in the kernel."""
    _, _, _, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split()
    return (int(system) + int(irq) + int(softirq)) / os.sysconf("SC_CLK_TCK")


def link():
    """Bytes a second that a link carries in both directions at the same time, seconds until a message arrives, and seconds of a core that the
    kernel computes for a byte that is sent and received."""
    receive = lambda node: subprocess.Popen(inside(node, "python3 -c").split() + [RECEIVE], stdout=subprocess.PIPE, text=True)
    send = lambda node, to: subprocess.Popen(inside(node, "python3 -c").split() + [SEND, f"{NET}.{to}"])
    receivers = [receive(1), receive(2)]
    [receiver.stdout.readline() for receiver in receivers]
    begin = kernel_seconds()
    [sender.wait() for sender in [send(1, 2), send(2, 1)]]
    streams = [[float(number) for number in receiver.communicate()[0].split()] for receiver in receivers]
    cost = (kernel_seconds() - begin) / sum(count for count, _ in streams)
    bandwidth = statistics.mean(count / seconds for count, seconds in streams)
    echo = subprocess.Popen(inside(2, "python3 -c").split() + [ECHO], stdout=subprocess.PIPE, text=True)
    echo.stdout.readline()
    latency = subprocess.run(inside(1, "python3 -c").split() + [PING, f"{NET}.2"], check=True, capture_output=True, text=True).stdout
    echo.wait()
    return bandwidth, float(latency), cost


def predicted(options, nodes, bandwidth, latency):
    """Seconds of a step with and without overlap, and alone: means over copies that run at the same time."""
    found = []
    for cap in [4, 0]:
        command = [options.convnet, "scale", options.model, "--input", options.input, "--batch-size", str(options.batch_size)]
        command += ["--nodes", str(nodes), "--bandwidth", f"{bandwidth * 8:.0f}", "--latency", f"{latency:.9f}s"]
        command += ["--threads", "1", "--repeats", "7", "--bucket-cap-mb", str(cap), "--json"]
        copies = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(nodes)]
        found.append([json.loads(copy.communicate()[0]) for copy in copies])
    mean = lambda answers, take: statistics.mean(map(take, answers))
    return (
        mean(found[0], lambda answer: answer["seconds"]),
        mean(found[0], lambda answer: answer["nodes"][0]["seconds"]),
        mean(found[1], lambda answer: answer["nodes"][0]["sequential"]),
    )


def photos(folder, side, count):
    """A folder with two classes of pictures, together so many."""
    generator = random.Random(1)
    for name in ["one", "two"]:
        (folder / name).mkdir(parents=True)
        for index in range(count // 2):
            png(folder / name / f"{index:04}.png", side, [generator.randrange(60, 200) for _ in range(3)], generator)
    return folder


def trained(command, folder):
    """Trains by a command, into a new folder within this one, and returns what was measured of each epoch."""
    run = folder / f"run-{time.time_ns()}"
    done = subprocess.run([*command, "--out", str(run)], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT})
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def measured(options, nodes, data, folder, cap):
    """Seconds of a step of the last epochs."""
    agent = folder / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    hosts = ",".join(f"{NET}.{node}" for node in range(1, nodes + 1))
    command = ["mpirun", "--host", hosts, "-n", str(nodes), "--mca", "plm_rsh_agent", str(agent), "--mca", "pml", "ob1"]
    command += ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", f"{NET}.0/24", "--mca", "oob_tcp_if_include", f"{NET}.0/24"]
    command += [options.convnet, "train", "--data", str(data), "--model", options.model, "--input", options.input]
    command += ["--batch-size", str(options.batch_size * nodes), "--epochs", str(EPOCHS), "--threads", "1", "--val-split", "0"]
    command += ["--limit", str(STEPS * options.batch_size * nodes), "--optimizer", "sgd", "--train-eval", "0", "--precise-bn", "0"]
    command += ["--bucket-cap-mb", str(cap), "--lr", "0.001"]
    epochs = trained(command, folder)
    return statistics.median(options.batch_size * nodes / epoch["images_per_second"] for epoch in epochs[1:])


def a_round(options, nodes, data, folder):
    """What the link carries, how late, at what cost, a step alone, and the prediction and what is measured, with exchanges during backward and
    after it."""
    bandwidth, latency, cost = link()
    alone, *expected = predicted(options, nodes, bandwidth, latency)
    found = [measured(options, nodes, data, folder, cap) for cap in [4, 0]]
    return bandwidth, latency, cost, alone, list(zip(expected, found))


def cells(nodes, rounds):
    """The medians of all rounds, as cells of the table."""
    median = statistics.median
    bandwidth, latency, cost, alone, ways = zip(*rounds)
    found = [f"{median(bandwidth) * 8e-6:.0f} Mbit/s", f"{median(latency) * 1e6:.0f} us", f"{median(cost) * 1e9:.1f} ns"]
    found += [str(nodes), f"{median(alone) * 1e3:.0f}"]
    for way in zip(*ways):
        expected, got = zip(*way)
        errors = [(expected / got - 1) * 100 for expected, got in way]
        found += [f"{median(expected) * 1e3:.0f}"]
        found += [f"{median(got) * 1e3:.0f} ({median(errors):+.0f} %: {min(errors):+.0f} to {max(errors):+.0f})"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", default=str(ROOT / "target/release/convnet"))
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--input", default="3x128x128")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rates", nargs="+", default=["1gbit", "100mbit"])
    parser.add_argument("--nodes", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        side = int(options.input.split("x")[1])
        data = photos(folder / "photos", side, STEPS * options.batch_size * max(options.nodes))
        print("| link | carries | latency | kernel, a byte | processes | alone ms | overlap: predicted | measured | after: predicted | measured |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for rate in options.rates:
            for nodes in options.nodes:
                clear()
                try:
                    lay(nodes, rate)
                    rounds = [a_round(options, nodes, data, folder) for _ in range(options.rounds)]
                finally:
                    clear()
                print("|", rate, "|", " | ".join(cells(nodes, rounds)), "|", flush=True)


if __name__ == "__main__":
    main()
