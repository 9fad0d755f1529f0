#!/usr/bin/env python3
"""Times convnet and its peers with the same nets, in turns (A B A B ...), and reports medians and spread.

    bench/peers/compare.py [--quick] [--only NAME ...] [--engines NAME ...] [--isa avx2]

PyTorch, ONNX Runtime, OpenVINO and ncnn are installed into a virtual environment of their own, rten and tract built with cargo.
convnet-onnx is convnet with the ONNX file that the others read. Each engine is a process
that prepares its net once and is stopped while another one has its turn. Turns in which other processes worked are left
out. In inference all engines have the same weights and input, and their outputs are compared. `--isa avx2` keeps all engines
from using AVX-512, as on a machine that has none: hide_avx512.c hides it from them. Where the processor cannot do that, switches keep
convnet, PyTorch and OpenVINO from it; the others have none and take what is there. Needs Linux and Python 3.11 or newer; leave the
machine alone meanwhile.
"""

import argparse
import datetime
import fnmatch
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
import report
from report import Result
from turns import ISA_SWITCHES, Failed, Programs, Worker, Workers, command_of, complaint, note, precision_of
from works import CONVNET_ONNX, ENGINES, QUICK, RUST_PEERS, WORKS, Work, engines_of

# A busy machine may need more rounds than turns are wanted, up to so many times as many.
MOST_ROUNDS = 3


class Comparison:
    """Settings, and where everything is."""

    def __init__(self, args: argparse.Namespace, works: list[Work]) -> None:
        self.args = args
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise environment.fail(f"--out {args.out}: {error.strerror}") from None
        python, convnet = environment.install_peers(args.venv.resolve()), environment.convnet(args.convnet)
        wants_rust = any(engine in RUST_PEERS for work in works for engine in engines_of(work, args.engines))
        rust = environment.rust_peers() if wants_rust else Path()
        self.programs = Programs(python, convnet, rust)
        self.results: dict[str, list[Result]] = {}
        # Variables that keep engines to the instruction set.
        self.kept: dict[str, str] = dict(ISA_SWITCHES[args.isa]) if args.isa else {}
        hiding = environment.hiding_avx512(args.out.resolve()) if args.isa else None
        if hiding:
            self.kept |= {"LD_PRELOAD": str(hiding)}
        version = environment.run_for_output([convnet, "--version"])
        if version is None:
            raise environment.fail(f"{convnet} --version failed")
        source = "given" if args.convnet else environment.commit()
        self.header: dict[str, object] = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": environment.machine(),
            "versions": {
                "convnet": f"{version.removeprefix('convnet ')} ({source})",
                **environment.versions(python),
                **(environment.rust_versions() if wants_rust else {}),
            },
            "settings": {
                "threads": args.threads,
                "turns": args.turns,
                "seconds": args.seconds,
                "others": args.others,
                "isa": args.isa,
                "isa_hidden": hiding is not None,
            },
        }

    def run(self, work: Work) -> None:
        """Measures one work, and writes the report so far."""
        with tempfile.TemporaryDirectory(dir=self.args.out, prefix="files-") as name, Workers() as workers:
            folder = Path(name)
            if not work.trains:
                self.export(work, folder)
            results = [self.prepare(engine, work, folder, workers) for engine in engines_of(work, self.args.engines)]
            self.take_turns(work, results, workers)
        self.results[work.name] = results
        self.write()

    def export(self, work: Work, folder: Path) -> None:
        note(f"{work.name}: writing the net for all engines")
        command: list[str | Path] = [self.programs.python, environment.HERE / "export.py", work.name, folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise environment.fail(f"the net could not be written: {complaint(result.stderr)}")

    def prepare(self, engine: str, work: Work, folder: Path, workers: Workers) -> Result:
        note(f"{work.name}: preparing {engine}")
        result = Result(engine)
        command = command_of(engine, work, folder, self.programs, self.args.threads)
        try:
            worker = Worker.start(engine, command, folder, self.args.threads, self.kept)
            workers.append(worker)
            result.least_ms = worker.ready.get("least_ms")
            if not work.trains:
                found = worker.ready.get("logits") or self.convnet_logits(engine, work, folder)
                result.difference = difference(found, json.loads((folder / "expected.json").read_text()))
        except Failed as failure:
            result.failure = str(failure)
            note(f"{work.name}: {engine} failed: {failure}")
        if result.disagrees:
            note(f"{work.name}: {engine} differs from PyTorch by {result.difference:.1e}")
        return result

    def convnet_logits(self, engine: str, work: Work, folder: Path) -> list[float]:
        """Of the first picture, from the weights, or the ONNX file, that PyTorch wrote."""
        weights: list[str | Path] = ["--model", work.model, "--weights", folder / "weights.pth"]
        if engine == CONVNET_ONNX:
            weights = ["--weights", folder / "net.onnx"]
        what = [*weights, "--npy", folder / "input.npy", *precision_of(engine)]
        command = [self.programs.convnet, "predict", *what, "--logits", "--json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise Failed(f"convnet predict: {complaint(result.stderr)}")
        logits: list[float] = json.loads(result.stdout)["predictions"][0]["logits"]
        return logits

    def take_turns(self, work: Work, results: list[Result], workers: Workers) -> None:
        """Rounds in which each engine has one turn, until all have enough that count."""
        by_engine = {result.engine: result for result in results}
        for number in range(MOST_ROUNDS * self.args.turns):
            running = [worker for worker in workers if not by_engine[worker.engine].failure]
            if all(len(by_engine[worker.engine].turns_ms) >= self.args.turns for worker in running):
                break
            note(f"{work.name}: round {number + 1}")
            for worker in running:
                result = by_engine[worker.engine]
                try:
                    turn = worker.turn(self.args.seconds)
                except Failed as failure:
                    result.failure = str(failure)
                    continue
                kept = result.turns_ms if turn.others <= self.args.others else result.left_out_ms
                kept.append(statistics.median(turn.ms))
                result.peak_memory_bytes = worker.peak_memory()

    def write(self) -> None:
        (self.args.out / "report.md").write_text(report.as_markdown(self.header, self.results))
        document = report.as_json(self.header, self.results)
        (self.args.out / "report.json").write_text(json.dumps(document, indent=1) + "\n")

    def is_sound(self) -> bool:
        """Whether every engine has a figure, and all that compute in f32 agree."""
        results = [result for results in self.results.values() for result in results]
        return all(result.median and not result.failure and not result.disagrees for result in results)


def difference(found: list[float], expected: list[float]) -> float:
    """The largest, as a share of the largest number expected."""
    if len(found) != len(expected) or not all(map(math.isfinite, found)):
        raise Failed(f"expected {len(expected)} finite outputs, got {len(found)}, of which some may not be finite")
    return max(abs(a - b) for a, b in zip(found, expected)) / max(map(abs, expected))


def arguments() -> argparse.Namespace:
    target = environment.ROOT / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help=f"few short turns of {' and '.join(QUICK)}")
    add("--only", nargs="+", metavar="NAME", help="these works alone; 'train-*' names several")
    add("--engines", nargs="+", metavar="NAME", choices=ENGINES, default=[], help=f"of {', '.join(ENGINES)}")
    add("--turns", type=int, metavar="N", help="turns of each engine that count [default: 7, quick: 2]")
    add("--seconds", type=float, metavar="S", help="length of a turn [default: 2, quick: 0.5]")
    add("--others", type=float, metavar="SHARE", default=0.1, help="most of the processors for others [default: 0.1]")
    add("--isa", choices=sorted(ISA_SWITCHES), help="the instruction set [default: the best that each engine finds]")
    add("--threads", type=int, metavar="N", default=2, help="of each engine [default: 2]")
    add("--venv", type=Path, metavar="DIR", default=target / "peers-venv", help="[default: target/peers-venv]")
    add("--convnet", type=Path, metavar="FILE", help="a built program [default: build this checkout]")
    add("--out", type=Path, metavar="DIR", default=target / "peers-report", help="[default: target/peers-report]")
    args = parser.parse_args()
    args.turns = args.turns or (2 if args.quick else 7)
    args.seconds = args.seconds or (0.5 if args.quick else 2.0)
    if args.turns < 1 or args.seconds < 0 or args.threads < 1:
        parser.error("--turns, --seconds and --threads must be positive")
    return args


def works_of(args: argparse.Namespace) -> list[Work]:
    patterns = args.only or (QUICK if args.quick else ["*"])
    for pattern in patterns:
        if not any(fnmatch.fnmatch(work.name, pattern) for work in WORKS):
            names = ", ".join(work.name for work in WORKS)
            raise environment.fail(f"--only {pattern}: no work has that name; there are {names}")
    works = [work for work in WORKS if any(fnmatch.fnmatch(work.name, pattern) for pattern in patterns)]
    return [work for work in works if engines_of(work, args.engines)]


def main() -> int:
    args = arguments()
    environment.check_system()
    works = works_of(args)
    comparison = Comparison(args, works)
    for work in works:
        comparison.run(work)
    print((args.out / "report.md").read_text())
    note(f"written to {args.out}")
    return 0 if comparison.is_sound() else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
