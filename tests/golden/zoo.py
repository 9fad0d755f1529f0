"""Golden values from torchvision for crates/convnet/tests/zoo.rs.

Run in the repository's root, with PyTorch 2.x and torchvision (made with 2.15 and 0.29, CPU; half an hour):

    python tests/golden/zoo.py [NAME...]

It writes crates/convnet/tests/golden/zoo.json, of the named networks alone where there are names: for every classifier of
torchvision that is a CNN the number of its parameters, its multiply-adds at its own size of pictures (of convolutions and
linear layers), a digest of its keys and shapes, and what it computes from weights and pictures that are formulas (see `state`
and `pictures`; the test computes them itself):

- logits of one picture of 224x224 and of one of 160x224 in inference, in f32, for the networks of LOGITS;
- logits of small pictures of two sizes in inference, in f64, for every network (see `sizes`);
- the loss of one training step in f64, and its gradients by every parameter, for every network (see `step_size`): of each
  gradient, in the order of the names, the 2-norm and the product with `pattern(PROJECTION, …)`; dropout is off;
- for one network of each family (see `TRAINED`) the same for larger pictures, and its gradients by the first and last weight.
  `noise` is how far a gradient moves when weights move by a millionth, as rounding in f32 moves what is computed from
  them: batch norm over few pixels magnifies that, and ReLUs switch (PyTorch's own f32 is off by up to 8e-3);
- for the same networks the gradient of a logit by a picture in inference, in f64 (`input_gradient`), with its `noise`.

Of each tensor but those of a step the first 16 elements and the 2-norm of all are kept. All numbers have 7 digits.
RegNet-Y 128GF takes 8 GB of memory.
"""

import functools
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
PROJECTION = 2000


def sizes(name):
    """Height and width of small pictures: of a size that every stride divides, and of odd sides. Some need larger ones."""
    return {"alexnet": [(64, 64), (63, 79)], "inception_v3": [(75, 75), (80, 95)]}.get(name, [(32, 32), (33, 47)])


def step_size(name):
    """Number and side of a training step's pictures. Inception v3's auxiliary head takes none that are smaller."""
    return {"alexnet": (BATCH, 64), "inception_v3": (2, 299)}.get(name, (BATCH, 32))


def pattern(tag, count):
    """convnet_kernels::reference::gradcheck::pattern: multiples of 1/2048 from -1 to below 1, which f32 holds. In blocks
    that stay in the cache."""
    found, block = np.empty(count, dtype=np.float32), 1 << 15
    for start in range(0, count, block):
        h = np.arange(start, min(start + block, count), dtype=np.uint32)
        h *= np.uint32(2654435761)
        h += np.uint32(tag * 40503 % 2**32)
        h ^= h >> np.uint32(15)
        h *= np.uint32(2246822519)
        h ^= h >> np.uint32(13)
        h *= np.uint32(3266489917)
        h >>= np.uint32(20)
        found[start : start + block] = h
    found -= 2048
    found /= 2048
    return found


def formula(name, shape, tag):
    """A parameter's values. Weights of convolutions and linear layers have the variance 2 / fan_in, which keeps activations
    near 1 through ReLUs; factors of batch norm lie in 0.5..1, so that sums of many residual branches stay small."""
    values = pattern(tag, math.prod(shape)).astype(np.float64)
    if name.endswith("running_var"):
        values = 1 + values / 2
    elif len(shape) > 1:
        values *= math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        values = 0.75 + values / 4
    else:
        values /= 8
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(model):
    """Gives every parameter and buffer its formula's values, tagged by its place among the sorted names."""
    tensors = model.state_dict()
    names = sorted(name for name in tensors if not name.endswith("num_batches_tracked"))
    for name in tensors.keys() - set(names):
        tensors[name].zero_()
    for tag, name in enumerate(names):
        tensors[name].copy_(formula(name, tuple(tensors[name].shape), tag))


def pictures(batch, height, width):
    shape = (batch, 3, height, width)
    return torch.from_numpy(pattern(1000, math.prod(shape))).reshape(shape)


def shell(name, **settings):
    """A network without weights."""
    if name in ("googlenet", "inception_v3"):
        settings = dict(aux_logits=True, init_weights=False) | settings
    with torch.device("meta"):
        return getattr(torchvision.models, name)(weights=None, **settings)


def build(name, dtype=torch.float64, **settings):
    model = shell(name, **settings).to(dtype).to_empty(device="cpu")
    fill(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "eps"):
            # As f32 has it: in EfficientNet V2-L, gradients move by 8e-4 with this.
            module.eps = float(np.float32(module.eps))
        if isinstance(module, torchvision.ops.StochasticDepth):
            module.p = 0.0
    return model


def rounded(x):
    return float(f"{x:.7g}")


def digest(tensor):
    tensor = tensor.detach().double().flatten()
    return dict(first=[rounded(x) for x in tensor[:16].tolist()], norm=rounded(tensor.norm().item()))


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
    model = shell(name).eval()
    parameters = sum(p.numel() for p in model.parameters())
    heads = sum(p.numel() for n, p in model.named_parameters() if n.lower().startswith("aux"))
    with torch.no_grad():
        return dict(
            params=parameters - heads,
            auxiliary_params=heads,
            macs=macs(model, torch.empty(1, 3, side, side, device="meta")),
            keys=keys(model),
        )


def inference(name):
    result = facts(name)
    with torch.no_grad():
        if name in LOGITS:
            model = build(name, torch.float32).eval()
            for size in [(224, 224), (160, 224)]:
                result["logits_%dx%d" % size] = digest(model(pictures(1, *size)))
    return result


def small(name):
    """Logits of small pictures, and a training step, in f64."""
    model = build(name)
    alone = build(name, **without_auxiliaries(name)) if without_auxiliaries(name) else model
    alone.eval()
    with torch.no_grad():
        logits = [(size, digest(alone(pictures(1, *size).double()))) for size in sizes(name)]
    return dict(small=[dict(size=size, **found) for size, found in logits], step=whole_step(name, model))


@functools.cache
def projection(count):
    """`pattern(PROJECTION, count)`: a part of that of a power of two."""
    whole = 1 << (count - 1).bit_length()
    return torch.from_numpy(pattern(PROJECTION, count)) if whole == count else projection(whole)[:count]


def whole_step(name, model):
    """A training step's loss, and of its gradient by every parameter the norm and a projection."""
    batch, side = step_size(name)
    found = {}

    def keep(key):
        def hook(parameter):
            """Keeps what is wanted of a gradient, and frees it."""
            gradient = parameter.grad.flatten()
            parameter.grad = None
            found[key] = [rounded(gradient.norm().item()), rounded((gradient @ projection(gradient.numel()).double()).item())]

        return hook

    for key, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(keep(key))
    loss = loss_of(name, model.train(), batch, side)
    loss.backward()
    assert len(found) == len(list(model.parameters()))
    return dict(batch=batch, side=side, loss=rounded(loss.item()), gradients=[found[key] for key in sorted(found)])


def without_auxiliaries(name):
    """Inception v3's auxiliary head takes no small pictures, not even to be left out of inference by the test."""
    return dict(aux_logits=False) if name == "inception_v3" else {}


def shaken(model, noise, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + noise * torch.randn(parameter.shape, generator=random, dtype=torch.float64)
    return model


# Auxiliary heads by the names of their logits, and the weight of their losses.
AUXILIARIES = {"googlenet": (["aux_logits1", "aux_logits2"], 0.3), "inception_v3": (["aux_logits"], 0.4)}


def loss_of(name, model, batch, side):
    """The loss of pictures in training, with the auxiliary heads' where the model has them."""
    outputs = model(pictures(batch, side, side).double())
    labels = torch.arange(batch) * 3 % CLASSES
    if isinstance(outputs, torch.Tensor):
        return F.cross_entropy(outputs, labels)
    heads, weight = AUXILIARIES[name]
    extra = sum(F.cross_entropy(getattr(outputs, head), labels) for head in heads if getattr(outputs, head) is not None)
    return F.cross_entropy(outputs.logits, labels) + weight * extra


def step(name, side, keys, noise=0.0, seed=0):
    """Loss and gradients of one training step in f64, with weights that are off by a share of `noise`."""
    model = shaken(build(name, num_classes=CLASSES, **without_auxiliaries(name)).train(), noise, seed)
    loss = loss_of(name, model, BATCH, side)
    loss.backward()
    parameters = dict(model.named_parameters())
    return loss.item(), {key: digest(parameters[key].grad) for key in keys}


def by_the_input(name, side, noise=0.0, seed=0):
    """The gradient of the logit of class `CLASS` by a picture in inference, in f64, with weights that are off as in `step`."""
    model = shaken(build(name, num_classes=CLASSES, **without_auxiliaries(name)).eval(), noise, seed)
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
    return dict(side=side, loss=rounded(loss), gradients=gradients)


if __name__ == "__main__":
    torch.set_num_threads(2)
    networks = json.loads(FILE.read_text()) if len(sys.argv) > 1 else {}
    for name in sys.argv[1:] or NAMES:
        networks[name] = inference(name) | small(name)
        if name in TRAINED:
            networks[name]["training"] = training(name, *TRAINED[name])
            networks[name]["input_gradient"] = input_gradient(name, TRAINED[name][0])
        print(name, json.dumps(networks[name])[:600], flush=True)
    rows = [f"{json.dumps(name)}: {json.dumps(networks[name], separators=(',', ':'))}" for name in NAMES if name in networks]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
