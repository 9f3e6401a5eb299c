"""A real trial of about two seconds: a small CNN learns scikit-learn's digits, an epoch a report.

One rule: one thread, the same code and the same number of epochs on every side. It writes down when its
code began, when its last training step ended, and what CPU time lay between, reports left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from notes import Notes
from sklearn.datasets import load_digits
from torch import Tensor, nn

HELD_OUT = 360  # images that accuracy is measured on: a fifth
BATCH = 64
EPOCHS_TIMED = 4  # to know how long one takes

Report = Callable[[dict[str, float]], None]


def data() -> tuple[Tensor, Tensor]:
    """1,797 images of 8 x 8 pixels between 0 and 1, shape (n, 1, 8, 8), and their labels."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images, torch.tensor(labels)


def network() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip


def train(epochs: int, rate: float, report: Report, notes: Notes) -> None:
    """One trial."""
    began, cpu = time.monotonic(), time.thread_time()
    reporting, last = 0.0, began
    torch.set_num_threads(1)
    images, labels = data()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for epoch in range(1, epochs + 1):
        train_epoch(model, optimizer, images[HELD_OUT:], labels[HELD_OUT:])
        correct = accuracy(model, images[:HELD_OUT], labels[:HELD_OUT])
        last, before = time.monotonic(), time.thread_time()
        report({"accuracy": correct, "score": float(epoch)})
        reporting += time.thread_time() - before
    notes.trained(began, last, time.thread_time() - cpu - reporting)


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Show the network every image once, in random order."""
    model.train()
    for batch in torch.split(torch.randperm(len(images)), BATCH):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the network names rightly."""
    model.eval()
    right = model(images).argmax(dim=1) == labels
    return float(right.double().mean())


def seconds_an_epoch() -> float:
    """What an epoch takes here: the median of a few, the first left out."""
    torch.set_num_threads(1)
    images, labels = data()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    took = []
    for _ in range(EPOCHS_TIMED + 1):
        began = time.perf_counter()
        train_epoch(model, optimizer, images[HELD_OUT:], labels[HELD_OUT:])
        accuracy(model, images[:HELD_OUT], labels[:HELD_OUT])
        took.append(time.perf_counter() - began)
    return float(np.median(took[1:]))
