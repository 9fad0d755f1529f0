"""Worker processes that run in turns: each is stopped while another one has the machine."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from environment import HERE
from works import CONVNET_ONNX, CONVNETS, RUST_PEERS, Work

# What keeps engines to an instruction set. oneDNN, which PyTorch and OpenVINO compute with, PyTorch's own kernels and MKL.
ISA_SWITCHES = {
    "avx2": {
        "CONVNET_ISA": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}

# Seconds after which a worker that does not answer is given up.
PATIENCE = 900.0
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A worker that cannot go on, and why."""


@dataclass
class Turn:
    """Milliseconds of each run, and the share of all processors that other processes used meanwhile."""

    ms: list[float]
    others: float


@dataclass
class Worker:
    """A process that prepares one engine for one work."""

    engine: str
    process: subprocess.Popen[bytes]
    log: Path
    ready: dict[str, Any] = field(default_factory=dict)
    unread: bytes = b""

    @classmethod
    def start(
        cls, engine: str, command: list[str | Path], folder: Path, threads: int, kept: dict[str, str]
    ) -> "Worker":
        """Returns when the worker is ready, and stopped; `kept` are variables that keep it to an instruction set."""
        log = folder / f"{engine}.log"
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        environment |= kept
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env=environment,
                preexec_fn=die_with_parent,
            )
        worker = cls(engine, process, log)
        try:
            worker.ready = worker.read()
        except BaseException:
            worker.end()
            raise
        worker.process.send_signal(signal.SIGSTOP)
        return worker

    def turn(self, seconds: float) -> Turn:
        """Runs for so many seconds, at least once, while all other workers stand still."""
        self.process.send_signal(signal.SIGCONT)
        (busy_before, total_before), own_before = busy_and_all_ticks(), self.ticks()
        self.write(f"{seconds}\n")
        answer = self.read()
        (busy, total), own = busy_and_all_ticks(), self.ticks()
        self.process.send_signal(signal.SIGSTOP)
        others = (busy - busy_before) - (own - own_before)
        return Turn(answer["ms"], max(others, 0) / max(total - total_before, 1))

    def write(self, line: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode())
        except BrokenPipeError:
            raise self.failure("it ended") from None

    def read(self) -> Any:
        """The next line of JSON."""
        assert self.process.stdout
        stdout, end = self.process.stdout.fileno(), time.monotonic() + PATIENCE
        while b"\n" not in self.unread:
            if not select.select([stdout], [], [], max(end - time.monotonic(), 0))[0]:
                raise self.failure(f"no answer in {PATIENCE:.0f} s")
            piece = os.read(stdout, 1 << 16)
            if not piece:
                raise self.failure(f"it ended with status {self.process.wait()}")
            self.unread += piece
        line, self.unread = self.unread.split(b"\n", 1)
        return json.loads(line)

    def failure(self, what: str) -> Failed:
        return Failed(f"{what}: {complaint(self.log.read_text(errors='replace'))}")

    def ticks(self) -> int:
        """Processor time of all its threads so far."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            raise self.failure("it ended") from None
        return int(fields[11]) + int(fields[12])

    def peak_memory(self) -> int:
        """The most bytes that it has had in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Workers(list[Worker]):
    """Ends them all when it is left."""

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self:
            worker.end()


@dataclass(frozen=True)
class Programs:
    """Where the engines are: Python with its peers, convnet, and the folder of Rust's peers."""

    python: Path
    convnet: Path
    rust: Path


def command_of(engine: str, work: Work, folder: Path, programs: Programs, threads: int) -> list[str | Path]:
    if engine in RUST_PEERS:
        return [programs.rust / engine, folder, str(threads)]
    if engine not in [*CONVNETS, CONVNET_ONNX]:
        return [programs.python, HERE / "worker.py", engine, work.name, folder, str(threads)]
    net: list[str | Path] = ["--net", folder / "net.onnx"] if engine == CONVNET_ONNX else [work.model]
    size = "x".join(map(str, work.input))
    kind: list[str] = ["--mode", work.mode, "--batch-size", str(work.batch), "--input", size, "--opt", work.optimizer]
    return [programs.convnet, "bench", *net, *kind, "--threads", str(threads), "--turns", *precision_of(engine)]


def precision_of(engine: str) -> list[str]:
    """What tells convnet to compute as the engine's name says."""
    return ["--precision", "bf16"] if engine.endswith("bf16") else []


def die_with_parent() -> None:
    """No worker may stay behind, stopped for ever, when this program is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def busy_and_all_ticks() -> tuple[int, int]:
    """Of all processors so far. What the host takes away counts as busy."""
    user, nice, system, idle, waiting, *interrupts_and_stolen = map(int, cpu_line().split()[1:9])
    busy = user + nice + system + sum(interrupts_and_stolen)
    return busy, busy + idle + waiting


def cpu_line() -> str:
    with Path("/proc/stat").open() as file:
        return file.readline()


def complaint(text: str) -> str:
    """The line of a program's stderr that says what went wrong: convnet's begins with "error", Python's is the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error")), lines[-1] if lines else "it said nothing")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
