"""Golden values from torchvision for crates/convnet/tests/zoo.rs.

Run in the repository's root, with PyTorch 2.x and torchvision (made with 2.15 and 0.29, CPU; some minutes):

    python tests/golden/zoo.py

It writes crates/convnet/tests/golden/zoo.json: for every network that torchvision shares with convnet the number of its
parameters, its multiply-adds at 3x224x224 (of convolutions and linear layers), a digest of its keys and shapes, and what
it computes from weights and pictures that are formulas (see `state` and `pictures`; the test computes them itself):

- logits of one picture of 224x224 and of one of 160x224 in inference, in f32;
- for one network of each family (see `TRAINED`) the loss of one training step in f64, and its gradients by the first and
  last weight; dropout is off. `noise` is how far a gradient moves when weights move by a millionth, as rounding in
  f32 moves what is computed from them: batch norm over few pixels magnifies that, and ReLUs switch (PyTorch's own f32 is
  off by up to 8e-3).

Of each tensor the first 16 elements and the 2-norm of all are kept, to 7 digits.
"""

import hashlib
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

FILE = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden/zoo.json"

NAMES = """alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn googlenet resnet18 resnet34 resnet50 resnet101
resnet152 resnext50_32x4d resnext101_32x8d wide_resnet50_2 wide_resnet101_2 densenet121 densenet161 densenet169
densenet201""".split()

# One of each family, with the side of its pictures: name of the net, first and last weight.
TRAINED = {
    "alexnet": (96, "features.0.weight", "classifier.6.weight"),
    "vgg11_bn": (32, "features.0.weight", "classifier.6.weight"),
    "googlenet": (64, "conv1.conv.weight", "fc.weight"),
    "resnet50": (64, "conv1.weight", "fc.weight"),
    "densenet121": (64, "features.conv0.weight", "classifier.weight"),
}
BATCH, CLASSES = 4, 10


def pattern(tag, count):
    """convnet_kernels::reference::gradcheck::pattern: multiples of 1/2048 from -1 to below 1."""
    with np.errstate(over="ignore"):
        h = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(tag * 40503 % 2**32)
        h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(3266489917)
    return ((h >> np.uint32(20)).astype(np.float64) - 2048) / 2048


def formula(name, shape, tag):
    """A parameter's values. Weights of convolutions and linear layers have the variance 2 / fan_in, which keeps activations
    near 1 through ReLUs; factors of batch norm lie in 0.5..1, so that sums of many residual branches stay small."""
    values = pattern(tag, math.prod(shape))
    if name.endswith("running_var"):
        values = 1 + values / 2
    elif len(shape) > 1:
        values *= math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        values = 0.75 + values / 4
    else:
        values /= 8
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def state(model):
    """Every parameter and buffer, tagged by its place among the sorted names."""
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    return {name: formula(name, shapes[name], tag) for tag, name in enumerate(sorted(shapes))}


def pictures(batch, height, width):
    shape = (batch, 3, height, width)
    return torch.from_numpy(pattern(1000, math.prod(shape)).astype(np.float32)).reshape(shape)


def build(name, **settings):
    if name == "googlenet":
        settings = dict(aux_logits=True, init_weights=False) | settings
    model = getattr(torchvision.models, name)(weights=None, **settings)
    model.load_state_dict(state(model), strict=False)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def digest(tensor):
    tensor = tensor.detach().double().flatten()
    first = [float(f"{x:.7g}") for x in tensor[:16].tolist()]
    return dict(first=first, norm=float(f"{tensor.norm().item():.7g}"))


def keys(model):
    """SHA-256 of lines `<name> <shape>` in the order of the names."""
    lines = [f"{name} {list(tensor.shape)}\n" for name, tensor in sorted(state(model).items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def macs(model, x):
    """Multiply-adds of convolutions and linear layers in inference."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, kinds)]
    model(x)
    for hook in hooks:
        hook.remove()
    return total


def inference(name):
    model = build(name).eval()
    parameters = sum(p.numel() for p in model.parameters())
    heads = sum(p.numel() for n, p in model.named_parameters() if n.startswith("aux"))
    with torch.no_grad():
        result = dict(params=parameters - heads, auxiliary_params=heads, macs=macs(model, pictures(1, 224, 224)), keys=keys(model))
        for size in [(224, 224), (160, 224)]:
            result["logits_%dx%d" % size] = digest(model(pictures(1, *size)))
    return result


def step(name, side, keys, noise=0.0, seed=0):
    """Loss and gradients of one training step in f64, with weights that are off by a share of `noise`."""
    model = build(name, num_classes=CLASSES).double().train()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + noise * torch.randn(parameter.shape, generator=random, dtype=torch.float64)
    outputs = model(pictures(BATCH, side, side).double())
    logits = outputs.logits if name == "googlenet" else outputs
    labels = torch.arange(BATCH) * 3 % CLASSES
    loss = F.cross_entropy(logits, labels)
    if name == "googlenet":
        loss = loss + 0.3 * (F.cross_entropy(outputs.aux_logits1, labels) + F.cross_entropy(outputs.aux_logits2, labels))
    loss.backward()
    parameters = dict(model.named_parameters())
    return loss.item(), {key: digest(parameters[key].grad) for key in keys}


def distance(found, expected):
    """Largest difference of the first elements, relative to the largest of them, or of the norms."""
    largest = max(abs(x) for x in expected["first"])
    first = max(abs(f - e) for f, e in zip(found["first"], expected["first"])) / largest
    return max(first, abs(found["norm"] - expected["norm"]) / expected["norm"])


def training(name, side, *keys):
    loss, gradients = step(name, side, keys)
    moved = [step(name, side, keys, 1e-6, seed)[1] for seed in range(5)]
    for key in keys:
        gradients[key]["noise"] = float(f"{max(distance(other[key], gradients[key]) for other in moved):.2g}")
    return dict(side=side, loss=float(f"{loss:.7g}"), gradients=gradients)


if __name__ == "__main__":
    torch.set_num_threads(2)
    networks = {}
    for name in NAMES:
        networks[name] = inference(name)
        if name in TRAINED:
            networks[name]["training"] = training(name, *TRAINED[name])
        print(name, json.dumps(networks[name])[:600])
    rows = [f"{json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in networks.items()]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
