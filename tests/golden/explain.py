"""Golden values for crates/convnet/src/explain, from PyTorch in f64.

Run in the repository's root, with PyTorch 2.x (made with 2.15, CPU):

    python tests/golden/explain.py

It writes crates/convnet/tests/golden/explain.json: the weights of a small net, a picture, and what each method finds for a class,
by the methods' definitions; tests/explain/peers.py compares with pytorch-grad-cam and captum themselves.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

FILE = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden/explain.json"
CLASS, STEPS, WINDOW, STRIDE = 1, 10, (5, 3), (3, 2)


class Positive(torch.autograd.Function):
    """A ReLU of guided backpropagation."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, by):
        return by.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class Small(nn.Module):
    """Pictures of 3x12x10: a convolution with batch norm, a pooling, a residual block, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(180, 3)
        self.guided = False

    def forward(self, x):
        relu = Positive.apply if self.guided else F.relu
        x = F.max_pool2d(relu(self.bn1(self.conv1(x))), 2)
        self.maps = relu(self.conv2(x) + x)
        return self.head(self.maps.flatten(1))


def gradient(net, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x)[:, CLASS].sum(), x)[0]


def cams(net, x):
    x = x.clone().requires_grad_()
    score = net(x)[0, CLASS]
    maps = net.maps
    by = torch.autograd.grad(score, maps)[0][0]
    maps = maps[0].detach()
    sums = maps.sum((1, 2), keepdim=True)
    alpha = torch.where(by != 0, by**2 / (2 * by**2 + sums * by**3 + 1e-6), 0)
    weights = {
        "grad-cam": by.mean((1, 2), keepdim=True),
        "grad-cam++": (by.clamp(min=0) * alpha).sum((1, 2), keepdim=True),
        "hires-cam": by,
        "layer-cam": by.clamp(min=0),
    }
    return {name: (weight * maps).sum(0).clamp(min=0) for name, weight in weights.items()}


def occlusion(net, x):
    height, width = x.shape[2:]
    sums, covers = torch.zeros(height, width), torch.zeros(height, width)
    places = lambda size, axis: range(0, -(-(size - WINDOW[axis]) // STRIDE[axis]) * STRIDE[axis] + 1, STRIDE[axis])
    for top in places(height, 0):
        for left in places(width, 1):
            part = (slice(top, top + WINDOW[0]), slice(left, left + WINDOW[1]))
            covered = x.clone()
            covered[(..., *part)] = 0
            sums[part] += (net(x) - net(covered))[0, CLASS].detach()
            covers[part] += 1
    return sums / covers


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    net = Small().eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_((torch.rand(tensor.shape) - (0.0 if tensor.ndim < 2 else 0.5)).float() + 0.1)
        x = torch.randn(1, 3, 12, 10).float().double()
    found = cams(net, x)
    found["saliency"] = gradient(net, x)
    found["input-x-gradient"] = found["saliency"] * x
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    found["integrated-gradients"] = x * sum(w / 2 * gradient(net, (n + 1) / 2 * x) for n, w in zip(nodes, weights))
    found["occlusion"] = occlusion(net, x)
    net.guided = True
    found["guided-backprop"] = gradient(net, x)
    flat = lambda tensor: [float(f"{x:.9g}") for x in tensor.detach().flatten().tolist()]
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    golden = dict(
        weights={name: dict(shape=list(tensor.shape), data=flat(tensor)) for name, tensor in state.items()},
        image=flat(x),
        logits=flat(net(x)),
        expected={name: flat(tensor) for name, tensor in found.items()},
        settings={"class": CLASS, "steps": STEPS, "window": WINDOW, "stride": STRIDE},
    )
    FILE.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
