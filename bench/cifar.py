#!/usr/bin/env python3
"""CIFAR-10 in ten minutes: `convnet train --recipe cifar-fast` beside PyTorch with the same network and recipe.

    cargo build --release -p convnet-cli
    python bench/cifar.py --data ../shared/data/cifar10/cifar10-jpeg.tar.gz

For each seed convnet trains first, as a program of its own whose every second counts: reading, training, evaluation, report.
PyTorch then gets the same number of seconds for as much of the same schedule as fits, for which its step is timed before;
reading, whitening and compiling are not counted against it. `--full` also lets PyTorch train for all epochs of the recipe,
however long they take. Run it on a machine that does nothing else.

`--check` holds the twin against convnet instead: the number of parameters, the whitening filters, the loss of the first step
from the same weights, and the weights after some steps of the schedule. Needs torch, numpy, Pillow and safetensors.
"""

import argparse
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from pathlib import Path

import cifar_torch as twin
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]


def told(line):
    print(line, file=sys.stderr, flush=True)


def run(*command):
    """Runs convnet; its stdout."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(map(str, command))} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def train_convnet(arguments, recipe, data, seed, folder):
    """Seconds of the whole program, and a row for each epoch."""
    command = [arguments.convnet, "train", "--recipe", arguments.recipe, "--data", data, "--seed", seed]
    command += ["--threads", arguments.threads, "--out", folder, "-q"]
    command += ["--epochs", recipe["epochs"], "--warmup-epochs", recipe["schedule"]["warmup_epochs"]]
    start = time.perf_counter()
    run(*command)
    seconds = time.perf_counter() - start
    rows, spent = [], 0.0
    for epoch in metrics(folder):
        spent += epoch["seconds"]
        rows.append({"epoch": epoch["epoch"], "seconds": spent, "accuracy": epoch["val_accuracy"]})
    # What comes before the first epoch and after the last one: nearly all of it is reading.
    for row in rows:
        row["seconds"] += seconds - spent
    told(f"convnet, seed {seed}: {rows[-1]['epoch']} epochs, {seconds:.1f} s, accuracy {rows[-1]['accuracy']:.2%}")
    return seconds, rows


def of_length(recipe, epochs):
    """The recipe for another number of epochs, with a schedule of the same shape."""
    warmup = recipe["schedule"]["warmup_epochs"] * epochs / recipe["epochs"]
    return recipe | {"epochs": epochs, "schedule": recipe["schedule"] | {"warmup_epochs": warmup}}


def reached(rows, accuracy):
    """Seconds until that accuracy."""
    return next((f"{row['seconds']:.0f} s" for row in rows if row["accuracy"] >= accuracy), "–")


def compare(arguments, recipe, data):
    parts, classes = twin.read_pictures(data)
    epoch_steps = -(-len(parts["train"].labels) // recipe["batch_size"])
    way, step, evaluation = twin.measure(recipe, parts, len(classes), not arguments.f32, told=told)
    told(f"PyTorch trains with: {way}; {1000 * step:.0f} ms a step, {evaluation:.1f} s an evaluation")
    results = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            seconds, rows = train_convnet(arguments, recipe, data, seed, Path(folder) / "run")
        results.append(result("convnet", seed, rows[-1]["epoch"], seconds, rows))
        in_time = budget_steps(seconds, step, evaluation, epoch_steps)
        budgets = {"PyTorch": in_time}
        if arguments.full:
            budgets["PyTorch, all epochs"] = recipe["epochs"] * epoch_steps
        for program, total in budgets.items():
            rows = twin.train(recipe, way, parts, len(classes), seed, total, told)
            results.append(result(program, seed, total / epoch_steps, rows[-1]["seconds"], rows))
    return way, results


def result(program, seed, epochs, seconds, rows):
    return {"program": program, "seed": seed, "epochs": epochs, "seconds": seconds, "rows": rows}


def budget_steps(seconds, step, evaluation, epoch_steps):
    """How many steps, with an evaluation after each epoch and at the end, take this long."""
    epoch = epoch_steps * step + evaluation
    whole = int(seconds / epoch)
    rest = int(max(seconds - whole * epoch - evaluation, 0) / step)
    return max(whole * epoch_steps + rest, 1)


def table(arguments, way, results):
    target = arguments.accuracy
    lines = [
        f"| | seed | epochs | seconds | test accuracy | to {target:.0%} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        accuracy = result["rows"][-1]["accuracy"]
        lines.append(
            f"| {result['program']} | {result['seed']} | {result['epochs']:.1f} | {result['seconds']:.0f} | "
            f"{accuracy:.2%} | {reached(result['rows'], target)} |"
        )
    for program in dict.fromkeys(result["program"] for result in results):
        own = [result["rows"][-1]["accuracy"] for result in results if result["program"] == program]
        lines.append(f"| {program} | mean of {len(own)} | | | {sum(own) / len(own):.2%} | |")
    lines += ["", f"{machine()}; PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {way}."]
    return "\n".join(lines)


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{model}, {os.cpu_count()} cores, {datetime.date.today()}"


def first_pictures(archive, count, test_count, target):
    """A tar of the first pictures of each class, in PNG so that all programs see the same bytes."""
    with tarfile.open(archive) as tar, tarfile.open(target, "w") as out:
        taken = {}
        for entry in tar:
            if not entry.isfile():
                continue
            part, name, file = entry.name.split("/")[-3:]
            taken[part, name] = taken.get((part, name), 0) + 1
            if taken[part, name] > (count if part == "train" else test_count):
                continue
            content = io.BytesIO()
            Image.open(io.BytesIO(tar.extractfile(entry).read())).convert("RGB").save(content, "PNG")
            header = tarfile.TarInfo(f"{part}/{name}/{Path(file).stem}.png")
            header.size = content.tell()
            content.seek(0)
            out.addfile(header, content)


def check(arguments, recipe, archive):
    """Holds the twin against convnet on a few pictures, all of which are in each batch, in f32 without augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        first_pictures(archive, 6, 2, folder / "data.tar")
        parts, classes = twin.read_pictures(folder / "data.tar")
        net = twin.new_net(parts["train"], len(classes), 0)
        save_file({name: tensor.clone() for name, tensor in net.state_dict().items()}, folder / "first.safetensors")
        size, epochs = len(parts["train"].labels), 4
        common = [arguments.convnet, "train", "--recipe", arguments.recipe, "--data", folder / "data.tar", "-q"]
        common += ["--batch-size", size, "--epochs", epochs, "--augment", "none", "--warmup-epochs", 2, "--lr", 0.05]
        run(*common, "--weights", folder / "first.safetensors", "--out", folder / "run")
        trained, losses = run_twin(recipe, net, parts["train"], epochs)
        compare_runs(folder / "run", trained, losses)
        run(*common, "--max-steps", 1, "--out", folder / "fresh")
        ours = load_file(folder / "fresh" / "last.safetensors")["whiten.weight"].flatten(1)[:12].double()
        theirs = twin.whitening(parts["train"].images).flatten(1)[:12].double()
        # Directions have no sign, and patches hardly differ along the last ones.
        expect_close("whitening", ours.T @ ours, theirs.T @ theirs, 1e-3)


def run_twin(recipe, net, pictures, epochs):
    """What steps with all pictures make of the network, and their losses."""
    recipe = recipe | {"optimizer": recipe["optimizer"] | {"lr": 0.05}}
    schedule = recipe["schedule"] | {"warmup_epochs": 2}
    trained = twin.Twin(recipe, twin.Way(False, False, False), net)
    rates = [twin.factor(schedule, step, epochs, 1) for step in range(epochs)]
    told(f"factors of the rate: {rates}")
    losses = [trained.step(pictures.images, pictures.labels, rate).item() for rate in rates]
    return trained.average, losses


def compare_runs(folder, net, losses):
    ours, theirs = load_file(folder / "last.safetensors"), net.state_dict()
    ours = {name: tensor for name, tensor in ours.items() if not name.startswith("optimizer.")}
    theirs = {name: tensor for name, tensor in theirs.items() if not name.endswith("num_batches_tracked")}
    missing = set(ours) ^ set(theirs)
    if missing:
        raise SystemExit(f"error: names: only one has {sorted(missing)}")
    told(f"{sum(p.numel() for p in net.parameters()):,} parameters in both")
    for step, (epoch, loss) in enumerate(zip(metrics(folder), losses, strict=True), 1):
        expect_close(f"loss of step {step}", torch.tensor(epoch["train_loss"]), torch.tensor(loss), 1e-4)
    for name, tensor in theirs.items():
        expect_close(name, ours[name], tensor, 2e-3)


def expect_close(what, ours, theirs, tolerance):
    """The difference, as a share of the size of what PyTorch has."""
    difference = ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()
    told(f"{what}: differs by {difference:.1e} of its size")
    if not difference <= tolerance:
        raise SystemExit(f"error: {what}: expected a difference of at most {tolerance}, got {difference}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="tar with train/CLASS/* and test/CLASS/*")
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    parser.add_argument("--recipe", default="cifar-fast", help="a recipe's name or file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="another number of epochs than the recipe's")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--accuracy", type=float, default=0.9, help="time to this accuracy is shown")
    parser.add_argument("--full", action="store_true", help="PyTorch with all epochs, too, however long they take")
    parser.add_argument("--f32", action="store_true", help="PyTorch without bf16")
    parser.add_argument("--pictures", type=int, help="so many of each class alone, to try the script")
    parser.add_argument("--check", action="store_true", help="hold the twin against convnet")
    parser.add_argument("--json", type=Path, help="write all rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file = Path(arguments.recipe)
    recipe = tomllib.loads(file.read_text() if file.is_file() else run(arguments.convnet, "recipes", arguments.recipe))
    if arguments.epochs:
        recipe = of_length(recipe, arguments.epochs)
    if arguments.check:
        return check(arguments, recipe, arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if arguments.pictures:
            data = Path(folder) / "data.tar"
            first_pictures(arguments.data, arguments.pictures, arguments.pictures, data)
        way, results = compare(arguments, recipe, data)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "way": str(way), "results": results}, indent=1))
    print(table(arguments, way, results))


if __name__ == "__main__":
    main()
