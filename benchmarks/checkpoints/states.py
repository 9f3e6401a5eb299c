"""The networks whose states are saved, as torchvision builds them, and a state of a gigabyte.

One rule: names, shapes and dtypes of a state are those of the real network; the numbers are random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class Block(nn.Module):
    """A residual block, with a bottleneck or without."""

    def __init__(self, inner: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outer = width * (4 if bottleneck else 1)
        sizes = [(inner, width, 1, 1), (width, width, 3, stride), (width, outer, 1, 1)]
        if not bottleneck:
            sizes = [(inner, width, 3, stride), (width, width, 3, 1)]
        layers: list[nn.Module] = []
        for before, after, kernel, step in sizes:
            layers += [*convolution(before, after, kernel, step), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        same = inner == outer and stride == 1
        self.shortcut = nn.Sequential(*([] if same else convolution(inner, outer, 1, stride)))

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (n, channels, height, width)."""
        return torch.relu(self.body(images) + self.shortcut(images))


def convolution(inner: int, outer: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution and its normalisation."""
    padding = kernel // 2
    conv = nn.Conv2d(inner, outer, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm2d(outer)]


def resnet(
    counts: Sequence[int], *, bottleneck: bool = False, width: int = 64, classes: int = 1000
) -> nn.Sequential:
    """A residual network (He et al. 2016) of so many blocks a stage; its first layer is for small images."""
    layers = [*convolution(3, width, 3, 1), nn.ReLU(inplace=True)]
    inner = width
    for stage, count in enumerate(counts):
        for number in range(count):
            stride = 2 if stage and not number else 1
            layers.append(Block(inner, width * 2**stage, stride, bottleneck=bottleneck))
            inner = width * 2**stage * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


def resnet_20() -> nn.Sequential:
    """The small one, for images of 32 by 32 pixels."""
    return resnet([3, 3, 3], width=16, classes=10)


def resnet_18() -> nn.Sequential:
    """45 MB."""
    return resnet([2, 2, 2, 2])


def resnet_152() -> nn.Sequential:
    """240 MB."""
    return resnet([3, 8, 36, 3], bottleneck=True)


def gigabyte() -> State:
    """The state of a transformer: 64 matrices of 16 MB."""
    return {f"blocks.{number}.weight": torch.randn(2048, 2048) for number in range(64)}


STATES: dict[str, Callable[[], State]] = {
    "ResNet-18": lambda: resnet_18().state_dict(),
    "ResNet-152": lambda: resnet_152().state_dict(),
    "1 GB": gigabyte,
}


def megabytes(state: State) -> float:
    """The size of all tensors."""
    return sum(tensor.nbytes for tensor in state.values()) / 1e6
