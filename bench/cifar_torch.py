"""The PyTorch twin of `convnet train --recipe cifar-fast`: the same network, pictures, augmentation, optimizer and schedule.

All follows from the recipe's own TOML. Pictures are tensors in memory, and crops and flips are gathered for a whole batch at
once, so that no loader limits PyTorch; of the ways to compute that PyTorch has, the fastest on this machine is taken.
"""

import copy
import io
import math
import statistics
import tarfile
import time
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

# What convnet does to CIFAR's pictures: ImageNet's statistics.
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])
WIDTHS = (64, 256, 256)
WHITENING_EPS = 5e-4
WHITENED_PICTURES = 5_000


@dataclass
class Pictures:
    """Pictures of a part: bytes [N, 3, 32, 32], and their classes."""

    images: torch.Tensor
    labels: torch.Tensor


def read_pictures(archive):
    """The parts of a tar with train/CLASS/* and test/CLASS/*, and the names of the classes."""
    images, names = {"train": [], "test": []}, {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        for entry in tar:
            if entry.isfile():
                part, name, _ = entry.name.split("/")[-3:]
                picture = Image.open(io.BytesIO(tar.extractfile(entry).read())).convert("RGB")
                images[part].append(np.asarray(picture).transpose(2, 0, 1))
                names[part].append(name)
    classes = sorted(set(names["train"]))
    labels = {part: torch.tensor([classes.index(name) for name in names[part]]) for part in names}
    return {part: Pictures(torch.tensor(np.stack(images[part])), labels[part]) for part in images}, classes


def normalized(images):
    return (images.float() / 255 - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)


class Scale(nn.Module):
    """convnet's layer_scale: a factor for each channel."""

    def __init__(self, channels, value):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), value), requires_grad=False)

    def forward(self, x):
        return x * self.layer_scale


class Block(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width, momentum=0.4)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width, momentum=0.4)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Airbench94(nn.Module):
    """convnet's airbench94, with its names of parameters."""

    def __init__(self, classes=10):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2).requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)
        inputs = (24, *WIDTHS)
        for number, (channels, width) in enumerate(zip(inputs, WIDTHS, strict=False), 1):
            setattr(self, f"block{number}", Block(channels, width))
        self.scale = Scale(WIDTHS[-1], 1 / 9)
        self.head = nn.Linear(WIDTHS[-1], classes, bias=False)

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        x = self.block3(self.block2(self.block1(x)))
        return self.head(self.scale(F.max_pool2d(x, 3)).flatten(1))


def whitening(images):
    """The filters of a whitening layer, by another method than convnet's."""
    count = min(len(images), WHITENED_PICTURES)
    picked = normalized(images[torch.arange(count) * len(images) // count])
    patches = picked.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / torch.sqrt(variances + WHITENING_EPS)).T.flip(0).float().reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


def factor(schedule, step, epochs, epoch_steps):
    """What the rate is multiplied with for the step after `step` others."""
    if schedule["name"] != "linear":
        raise SystemExit(f"error: schedule: expected linear, which the twin knows, got {schedule['name']}")
    warmup = round(schedule["warmup_epochs"] * epoch_steps)
    if step < warmup:
        return schedule["warmup_factor"] + (1 - schedule["warmup_factor"]) * step / warmup
    total = max(epochs * epoch_steps - warmup, 1)
    return schedule["min_factor"] + (1 - schedule["min_factor"]) * (1 - min(step - warmup, total) / total)


def optimizer(net, settings):
    biases = [p for name, p in net.named_parameters() if p.requires_grad and name.endswith("bias")]
    others = [p for name, p in net.named_parameters() if p.requires_grad and not name.endswith("bias")]
    lr, decay = settings["lr"], settings["weight_decay"]
    groups = [
        {"params": others, "weight_decay": decay, "factor": 1.0},
        {"params": biases, "weight_decay": settings["bias_weight_decay"], "factor": settings["bias_lr"]},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=settings["momentum"], nesterov=settings["nesterov"], fused=True)


@dataclass
class Way:
    """A way to compute."""

    channels_last: bool
    compiled: bool
    bf16: bool

    def __str__(self):
        words = ["channels last" if self.channels_last else "NCHW", "compiled" if self.compiled else "eager"]
        return ", ".join([*words, "bf16 autocast" if self.bf16 else "f32"])


class Twin:
    """A network that is trained in some way for a number of epochs, whole or not."""

    def __init__(self, recipe, way, net):
        self.recipe, self.way, self.net = recipe, way, net
        if way.channels_last:
            net.to(memory_format=torch.channels_last)
        self.run = torch.compile(net) if way.compiled else net
        self.optimizer = optimizer(net, recipe["optimizer"])
        self.steps, self.average = 0, copy.deepcopy(net) if "ema" in recipe else net

    def restart(self, weights):
        self.net.load_state_dict(weights)
        self.average.load_state_dict(weights)
        self.steps, self.optimizer = 0, optimizer(self.net, self.recipe["optimizer"])

    def update_average(self):
        """A moving average of weights and running statistics, which lets go of the first weights quickly."""
        self.steps += 1
        if self.average is not self.net:
            # The first call copies, as torchvision's does.
            decay = min(self.recipe["ema"], (1 + self.steps) / (10 + self.steps)) if self.steps > 1 else 0.0
            pairs = zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True)
            kept, new = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
            torch._foreach_lerp_(list(kept), list(new), 1 - decay)

    def take(self, images):
        images = normalized(images)
        return images.contiguous(memory_format=torch.channels_last) if self.way.channels_last else images.contiguous()

    def step(self, images, labels, rate):
        """One step; the loss, before it is made a number."""
        self.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe["optimizer"]["lr"] * rate * group["factor"]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.way.bf16):
            outputs = self.run(self.take(images))
        loss = F.cross_entropy(outputs.float(), labels, label_smoothing=self.recipe["label_smoothing"])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.update_average()
        return loss.detach()

    def accuracy(self, pictures):
        self.average.eval()
        hits = 0
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.way.bf16):
            for images, labels in zip(pictures.images.split(500), pictures.labels.split(500), strict=True):
                # Not compiled: the last batch may have another size, for which there would be another compilation.
                hits += (self.average(self.take(images)).argmax(1) == labels).sum().item()
        return hits / len(pictures.labels)


class Batches:
    """The batches of epochs: shuffled, each picture at a random place of its continued form, half of them flipped."""

    def __init__(self, recipe, pictures, seed):
        crop = next(t["random_crop"] for t in recipe["augment"] if "random_crop" in t)
        if crop.get("padding_mode") != "reflect" or not any("horizontal_flip" in t for t in recipe["augment"]):
            raise SystemExit(
                "error: augment: expected random_crop with reflect and horizontal_flip, which the twin knows"
            )
        self.pictures, self.size, self.padding = pictures, recipe["batch_size"], crop["padding"]
        self.random = torch.Generator().manual_seed(seed)
        padded = F.pad(pictures.images.float(), [self.padding] * 4, mode="reflect").to(torch.uint8)
        side = pictures.images.shape[-1]
        self.windows = padded.unfold(2, side, 1).unfold(3, side, 1)

    def epoch(self):
        for index in torch.randperm(len(self.pictures.labels), generator=self.random).split(self.size):
            place = torch.randint(0, 2 * self.padding + 1, (2, len(index)), generator=self.random)
            images = self.windows[index, :, place[0], place[1]]
            flip = torch.rand(len(index), generator=self.random) < 0.5
            yield torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images), self.pictures.labels[index]


def new_net(pictures, classes, seed):
    torch.manual_seed(seed)
    net = Airbench94(classes)
    net.whiten.weight.data.copy_(whitening(pictures.images))
    return net


def train(recipe, way, parts, classes, seed, total_steps, told=lambda line: None):
    """Trains for so many steps with the schedule drawn over them; a row for each epoch, the last of which may be a part of one:
    steps, seconds since the beginning, evaluation included, and accuracy on the test pictures."""
    batches = Batches(recipe, parts["train"], seed)
    epoch_steps = math.ceil(len(parts["train"].labels) / recipe["batch_size"])
    epochs = total_steps / epoch_steps
    # The schedule's shape is that of the recipe, for another number of epochs.
    share = epochs / recipe["epochs"]
    schedule = recipe["schedule"] | {"warmup_epochs": recipe["schedule"]["warmup_epochs"] * share}
    twin = Twin(recipe, way, new_net(parts["train"], classes, seed))
    if way.compiled:
        # Compiling is not counted.
        weights = {name: tensor.clone() for name, tensor in twin.net.state_dict().items()}
        for size in {recipe["batch_size"], len(parts["train"].labels) % recipe["batch_size"] or recipe["batch_size"]}:
            twin.step(parts["train"].images[:size], parts["train"].labels[:size], 0.0)
        twin.restart(weights)
    rows, step, start = [], 0, time.perf_counter()
    while step < total_steps:
        for images, labels in batches.epoch():
            twin.step(images, labels, factor(schedule, step, epochs, epoch_steps))
            step += 1
            if step == total_steps:
                break
        accuracy = twin.accuracy(parts["test"])
        rows.append({"steps": step, "seconds": time.perf_counter() - start, "accuracy": accuracy})
        told(
            f"PyTorch, seed {seed}: {step / epoch_steps:.2f} epochs, {rows[-1]['seconds']:.1f} s, accuracy {accuracy:.2%}"
        )
    return rows


def ways(with_bf16):
    for bf16 in (False, True) if with_bf16 else (False,):
        for compiled in (False, True):
            for channels_last in (False, True):
                yield Way(channels_last, compiled, bf16)


def measure(recipe, parts, classes, with_bf16, steps=6, told=print):
    """The fastest way; seconds of a step, augmentation included, and of an evaluation."""
    found = []
    for way in ways(with_bf16):
        try:
            twin = Twin(recipe, way, new_net(parts["train"], classes, 0))
            batches, times = Batches(recipe, parts["train"], 0).epoch(), []
            for _ in range(steps + 2):
                start = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                twin.step(*batch, 0.0)
                times.append(time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - compilation fails in many ways where there is no compiler
            told(f"PyTorch, {way}: does not work here: {str(error).strip().splitlines()[0]}")
            continue
        seconds = statistics.median(times[2:] or times)
        told(f"PyTorch, {way}: {1000 * seconds:.0f} ms a step")
        found.append((seconds, way))
    seconds, way = min(found, key=lambda pair: pair[0])
    twin = Twin(recipe, way, new_net(parts["train"], classes, 0))
    start = time.perf_counter()
    twin.accuracy(parts["test"])
    return way, seconds, time.perf_counter() - start
