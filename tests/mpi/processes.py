#!/usr/bin/env python3
"""Training by several processes over MPI, as a user starts it: the same bits, failures, bad use.

    cargo build --release -p convnet-cli --features mpi
    python tests/mpi/processes.py [--quick] [--convnet PATH] [--plain PATH] [--mpirun COMMAND] [--kills N] [--only NAME]

- `mpirun -n 1`, `2`, `4` with `--shards 4`, and one process without MPI, end with one hash: a cnn with dropout, and resnet20 with
  augmentation on coloured pictures that this script makes; `--cifar TAR` takes CIFAR-10's in their place.
- A killed rank, a killed rank 0, SIGTERM to the launcher, a disk that is full on rank 0, a NaN: the job ends within ten seconds, and the
  run goes on with another number of processes to the hash of the run that nothing has broken.
- `predict` and `eval` on a folder, divided among 2 and 3 processes, say what one says.
- Bad use is told on one line.

Needs Python alone; `--plain` is the program without MPI, to see what it says under a launcher.
"""

import argparse
import json
import os
import random
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A container's root is nobody else's; two cores carry four processes.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
WITHIN = 10.0


class Job:
    """A training under a launcher, in a process group of its own."""

    def __init__(self, program, size, arguments, environment=None, launcher=None, command="train"):
        launcher = [] if size is None else [*launcher, "-n", str(size)]
        self.process = subprocess.Popen(
            [*launcher, *program, command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, **(environment or {})},
            start_new_session=True,
        )

    def wait(self, timeout=600):
        try:
            self.out, self.err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.out, self.err = self.process.communicate()
            raise AssertionError(f"the job hangs:\n{self.err[-2000:]}") from None
        return self.process.returncode


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.launcher = shlex.split(options.mpirun)
        self.failures, self.done = [], 0

    def job(self, size, arguments, environment=None, program=None, command="train"):
        return Job([program or self.options.convnet], size, arguments, environment, self.launcher, command)

    def hash(self, size, arguments, environment=None):
        job = self.job(size, [*arguments, "--json"], environment)
        code = job.wait()
        assert code == 0, f"exit {code}:\n{job.err[-2000:]}"
        return json.loads(job.out)["weights_sha256"]

    def check(self, name, work):
        if self.options.only and self.options.only not in name:
            return
        start = time.time()
        try:
            told = work()
        except Exception as problem:  # noqa: BLE001 - each is reported by name
            self.failures.append(name)
            print(f"FAIL {name}: {problem}")
        else:
            self.done += 1
            print(f"ok   {name}{f': {told}' if told else ''} ({time.time() - start:.1f} s)", flush=True)


def png(path, side, colour, generator):
    """A picture of noise around a colour."""
    rows = b"".join(
        b"\0" + bytes(min(255, max(0, colour[c] + generator.randrange(-60, 60))) for _ in range(side) for c in range(3))
        for _ in range(side)
    )
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures(folder):
    generator = random.Random(1)
    for number, name in enumerate(["red", "green", "blue"]):
        (folder / name).mkdir(parents=True)
        for index in range(70):
            colour = [90 + 40 * (channel == number) for channel in range(3)]
            png(folder / name / f"{index:03}.png", 32, colour, generator)
    return folder


def children(job, folder):
    """Processes of a job that train in this folder, by their numbers."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(folder).encode() in command and b"train" in command[1:2]:
            rank = [v.split(b"=")[1] for v in variables if re.match(rb"(OMPI_COMM_WORLD_RANK|PMI_RANK)=", v)]
            if rank:
                found[int(rank[0])] = int(entry.name)
    return found


def until(condition, seconds=60, otherwise="waited in vain"):
    """Waits until something is so, and returns it."""
    end = time.time() + seconds
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(otherwise)


def same_bits(bench, name, settings):
    def work():
        hashes = {"without MPI": bench.hash(None, [*settings, "--out", str(bench.folder / f"{name}-0")])}
        for size in [1, 2, 4]:
            hashes[f"{size} processes"] = bench.hash(size, [*settings, "--out", str(bench.folder / f"{name}-{size}")])
        assert len(set(hashes.values())) == 1, hashes
        return next(iter(hashes.values()))[:16]

    bench.check(f"same bits: {name}", work)


def divided(bench, photos):
    """`predict` and `eval` on a folder say what one process says; a picture that cannot be used is told of once."""
    weights = bench.folder / "resnet20 with augmentation-0" / "best.safetensors"
    spoiled = bench.folder / "spoiled"
    shutil.copytree(photos, spoiled)
    (spoiled / "green/011.png").write_bytes(b"no picture")

    def work(command, flags, code):
        def found(size):
            job = bench.job(size, [*flags, "--weights", str(weights), "--json", "--threads", "1"], command=command)
            assert job.wait() == code, f"exit {job.process.returncode}:\n{job.err[-2000:]}"
            told = [line for line in job.err.splitlines() if "011.png" in line]
            assert len(told) == code, job.err
            document = json.loads(job.out)
            document.pop("seconds", None)
            return document

        alone = found(None)
        for size in [2, 3]:
            assert found(size) == alone, f"{size} processes find something else"

    for folder, code in [(photos, 0), (spoiled, 1)]:
        name = "" if code == 0 else ", one cannot be used"
        bench.check(f"divided: predict{name}", lambda: work("predict", ["--logits", str(folder)], code))
        bench.check(f"divided: eval{name}", lambda: work("eval", ["--data", str(folder), "--split", "train"], code))


# Small steps, and a checkpoint every few of them.
BROKEN = "--epochs 6 --shards 4 --cdims 8,8 --hdims 32 --batch-size 64 --threads 1 --checkpoint-every 5 --train-eval 0".split()


def broken(bench, name, breaks, whole, mend=lambda folder: None):
    """A job that something ends, and its continuation on another number of processes."""

    def work():
        folder = bench.folder / name.replace(" ", "-")
        job = bench.job(2, [*BROKEN, "--out", str(folder)])
        try:
            until(lambda: (folder / "last.safetensors").exists() and len(children(job, folder)) == 2)
            breaks(job, folder)
            start = time.time()
            job.wait(timeout=WITHIN + 20)
            # The launcher may be gone a moment before the processes that it has killed.
            until(lambda: not children(job, folder), WITHIN, "processes are left")
            seconds = time.time() - start
        finally:
            if job.process.poll() is None:
                os.killpg(job.process.pid, signal.SIGKILL)
        assert seconds < WITHIN, f"{seconds:.1f} s until the end"
        assert job.process.returncode != 0
        mend(folder)
        found = bench.hash(random.choice([1, 4]), ["--resume", str(folder)])
        assert found == whole, f"{found} instead of {whole}"
        return f"ended after {seconds:.1f} s"

    bench.check(name, work)


def kill(rank, number=signal.SIGKILL):
    return lambda job, folder: os.kill(children(job, folder)[rank], number)


def to_launcher(number):
    return lambda job, folder: os.kill(job.process.pid, number)


def random_kills(bench, count, whole):
    """One run, killed again and again at any moment, and taken up again by 1, 2 or 4 processes. All processes have to end; Open MPI 4's
    mpirun itself can hang then, when the killed process was just joining, and says so by an error of PMIx: that alone is let pass."""

    def work():
        folder, kills, hangs = bench.folder / "random", 0, 0
        while kills < count:
            shutil.rmtree(folder, ignore_errors=True)
            arguments = [*BROKEN, "--out", str(folder)]
            while kills < count:
                job = bench.job(random.choice([2, 4]), arguments)
                time.sleep(random.uniform(0.5, 4))
                processes = children(job, folder)
                if job.process.poll() is not None or not processes:
                    assert job.wait(30) == 0, f"nobody has killed it:\n{job.err[-2000:]}"
                    break
                os.kill(random.choice(list(processes.values())), signal.SIGKILL)
                kills += 1
                until(lambda: not children(job, folder), WITHIN, "processes are left")
                try:
                    code = job.wait(20)
                except AssertionError as hang:
                    assert "PMIX ERROR" in str(hang), hang
                    hangs += 1
                else:
                    assert code != 0
                if (folder / "config.toml").exists():
                    arguments = ["--resume", str(folder)]
                else:
                    shutil.rmtree(folder, ignore_errors=True)
            if (folder / "config.toml").exists():
                assert bench.hash(2, ["--resume", str(folder)]) == whole
        return f"{kills} kills" + (f", after {hangs} of which the launcher alone hung" if hangs else "")

    bench.check("random kills", work)


def one_message(bench, name, size, arguments, expected, environment=None, program=None, wrap=None):
    """A job that cannot begin says so once."""

    def work():
        job = bench.job(size, arguments, environment, program)
        if wrap:
            job.process.kill()
            job.process.communicate()
            job.process = subprocess.Popen(
                wrap, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, **ENVIRONMENT, **(environment or {})}, start_new_session=True
            )
        start = time.time()
        code = job.wait(timeout=60)
        errors = [line for line in job.err.splitlines() if line.startswith("error:")]
        assert code != 0 and len(errors) == 1 and expected in errors[0], f"exit {code}: {job.err[-1500:]}"
        assert time.time() - start < 30
        return errors[0]

    bench.check(name, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", default=str(ROOT / "target/release/convnet"))
    parser.add_argument("--plain")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--cifar")
    parser.add_argument("--only", help="what has this in its name")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="five random kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))


def run(options, folder):
    bench = Bench(options, folder)
    photos = pictures(folder / "photos")
    coloured = ["--data", options.cifar, "--limit", "2560"] if options.cifar else ["--data", str(photos)]
    # Its gradients are 1.1 MB: two buckets.
    resnet = "--model resnet20 --shards 4 --epochs 1 --batch-size 64 --augment cifar --threads 1 --bucket-cap-mb 1"
    resnet = [*coloured, *resnet.split()]
    same_bits(bench, "cnn with dropout", "--epochs 1 --shards 4 --threads 1 --limit 3000".split())
    same_bits(bench, "resnet20 with augmentation", resnet)
    mixed = "--epochs 1 --shards 4 --threads 1 --limit 1000 --batch-size 30 --mixup-alpha 0.4 --ema 0.99 --clip-grad-norm 1 --optimizer lamb"
    same_bits(bench, "norms over all shards", [*resnet, "--sync-batch-norm"])
    same_bits(bench, "mixup, average, clipping, uneven shards", mixed.split())

    whole = bench.hash(None, [*BROKEN, "--out", str(folder / "whole")])
    broken(bench, "killed rank 1", kill(1), whole)
    broken(bench, "killed rank 0", kill(0), whole)
    broken(bench, "SIGTERM to the launcher", to_launcher(signal.SIGTERM), whole)
    broken(bench, "SIGINT to the launcher", to_launcher(signal.SIGINT), whole)
    disk = folder / "full-disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode == 0:
        try:
            broken(bench, "full disk", fill, whole, mend=lambda folder: (folder / "filler").unlink())
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
    else:
        print("skip full disk: mounting one is not allowed here")
    random_kills(bench, 5 if options.quick else options.kills, whole)

    divided(bench, photos)

    short = ["--epochs", "1", "--limit", "500", "--threads", "1"]
    out = lambda name: ["--out", str(folder / name)]
    one_message(bench, "told: ranks that do not divide", 2, [*short, "--shards", "3", *out("odd")], "a multiple of 2, the number of processes")
    one_message(bench, "told: NaN", 2, [*short, "--lr", "1e38", *out("nan")], "training has diverged")
    one_message(bench, "told: unknown flag", 2, [*short, "--epoch", "1", *out("flag")], "unexpected argument '--epoch'")
    one_message(bench, "told: no such data", 2, [*short, "--data", "/nowhere", *out("data")], "/nowhere")
    one_message(bench, "told: --find-lr", 2, ["--find-lr", *out("rate")], "one process")
    program = options.convnet
    arguments = shlex.join(["train", *short, *out("differ")])
    differ = 'if [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" = 1 ]; then exec ONE; else exec ZERO; fi'
    wrap = lambda one, zero: [*bench.launcher, "-n", "2", "sh", "-c", differ.replace("ONE", one).replace("ZERO", zero)]
    one_message(bench, "told: other settings", 2, [], "has another recipe than process 0", wrap=wrap(f"{program} {arguments} --seed 5", f"{program} {arguments}"))
    copy = folder / "other-program"
    copy.write_bytes(Path(program).read_bytes() + b"\0")
    copy.chmod(0o755)
    one_message(bench, "told: other program", 2, [], "has another program than process 0", wrap=wrap(f"{copy} {arguments}", f"{program} {arguments}"))
    fewer = arguments.replace("--limit 500", "--limit 400")
    one_message(bench, "told: other data", 2, [], "has another set of training pictures", wrap=wrap(f"{program} {fewer}", f"{program} {arguments}"))
    resumed = shlex.join(["train", "--resume", str(folder / "whole"), "--epochs", "7"])
    missing = resumed.replace(str(folder / "whole"), str(folder / "elsewhere"))
    one_message(bench, "told: a folder that one process sees", 2, [], "expected the folder of a run", wrap=wrap(f"{program} {missing}", f"{program} {resumed}"))
    alone = shlex.join([program, "models"])
    one_message(bench, "told: another command", 2, [], "only train, eval and predict are divided", wrap=[*bench.launcher, "-n", "2", "sh", "-c", alone])
    if options.plain:
        one_message(bench, "told: a program without MPI", 1, [], "built without MPI", {"PMI_RANK": "0", "PMI_SIZE": "2"}, wrap=[options.plain, "train", *short])
    print(f"{bench.done} of {bench.done + len(bench.failures)} pass")
    sys.exit(bool(bench.failures))


def fill(job, folder):
    """Nothing fits onto the disk any more."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"0" * 4096)
        except OSError:
            pass


if __name__ == "__main__":
    main()
