"""Golden values from torchvision for crates/convnet/tests/zoo.rs.

Run in the repository's root, with PyTorch 2.x and torchvision (made with 2.15 and 0.29, CPU; some minutes):

    python tests/golden/zoo.py [NAME...]

It writes crates/convnet/tests/golden/zoo.json, of the named networks alone where there are names: for every classifier of
torchvision that is a CNN the number of its parameters, its multiply-adds at its own size of pictures (of convolutions and
linear layers), a digest of its keys and shapes, and what it computes from weights and pictures that are formulas (see `state`
and `pictures`; the test computes them itself):

- logits of one picture of 224x224 and of one of 160x224 in inference, in f32, for the networks of LOGITS;
- logits of small pictures in inference, in f64 (see `SMALL`);
- for one network of each family (see `TRAINED`) the loss of one training step in f64, and its gradients by the first and
  last weight; dropout is off. `noise` is how far a gradient moves when weights move by a millionth, as rounding in
  f32 moves what is computed from them: batch norm over few pixels magnifies that, and ReLUs switch (PyTorch's own f32 is
  off by up to 8e-3);
- for the same networks the gradient of a logit by a picture in inference, in f64 (`input_gradient`), with its `noise`.

Of each tensor the first 16 elements and the 2-norm of all are kept, to 7 digits.
"""

import hashlib
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
import torchvision

FILE = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden/zoo.json"

LOGITS = """alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn googlenet resnet18 resnet34 resnet50 resnet101
resnet152 resnext50_32x4d resnext101_32x8d wide_resnet50_2 wide_resnet101_2 densenet121 densenet161 densenet169
densenet201""".split()

NAMES = LOGITS + """inception_v3 squeezenet1_0 squeezenet1_1 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l regnet_x_400mf regnet_x_800mf regnet_x_1_6gf
regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf
regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf convnext_tiny convnext_small convnext_base convnext_large
resnext101_64x4d""".split()

# Sides of the pictures that a network is made for, where they are not 224.
SIDES = dict(
    inception_v3=299, efficientnet_b1=240, efficientnet_b2=288, efficientnet_b3=300, efficientnet_b4=380, efficientnet_b5=456,
    efficientnet_b6=528, efficientnet_b7=600, efficientnet_v2_s=384, efficientnet_v2_m=480, efficientnet_v2_l=480,
)

# Height and width of small pictures.
SMALL = {
    name: [(64, 64), (48, 80)]
    for name in """squeezenet1_0 squeezenet1_1 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small shufflenet_v2_x0_5
    shufflenet_v2_x1_0 mnasnet0_5 mnasnet1_3 efficientnet_b0 efficientnet_b1 efficientnet_b5 efficientnet_v2_s regnet_x_400mf
    regnet_y_400mf regnet_x_8gf convnext_tiny resnet18 resnext101_64x4d googlenet densenet121""".split()
}
SMALL["inception_v3"] = [(96, 96), (80, 112)]

# One of each family, with the side of its pictures: name of the net, first and last weight.
TRAINED = {
    "alexnet": (96, "features.0.weight", "classifier.6.weight"),
    "vgg11_bn": (32, "features.0.weight", "classifier.6.weight"),
    "googlenet": (64, "conv1.conv.weight", "fc.weight"),
    "resnet50": (64, "conv1.weight", "fc.weight"),
    "densenet121": (64, "features.conv0.weight", "classifier.weight"),
    "inception_v3": (96, "Conv2d_1a_3x3.conv.weight", "fc.weight"),
    "squeezenet1_1": (64, "features.0.weight", "classifier.1.weight"),
    "mobilenet_v2": (64, "features.0.0.weight", "classifier.1.weight"),
    "mobilenet_v3_small": (64, "features.0.0.weight", "classifier.3.weight"),
    "shufflenet_v2_x0_5": (64, "conv1.0.weight", "fc.weight"),
    "mnasnet0_5": (64, "layers.0.weight", "classifier.1.weight"),
    "efficientnet_b0": (64, "features.0.0.weight", "classifier.1.weight"),
    "efficientnet_v2_s": (64, "features.0.0.weight", "classifier.1.weight"),
    "regnet_x_400mf": (64, "stem.0.weight", "fc.weight"),
    "regnet_y_400mf": (64, "stem.0.weight", "fc.weight"),
    "convnext_tiny": (64, "features.0.0.weight", "classifier.2.weight"),
}
BATCH, CLASSES, CLASS = 4, 10, 3


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
    if name in ("googlenet", "inception_v3"):
        settings = dict(aux_logits=True, init_weights=False) | settings
    model = getattr(torchvision.models, name)(weights=None, **settings)
    # MNASNet wants the metadata of its own dictionary.
    weights = model.state_dict()
    weights.update(state(model))
    model.load_state_dict(weights)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    return model


def digest(tensor):
    tensor = tensor.detach().double().flatten()
    first = [float(f"{x:.7g}") for x in tensor[:16].tolist()]
    return dict(first=first, norm=float(f"{tensor.norm().item():.7g}"))


def keys(model):
    """SHA-256 of lines `<name> <shape>` in the order of the names."""
    state = sorted(((n, t) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")), key=lambda item: item[0])
    lines = [f"{name} {list(tensor.shape)}\n" for name, tensor in state]
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


def computed_on_the_cpu(method):
    """RegNet reads the widths that it computes, which tensors without data do not allow."""

    def inner(cls, *args, **kwargs):
        with torch.device("cpu"):
            return method.__func__(cls, *args, **kwargs)

    return classmethod(inner)


BlockParams = torchvision.models.regnet.BlockParams
BlockParams.from_init_params = computed_on_the_cpu(BlockParams.from_init_params)


def facts(name):
    """Numbers and keys, which need no weights."""
    side = SIDES.get(name, 224)
    with torch.device("meta"):
        settings = dict(aux_logits=True, init_weights=False) if name in ("googlenet", "inception_v3") else {}
        model = getattr(torchvision.models, name)(weights=None, **settings).eval()
        parameters = sum(p.numel() for p in model.parameters())
        heads = sum(p.numel() for n, p in model.named_parameters() if n.lower().startswith("aux"))
        with torch.no_grad():
            return dict(
                params=parameters - heads,
                auxiliary_params=heads,
                macs=macs(model, torch.empty(1, 3, side, side)),
                keys=keys(model),
            )


def inference(name):
    result = facts(name)
    with torch.no_grad():
        if name in LOGITS:
            model = build(name).eval()
            for size in [(224, 224), (160, 224)]:
                result["logits_%dx%d" % size] = digest(model(pictures(1, *size)))
    if name in SMALL:
        result["small"] = small(name)
    return result


def small(name):
    model = build(name, **without_auxiliaries(name)).double().eval()
    with torch.no_grad():
        logits = [(size, digest(model(pictures(1, *size).double()))) for size in SMALL[name]]
    return [dict(size=size, **found) for size, found in logits]


def without_auxiliaries(name):
    """Inception v3's auxiliary head takes no small pictures."""
    return dict(aux_logits=False) if name == "inception_v3" else {}


def shaken(model, noise, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + noise * torch.randn(parameter.shape, generator=random, dtype=torch.float64)
    return model


def step(name, side, keys, noise=0.0, seed=0):
    """Loss and gradients of one training step in f64, with weights that are off by a share of `noise`."""
    model = shaken(build(name, num_classes=CLASSES, **without_auxiliaries(name)).double().train(), noise, seed)
    outputs = model(pictures(BATCH, side, side).double())
    logits = outputs.logits if name == "googlenet" else outputs
    labels = torch.arange(BATCH) * 3 % CLASSES
    loss = F.cross_entropy(logits, labels)
    if name == "googlenet":
        loss = loss + 0.3 * (F.cross_entropy(outputs.aux_logits1, labels) + F.cross_entropy(outputs.aux_logits2, labels))
    loss.backward()
    parameters = dict(model.named_parameters())
    return loss.item(), {key: digest(parameters[key].grad) for key in keys}


def by_the_input(name, side, noise=0.0, seed=0):
    """The gradient of the logit of class `CLASS` by a picture in inference, in f64, with weights that are off as in `step`."""
    model = shaken(build(name, num_classes=CLASSES, **without_auxiliaries(name)).double().eval(), noise, seed)
    picture = pictures(1, side, side).double().requires_grad_()
    model(picture)[0, CLASS].backward()
    return digest(picture.grad)


def input_gradient(name, side):
    found = by_the_input(name, side)
    moved = [by_the_input(name, side, 1e-6, seed) for seed in range(5)]
    return found | dict(noise=float(f"{max(distance(other, found) for other in moved):.2g}"))


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
    networks = json.loads(FILE.read_text()) if len(sys.argv) > 1 else {}
    for name in sys.argv[1:] or NAMES:
        networks[name] = inference(name)
        if name in TRAINED:
            networks[name]["training"] = training(name, *TRAINED[name])
            networks[name]["input_gradient"] = input_gradient(name, TRAINED[name][0])
        print(name, json.dumps(networks[name])[:600], flush=True)
    rows = [f"{json.dumps(name)}: {json.dumps(networks[name], separators=(',', ':'))}" for name in NAMES if name in networks]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
