"""Find the best small network for handwritten digits: the example to read first.

    make demo                          # or: python examples/digits.py
    raysweep run examples/digits.py    # the same sweep, without the report at its end

scikit-learn brings 1,797 real images of 8 x 8 pixels along. One rule: trials learn from the first
part of them and are compared on the second; the third part, the test images, is opened once, by
`main`, when the best trial is known.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import raysweep as rs

EPOCHS = 20  # of a trial that nobody stops
HELD_OUT = 360  # images for validation, and as many for the test: a fifth of all each
CHART = Path("demo-output/learning-curves.png")
LOG_WIDTH = 160  # columns of the table when no terminal shows it


# --- What a trial does: data, network, training -------------------------------------------------


def digits(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One part of the data, "train", "validation" or "test": the same split each time.

    Returns:
        Images of shape (n, 1, 8, 8) between 0 and 1, and labels of shape (n,) from 0 to 9.
    """
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    seen, test = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        seen, test_size=HELD_OUT, stratify=labels[seen], random_state=0
    )
    rows = {"train": train, "validation": validation, "test": test}[part]
    return images[rows], labels[rows]


def build(width: int, dropout: float) -> nn.Module:
    """Three convolutions and a linear layer: images (n, 1, 8, 8) to scores (n, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * 4 * 4, 10),
    )  # fmt: skip


def train(trial: rs.Trial) -> None:
    """Train one network with the trial's values: the function that raysweep runs, once a trial."""
    torch.set_num_threads(1)  # a trial has one CPU: see `resources` below
    torch.manual_seed(trial.seed)
    images, labels = map(torch.tensor, trial.shared["train"])
    new_images, new_labels = map(torch.tensor, trial.shared["validation"])

    network = build(trial.params["width"], trial.params["dropout"])
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=trial.params["lr"], weight_decay=trial.params["weight_decay"]
    )
    done = 0
    if (saved := trial.checkpoint()) is not None:  # an earlier attempt lost its machine: go on
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["epoch"]

    for epoch in range(done + 1, EPOCHS + 1):
        torch.manual_seed(trial.seed + epoch)  # so that an epoch is the same in every attempt
        optimizer.param_groups[0]["lr"] = trial.params["lr"] * cooling(epoch)
        train_epoch(network, optimizer, images, labels, trial.params["batch_size"])
        accuracy, loss = evaluate(network, new_images, new_labels)
        trial.report(
            accuracy=accuracy,
            loss=loss,
            step=epoch,
            checkpoint={
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch,
            },
        )


def cooling(epoch: int) -> float:
    """What is left of the learning rate: half a cosine from 1 at the first epoch towards 0."""
    return (1 + math.cos(math.pi * (epoch - 1) / EPOCHS)) / 2


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
) -> None:
    """Show the network every image once, jittered and in random order."""
    network.train()
    for batch in torch.split(torch.randperm(len(images)), batch_size):
        loss = nn.functional.cross_entropy(network(jittered(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimizer.step()


def jittered(images: Tensor) -> Tensor:
    """Each image moved, turned, sheared and scaled a little, as if written once more."""
    change = torch.eye(2, 3) + 0.1 * torch.randn(len(images), 2, 3)
    grid = nn.functional.affine_grid(change, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """The share of images that the network names rightly, and its mean cross-entropy."""
    network.eval()
    scores = network(images)
    accuracy = (scores.argmax(dim=1) == labels).double().mean()
    return accuracy.item(), nn.functional.cross_entropy(scores, labels).item()


# --- The sweep ----------------------------------------------------------------------------------

sweep = rs.Sweep(
    train,
    space={
        "lr": rs.loguniform(1e-4, 1e-1),
        "width": rs.choice([8, 16, 32]),
        "dropout": rs.uniform(0.0, 0.6),
        "weight_decay": rs.loguniform(1e-5, 1e-1),
        "batch_size": rs.choice([32, 64, 128]),
    },
    objective=rs.maximize("accuracy"),
    sampler=rs.Random(seed=7),
    policy=rs.Bandit(slack_factor=0.025, evaluation_interval=1, delay_evaluation=3),
    limits=rs.Limits(max_total_trials=32, max_concurrent_trials=2),
    resources=rs.Resources(cpus=1),
    shared={"train": digits("train"), "validation": digits("validation")},
)


# --- The report ---------------------------------------------------------------------------------


def main() -> None:
    """Run the sweep; then, once, open the test images, and tell what came of it all."""
    result = sweep.run()
    best = result.best
    network = build(best.params["width"], best.params["dropout"])
    network.load_state_dict(best.checkpoint()["network"])
    images, labels = map(torch.tensor, digits("test"))
    test_accuracy, _ = evaluate(network, images, labels)

    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH, markup=False)
    console.print(table_of_trials(result))
    ran, whole = epochs(result)
    print(f"{whole - ran} of {whole} epochs saved, {1 - ran / whole:.0%}, by stopping early")
    print(f"best: trial {best.number}, {described(best)}")
    print(f"  validation accuracy {best.metrics['accuracy']:.4f}, by which it was chosen")
    print(f"  test accuracy       {test_accuracy:.4f}, on {len(labels)} images that no trial saw")
    draw(result, test_accuracy, CHART)
    print(f"learning curves: {CHART}")
    print("the best checkpoint, in Python:")
    print(f'  import raysweep as rs; tree = rs.load_checkpoint("{best.checkpoint_path}")')


def epochs(result: rs.Result) -> tuple[int, int]:
    """The epochs that the trials ran, and those of running them all to the end."""
    return sum(trial.intervals for trial in result.trials), EPOCHS * len(result.trials)


def described(trial: rs.TrialResult) -> str:
    """A trial's values in a line: "lr 0.0075, width 32"."""
    return ", ".join(f"{name} {short(value)}" for name, value in trial.params.items())


def short(value: float) -> str:
    """A value to two digits; whole numbers as they are."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def table_of_trials(result: rs.Result) -> Table:
    """A row a trial: its values, its best accuracy, how far it came, and why it ended there."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("trial", *result.best.params, "accuracy", "epochs"):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why")
    for trial in result.trials:
        table.add_row(
            str(trial.number),
            *(short(value) for value in trial.params.values()),
            "" if trial.best is None else f"{trial.best:.4f}",
            str(trial.intervals),
            trial.state,
            trial.reason or trial.error,
            style="bold" if trial.number == result.best.number else None,
        )
    return table


def draw(result: rs.Result, test_accuracy: float, path: Path) -> None:
    """Save a chart of the learning curves: which trials were stopped where, and which one won."""
    best = result.best
    figure = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for trial in result.trials:
        color = "tab:blue" if trial.state == "completed" else "0.8"
        steps = range(1, len(trial.curve) + 1)
        axes.plot(steps, trial.curve, color=color, linewidth=1)
        if trial.state == "stopped":
            axes.plot(steps[-1], trial.curve[-1], "x", color="0.4", markersize=5)
    axes.plot(
        range(1, len(best.curve) + 1), best.curve, color="tab:red", linewidth=3, zorder=3,
        label=f"best: trial {best.number} ({described(best)})",
    )  # fmt: skip
    stretch(axes)
    states = [trial.state for trial in result.trials]
    axes.plot([], [], color="tab:blue", label=f"{states.count('completed')} ran to the end")
    axes.plot([], [], "-x", color="0.6", label=f"{states.count('stopped')} stopped, at their x")
    axes.legend(loc="lower right")
    ran, whole = epochs(result)
    axes.set_title(
        f"{len(states)} trials in {ran} of {whole} epochs: {1 - ran / whole:.0%} saved\n"
        f"validation accuracy {best.metrics['accuracy']:.4f}, test accuracy {test_accuracy:.4f}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def stretch(axes: Axes) -> None:
    """Give the accuracies near 1, where the trials differ, most of the chart's height."""
    axes.set(xlabel="epoch", ylabel="validation accuracy (stretched towards 1)", xlim=(1, EPOCHS))
    axes.set_yscale(
        "function", functions=(lambda y: -np.log(1.005 - y), lambda y: 1.005 - np.exp(-y))
    )
    axes.set_ylim(0.5, 1.001)  # room for a line at 1
    axes.set_yticks([0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 1])
    axes.set_xticks([1, *range(5, EPOCHS + 1, 5)])
    axes.grid(color="0.92")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # how to take the sweep up again has been said
        sys.exit(130)
