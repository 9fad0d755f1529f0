"""The nets in PyTorch: torchvision's, and the two that it lacks."""

from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional


def build(model: str) -> nn.Module:
    """A net with random weights, the same ones each time."""
    torch.manual_seed(0)
    if model == "cnn":
        return cnn()
    if model == "resnet20":
        return ResNet20()
    settings: dict[str, Any] = {"aux_logits": False, "init_weights": True} if model == "googlenet" else {}
    net: nn.Module = torchvision.models.get_model(model, weights=None, **settings)
    for name, parameter in net.named_parameters():
        # ConvNeXt's begin at 1e-6, which would hide what its blocks compute from the comparison of outputs.
        if name.endswith("layer_scale"):
            nn.init.constant_(parameter, 0.5)
    return net


def settled(net: nn.Module, pictures: torch.Tensor) -> nn.Module:
    """The net for inference, with running statistics of these pictures, so that no layer's outputs grow or vanish."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            net.train()(pictures)
    return net.eval()


def cnn() -> nn.Sequential:
    """The lecture's CNN: `convnet summary cnn`."""
    layers: list[nn.Module] = []
    for read, written in [(1, 32), (32, 64)]:
        layers += [nn.Conv2d(read, written, 3, padding=1), nn.BatchNorm2d(written), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Dropout2d(0.5)]
    layers += [nn.Flatten(), nn.Linear(64 * 7 * 7, 1024), nn.ReLU(), nn.Linear(1024, 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 10))


class Block(nn.Module):
    """Two convolutions and a shortcut, which takes every other pixel and adds channels of zeros where sizes differ."""

    def __init__(self, read: int, written: int) -> None:
        super().__init__()
        self.stride = 1 if read == written else 2
        self.more = (written - read) // 2
        self.conv1 = nn.Conv2d(read, written, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(written)
        self.conv2 = nn.Conv2d(written, written, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(written)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return functional.relu(x + y)


class ResNet20(nn.Module):
    """He et al. 2015, section 4.2, with shortcuts of option A: `convnet summary resnet20`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.blocks = nn.Sequential(*(Block(read, written) for read, written in zip(widths, widths[1:])))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean((2, 3)))
