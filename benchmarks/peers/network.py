"""The peers' network: Table 2 with batch normalisation in PyTorch, as its users would write it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution with batch normalisation and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class L2Pool(nn.Module):
    """The root of the sum of squares of a 3x3 neighbourhood."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride, 1, divisor_override=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(self.pool(x * x) + 1e-12)


class Inception(nn.Module):
    """One row of Table 2; `columns` as in facenet_jax.models.layers.Columns."""

    def __init__(self, inputs: int, columns: dict[str, Any]) -> None:
        super().__init__()
        c, stride = columns, columns["stride"]
        self.branches = nn.ModuleList()
        self.outputs = 0
        if c["conv1x1"]:
            self._add(convolution(inputs, c["conv1x1"], 1, stride), c["conv1x1"])
        for k in (3, 5):
            reduced, outputs = c[f"reduce{k}x{k}"], c[f"conv{k}x{k}"]
            if outputs:
                both = nn.Sequential(convolution(inputs, reduced, 1), convolution(reduced, outputs, k, stride))
                self._add(both, outputs)
        if c["pool"]:
            pool: nn.Module = nn.MaxPool2d(3, stride, 1) if c["pool"] == "m" else L2Pool(stride)
            if c["project"]:
                self._add(nn.Sequential(pool, convolution(inputs, c["project"], 1)), c["project"])
            else:
                self._add(pool, inputs)

    def _add(self, branch: nn.Module, outputs: int) -> None:
        self.branches.append(branch)
        self.outputs += outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Table2(nn.Module):
    """Table 2 with batch normalisation: [N, 3, rows, columns] in [-1, 1] -> [N, 128] of norm 1."""

    def __init__(self, table: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        rows = list(table.values())
        layers: list[nn.Module] = [convolution(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
        first = Inception(64, rows[0])
        layers += [first, nn.MaxPool2d(3, 2, 1)]
        channels = first.outputs
        for row in rows[1:]:
            layers.append(module := Inception(channels, row))
            channels = module.outputs
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 128))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.body(pixels))


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, rows, columns] -> [-1, 1], channels last."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
