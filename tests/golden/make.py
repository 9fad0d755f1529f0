"""Golden values from PyTorch, in f64, for crates/convnet/tests/golden.rs.

Run in the repository's root, with PyTorch 2.x (made with 2.15, CPU):

    python tests/golden/make.py

It writes one file per operation into crates/convnet/tests/golden/: a list of cases, each with a name, the settings of
the operation, its inputs as formulas (see `pattern`; the test computes them itself), and the expected tensors,
flattened, to 12 digits. A gradient is that of sum(output * dy) with dy an input of the case, and is named `d` and what
it is by. Settings that are f32 in convnet (eps, momentum) are rounded to f32 here too.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden"


def pattern(tag, count):
    """convnet_kernels::reference::gradcheck::pattern: multiples of 1/2048 from -1 to below 1."""
    values = []
    for i in range(count):
        h = (i * 2654435761 + tag * 40503) % 2**32
        h = ((h ^ (h >> 15)) * 2246822519) % 2**32
        h = ((h ^ (h >> 13)) * 3266489917) % 2**32
        values.append(((h >> 20) - 2048) / 2048)
    return values


def f32(x):
    return torch.tensor(x, dtype=torch.float32).item()


class Case:
    """A case under construction: inputs by formula, results by name."""

    def __init__(self, name, **settings):
        self.name, self.settings, self.inputs, self.expected = name, settings, {}, {}

    def input(self, name, shape, scale=1.0, offset=0.0, levels=2048):
        """`offset + scale * pattern`, where the pattern is first rounded down to multiples of 1/levels. With scales and
        offsets of few bits the result is exact in f32."""
        tag = len(self.inputs) + 1
        self.inputs[name] = dict(tag=tag, shape=list(shape), scale=scale, offset=offset, levels=levels)
        values = torch.tensor(pattern(tag, math.prod(shape)), dtype=torch.float64)
        return (offset + scale * torch.floor(values * levels) / levels).reshape(shape).requires_grad_()

    def expect(self, **tensors):
        for name, tensor in tensors.items():
            self.expect_named(name, tensor)

    def expect_named(self, name, tensor):
        self.expected[name] = [float(f"{x:.12g}") for x in tensor.detach().flatten().tolist()]

    def expect_gradients(self, y, **inputs):
        """The output `y` and the gradients of sum(y * dy) by the inputs."""
        dy = self.input("dy", y.shape)
        gradients = torch.autograd.grad((y * dy.detach()).sum(), list(inputs.values()))
        self.expect(y=y, **{f"d{name}": gradient for name, gradient in zip(inputs, gradients)})


def write(op, cases):
    lines = [json.dumps(vars(case), separators=(",", ":")) for case in cases]
    (FOLDER / f"{op}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def window(kernel, stride=(1, 1), begin=(0, 0), end=None, dilation=(1, 1), ceil_mode=False):
    return dict(
        kernel=kernel, stride=stride, begin=begin, end=begin if end is None else end, dilation=dilation, ceil_mode=ceil_mode
    )


def pad(x, w, value=0.0):
    """Explicit padding, which may differ at the two ends of an axis."""
    return F.pad(x, (w["begin"][1], w["end"][1], w["begin"][0], w["end"][0]), value=value)


def conv2d():
    uneven = window((2, 3), (2, 1), (0, 2), (1, 0), (1, 2))
    rows = [
        # name, [batch, in channels, height, width], out channels, groups, window
        ("3x3 same", (2, 3, 5, 7), 4, 1, window((3, 3), begin=(1, 1))),
        ("1x1", (2, 5, 4, 3), 3, 1, window((1, 1))),
        ("3x3 stride 2, batch 1", (1, 3, 7, 9), 5, 1, window((3, 3), (2, 2), (1, 1))),
        ("uneven", (2, 3, 5, 6), 2, 1, uneven),
        ("uneven, groups", (2, 4, 5, 6), 6, 2, uneven),
        ("depthwise", (1, 5, 6, 4), 5, 5, window((3, 3), begin=(1, 1))),
        ("depthwise, two filters each", (1, 3, 5, 5), 6, 3, window((3, 3), (2, 2), (1, 1))),
        ("dilated", (1, 2, 9, 8), 3, 1, window((3, 3), begin=(2, 2), dilation=(2, 2))),
        ("5x5", (1, 1, 8, 6), 3, 1, window((5, 5), begin=(2, 2))),
        ("11x11 stride 4", (1, 3, 13, 17), 2, 1, window((11, 11), (4, 4), (2, 2))),
        ("17 channels", (1, 17, 3, 4), 18, 1, window((3, 3), begin=(1, 1))),
    ]
    for name, shape, out_channels, groups, w in rows:
        case = Case(name, out_channels=out_channels, groups=groups, window=w)
        x = case.input("x", shape)
        weight = case.input("weight", (out_channels, shape[1] // groups, *w["kernel"]), scale=0.5)
        bias = case.input("bias", (out_channels,))
        y = F.conv2d(pad(x, w), weight, bias, w["stride"], 0, w["dilation"], groups)
        case.expect_gradients(y, x=x, weight=weight, bias=bias)
        yield case


def linear():
    for batch, in_features, out_features in [(1, 7, 3), (5, 17, 6), (3, 1, 4)]:
        case = Case(f"{batch} x {in_features} to {out_features}")
        x = case.input("x", (batch, in_features))
        weight = case.input("weight", (out_features, in_features), scale=0.5)
        bias = case.input("bias", (out_features,))
        case.expect_gradients(F.linear(x, weight, bias), x=x, weight=weight, bias=bias)
        yield case


def batch_norm():
    for name, shape in [("2-D maps", (3, 4, 3, 5)), ("batch 1", (1, 3, 4, 2)), ("one pixel", (6, 5, 1, 1))]:
        for training in [True, False]:
            eps, momentum = f32(1e-5), f32(0.1)
            mode = "training" if training else "inference"
            case = Case(f"{name}, {mode}", training=training, eps=eps, momentum=momentum)
            x = case.input("x", shape, scale=2.0, offset=0.5)
            weight, bias = case.input("weight", shape[1:2]), case.input("bias", shape[1:2])
            mean = case.input("running_mean", shape[1:2]).detach()
            var = case.input("running_var", shape[1:2], scale=0.5, offset=1.0).detach()
            y = F.batch_norm(x, mean, var, weight, bias, training, momentum, eps)
            case.expect_gradients(y, x=x, weight=weight, bias=bias)
            case.expect(running_mean=mean, running_var=var)
            yield case


def activation():
    sixth = f32(1 / 6)
    rows = [
        # settings, function
        (dict(kind="relu"), F.relu),
        (dict(kind="hardtanh", low=0.0, high=6.0), F.relu6),
        (dict(kind="hardtanh", low=-0.75, high=1.5), lambda x: F.hardtanh(x, -0.75, 1.5)),
        (dict(kind="leakyrelu", slope=f32(0.01)), lambda x: F.leaky_relu(x, f32(0.01))),
        (dict(kind="sigmoid"), F.sigmoid),
        # F.hardsigmoid with a slope of 1/6 in f32.
        (dict(kind="hardsigmoid", slope=sixth, offset=0.5), lambda x: torch.clamp(x * sixth + 0.5, 0, 1)),
        (dict(kind="hardsigmoid", slope=0.25, offset=0.375), lambda x: torch.clamp(x * 0.25 + 0.375, 0, 1)),
        (dict(kind="tanh"), F.tanh),
        (dict(kind="silu"), F.silu),
        (dict(kind="hardswish"), F.hardswish),
        (dict(kind="gelu"), F.gelu),
        (dict(kind="softsign"), F.softsign),
    ]
    for settings, function in rows:
        case = Case(", ".join(map(str, settings.values())), activation=settings)
        x = case.input("x", (101,), scale=8.0)
        case.expect_gradients(function(x), x=x)
        yield case


def max_pool():
    rows = [
        ("2x2", (2, 3, 6, 8), window((2, 2), (2, 2))),
        ("odd sizes", (1, 2, 7, 5), window((2, 2), (2, 2))),
        ("3x3 stride 2, ceil mode", (1, 2, 6, 8), window((3, 3), (2, 2), ceil_mode=True)),
        ("padding, ceil mode", (1, 1, 3, 5), window((2, 2), (2, 2), (1, 1), ceil_mode=True)),
        ("larger than the input, ceil mode", (1, 2, 2, 3), window((3, 5), (2, 3), ceil_mode=True)),
        ("overlapping, same size", (1, 2, 5, 4), window((3, 3), begin=(1, 1))),
        ("uneven", (2, 1, 6, 7), window((3, 2), (1, 2), (1, 0), (0, 1))),
        ("dilated", (1, 2, 7, 8), window((2, 3), dilation=(3, 2))),
    ]
    for name, shape, w in rows:
        case = Case(name, window=w)
        # Few different values, so that many windows have equal largest elements.
        x = case.input("x", shape, levels=4)
        if w["begin"] == w["end"]:
            y = F.max_pool2d(x, w["kernel"], w["stride"], w["begin"], w["dilation"], w["ceil_mode"])
        else:
            y = F.max_pool2d(pad(x, w, -math.inf), w["kernel"], w["stride"], 0, w["dilation"])
        case.expect_gradients(y, x=x)
        yield case


def avg_pool():
    rows = [
        ("2x2", (2, 3, 6, 8), window((2, 2), (2, 2))),
        ("3x3 stride 2, ceil mode", (1, 2, 6, 8), window((3, 3), (2, 2), ceil_mode=True)),
        ("padding, ceil mode", (1, 2, 4, 6), window((3, 3), (2, 2), (1, 1), ceil_mode=True)),
        ("larger than the input, ceil mode", (1, 2, 2, 3), window((3, 5), (2, 3), ceil_mode=True)),
        ("uneven", (1, 3, 7, 5), window((3, 2), (2, 1), (1, 0))),
        ("global", (2, 4, 3, 5), window((3, 5))),
    ]
    for name, shape, w in rows:
        for include in [True, False]:
            case = Case(f"{name}, {'with' if include else 'without'} padding", window=w, count_include_pad=include)
            x = case.input("x", shape)
            y = F.avg_pool2d(x, w["kernel"], w["stride"], w["begin"], w["ceil_mode"], include)
            case.expect_gradients(y, x=x)
            yield case


def labels_of(batch, classes):
    return [(3 * n + 1) % classes for n in range(batch)]


def cross_entropy():
    for batch, classes, scale in [(1, 2, 1.0), (6, 5, 4.0), (3, 10, 64.0)]:
        labels = labels_of(batch, classes)
        case = Case(f"{batch} x {classes}, logits to {scale}", labels=labels)
        x = case.input("x", (batch, classes), scale=scale)
        loss = F.cross_entropy(x, torch.tensor(labels))
        case.expect(loss=loss, dx=torch.autograd.grad(loss, x)[0])
        yield case
    batch, classes = 6, 5
    labels = labels_of(batch, classes)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.25], dtype=torch.float64)
    for soft in [False, True]:
        for smoothing, gamma in [(0.0, 0.0), (0.125, 0.0), (0.0, 2.0), (0.125, 0.5)]:
            settings = dict(class_weights=weights.tolist(), label_smoothing=smoothing, focal_gamma=gamma, labels=labels)
            case = Case(f"weights, {'probabilities' if soft else 'labels'}, smoothing {smoothing}, gamma {gamma}", **settings)
            x = case.input("x", (batch, classes), scale=4.0)
            targets = torch.tensor(labels)
            if soft:
                targets = case.input("targets", (batch, classes), scale=0.5, offset=0.5).detach()
            loss = F.cross_entropy(x, targets, weights, label_smoothing=smoothing)
            if gamma > 0:
                # PyTorch has no focal loss with softmax: Lin et al. 2017, eq. 5, with the divisors of cross_entropy.
                shares = targets if soft else F.one_hot(targets, classes).double()
                shares = shares * (1 - smoothing) + smoothing / classes
                log = F.log_softmax(x, 1)
                total = (weights * shares * (1 - log.exp()) ** gamma * -log).sum()
                loss = total / (batch if soft else weights[targets].sum())
            case.expect(loss=loss, dx=torch.autograd.grad(loss, x)[0])
            yield case


def make_optimizer(settings, parameters):
    """`settings` name the optimizer and its arguments, all of them written out."""
    settings = {key: tuple(value) if key == "betas" else value for key, value in settings.items()}
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.pop("kind")]
    return kind(parameters, **settings)


ADAM = dict(kind="adam", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
ADAMW = dict(kind="adamw", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SGD = dict(kind="sgd", lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
SGD_ALL = dict(kind="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)


def optimizers():
    rows = [
        ("sgd", SGD),
        ("sgd, momentum", {**SGD, "momentum": 0.9}),
        ("sgd, momentum, nesterov, weight decay", SGD_ALL),
        ("adam", ADAM),
        ("adam, weight decay, other betas", {**ADAM, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4}),
        ("adamw", ADAMW),
        ("adamw, strong", {**ADAMW, "lr": 0.1, "weight_decay": 0.5}),
    ]
    for name, settings in rows:
        case = Case(name, optimizer=settings, steps=4)
        weights = case.input("weights", (23,))
        # Step t takes its gradient from its own input.
        gradients = [case.input(f"gradient{t}", (23,), scale=0.5) for t in range(4)]
        optimizer = make_optimizer(settings, [weights])
        for gradient in gradients:
            weights.grad = gradient.detach()
            optimizer.step()
        case.expect(weights=weights)
        yield case


def muon():
    """Weights tall, wide and square; PyTorch rounds to bf16 within, which `.bf16` has, and here also runs in f64."""
    shapes = {"a": (18, 12), "b": (12, 18), "c": (12, 12)}
    plain = dict(lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="original")
    rows = [
        ("original", plain),
        ("match_rms_adamw, no nesterov", {**plain, "adjust_lr_fn": "match_rms_adamw", "nesterov": False, "momentum": 0.8}),
    ]
    for name, settings in rows:
        case = Case(name, muon={**settings, "rate": settings["adjust_lr_fn"]}, steps=3)
        start = {key: case.input(key, shape).detach() for key, shape in shapes.items()}
        gradients = [{key: case.input(f"{key}{t}", s, scale=0.5).detach() for key, s in shapes.items()} for t in range(3)]
        bf16 = torch.bfloat16
        for suffix, within in [("", torch.float64), (".bf16", bf16)]:
            weights = {key: value.clone() for key, value in start.items()}
            optimizer = torch.optim.Muon(list(weights.values()), **settings)
            torch.bfloat16 = within
            for step in gradients:
                for key, gradient in step.items():
                    weights[key].grad = gradient.clone()
                optimizer.step()
            torch.bfloat16 = bf16
            for key, value in weights.items():
                case.expect_named(key + suffix, value)
        yield case


def cnn():
    """The lecture's CNN, small and without dropout, with convnet's names."""
    batch, xdim, cdims, hdims, ydim = 6, [1, 12, 12], [4, 6], [10], 5
    eps, momentum = f32(1e-5), f32(0.1)

    def build(name, **settings):
        case = Case(name, xdim=xdim, cdims=cdims, hdims=hdims, ydim=ydim, labels=labels_of(batch, ydim), **settings)
        parameters, buffers, channels, pixels = {}, {}, xdim[0], xdim[1]
        x = case.input("x", (batch, *xdim))
        for i, c in enumerate(cdims, 1):
            parameters[f"conv{i}.weight"] = case.input(f"conv{i}.weight", (c, channels, 3, 3), scale=0.5)
            parameters[f"conv{i}.bias"] = case.input(f"conv{i}.bias", (c,), scale=0.25)
            parameters[f"bn{i}.weight"] = case.input(f"bn{i}.weight", (c,), scale=0.5, offset=1.0)
            parameters[f"bn{i}.bias"] = case.input(f"bn{i}.bias", (c,), scale=0.25)
            buffers[f"bn{i}.running_mean"] = case.input(f"bn{i}.running_mean", (c,), scale=0.25).detach()
            buffers[f"bn{i}.running_var"] = case.input(f"bn{i}.running_var", (c,), scale=0.25, offset=1.0).detach()
            channels, pixels = c, pixels // 2
        features = channels * pixels * pixels
        for name, width in [(f"linear{i}", h) for i, h in enumerate(hdims, 1)] + [("head", ydim)]:
            parameters[f"{name}.weight"] = case.input(f"{name}.weight", (width, features), scale=0.25)
            parameters[f"{name}.bias"] = case.input(f"{name}.bias", (width,), scale=0.25)
            features = width

        def forward(training):
            p, b, y = parameters, buffers, x
            for i in range(1, len(cdims) + 1):
                y = F.conv2d(y, p[f"conv{i}.weight"], p[f"conv{i}.bias"], padding=1)
                running = b[f"bn{i}.running_mean"], b[f"bn{i}.running_var"]
                y = F.batch_norm(y, *running, p[f"bn{i}.weight"], p[f"bn{i}.bias"], training, momentum, eps)
                y = F.max_pool2d(F.relu(y), 2)
            y = y.flatten(1)
            for i in range(1, len(hdims) + 1):
                y = F.relu(F.linear(y, p[f"linear{i}.weight"], p[f"linear{i}.bias"]))
            return F.linear(y, p["head.weight"], p["head.bias"])

        return case, x, parameters, buffers, forward

    case, x, parameters, buffers, forward = build("gradients")
    labels = torch.tensor(case.settings["labels"])
    logits = forward(True)
    loss = F.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, [x, *parameters.values()])
    case.expect(logits=logits, loss=loss)
    for name, gradient in zip(["x", *parameters], gradients):
        case.expect_named(f"d{name}", gradient)
    for name, buffer in buffers.items():
        case.expect_named(name, buffer)
    yield case

    for name, settings, steps in [("adam", ADAM, 1), ("sgd", SGD_ALL, 1), ("adamw", ADAMW, 2)]:
        case, x, parameters, buffers, forward = build(f"{name}, {steps} steps", optimizer=settings, steps=steps)
        optimizer = make_optimizer(settings, list(parameters.values()))
        for step in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(forward(True), labels)
            loss.backward()
            optimizer.step()
            case.expect_named(f"loss{step}", loss)
        for name, tensor in [*parameters.items(), *buffers.items()]:
            # A bias before batch norm has a gradient of 0 but for rounding, which Adam makes into whole steps of
            # either sign. So neither these biases nor what depends on them can be compared.
            if settings["kind"] == "sgd" or not (name.startswith("conv") and name.endswith("bias")):
                if steps == 1 or not name.endswith("running_mean"):
                    case.expect_named(name, tensor)
        if settings["kind"] == "sgd":
            case.expect(inference_logits=forward(False))
        yield case


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for op in [conv2d, linear, batch_norm, activation, max_pool, avg_pool, cross_entropy, optimizers, muon, cnn]:
        write(op.__name__, op())


if __name__ == "__main__":
    main()
