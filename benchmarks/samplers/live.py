"""Models that are really trained, on data that scikit-learn brings along; most spaces are conditional.

One rule: a reading is one of three splits of the data, the truth is their mean; each takes less than a
second of one core, and its time is that which it took.

    python live.py [NAME ...]    finds the references again and writes them: five minutes for all
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from references import Reference, read_references, search, written
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from tasks import Params, Reading, Task

import raysweep as rs

REFERENCES = Path(__file__).parent / "data" / "live" / "references.json"
SPLITS = 3
HELD_OUT = 0.25  # share of the data that a model is measured on
CNN_EPOCHS = 5
PIXEL = 16  # the brightest
WORST = 2.0  # a loss beyond says no more
Array = npt.NDArray[np.float64]

SVM = {"kind": "svm", "C": rs.loguniform(1e-3, 1e3), "gamma": rs.loguniform(1e-5, 1e1)}
TREES = {
    "kind": "trees",
    "max_features": rs.uniform(0.05, 1.0),
    "min_samples_leaf": rs.qloguniform(1, 64, 1),
    "max_depth": rs.quniform(1.5, 16.5, 1),
}
BOOSTING = {
    "kind": "boosting",
    "learning_rate": rs.loguniform(1e-3, 1.0),
    "max_leaf_nodes": rs.qloguniform(2, 32, 1),
    "l2": rs.loguniform(1e-6, 1e2),
    "rounds": rs.qloguniform(4, 64, 1),
}
NEIGHBOURS = {
    "kind": "neighbours",
    "count": rs.qloguniform(1, 64, 1),
    "weights": rs.choice(["uniform", "distance"]),
    "power": rs.uniform(1.0, 3.0),
}
PERCEPTRON = {
    "kind": "perceptron",
    "width": rs.qloguniform(4, 64, 1),
    "learning_rate": rs.loguniform(1e-4, 1e-1),
    "alpha": rs.loguniform(1e-6, 1e1),
    "activation": rs.choice(["relu", "tanh"]),
}
LINEAR = {"kind": "linear", "strength": rs.loguniform(1e-4, 1e4)}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Data, what is tried on it, and how it is measured."""

    data: Callable[..., Any]
    options: tuple[Mapping[str, Any], ...]
    loss: Callable[[Any, Array, Array], float]  # (model, inputs, targets); lower is better
    regression: bool = False


def _error(model: Any, inputs: Array, targets: Array) -> float:  # noqa: ANN401  (an estimator)
    return float(np.mean(model.predict(inputs) != targets))


def _lost_area(model: Any, inputs: Array, targets: Array) -> float:  # noqa: ANN401  (as above)
    """What is missing of the area under the receiver's curve."""
    if hasattr(model, "decision_function"):
        return 1.0 - float(roc_auc_score(targets, model.decision_function(inputs)))
    return 1.0 - float(roc_auc_score(targets, model.predict_proba(inputs)[:, 1]))


def _log_loss(model: Any, inputs: Array, targets: Array) -> float:  # noqa: ANN401  (as above)
    return min(float(log_loss(targets, model.predict_proba(inputs))), WORST)


def _unexplained(model: Any, inputs: Array, targets: Array) -> float:  # noqa: ANN401  (as above)
    """The share of the variance."""
    return min(1.0 - float(r2_score(targets, model.predict(inputs))), WORST)


SUBJECTS = {
    "live/digits": Subject(
        data=load_digits, options=(SVM, TREES, NEIGHBOURS, PERCEPTRON), loss=_error
    ),
    "live/breast_cancer": Subject(
        data=load_breast_cancer, options=(SVM, BOOSTING, LINEAR, NEIGHBOURS), loss=_lost_area
    ),
    "live/wine": Subject(
        data=load_wine, options=(TREES, PERCEPTRON, LINEAR, NEIGHBOURS), loss=_log_loss
    ),
    "live/diabetes": Subject(
        data=load_diabetes,
        options=(SVM, TREES, BOOSTING, NEIGHBOURS),
        loss=_unexplained,
        regression=True,
    ),
}
CNN = "live/digits_cnn"


def names() -> list[str]:
    """Every task."""
    return [*SUBJECTS, CNN]


@cache
def load(name: str) -> Task:
    """A task."""
    known = read_references(REFERENCES)[name]
    for split in range(SPLITS):  # the first trial would pay for imports and for what is cached
        measured(name, space(name).from_unit([0.5] * len(space(name).dimensions)), split)

    def read(params: Params, random: np.random.Generator) -> Reading:
        began = time.process_time()
        value = measured(name, params, int(random.integers(SPLITS)))
        return Reading(value=value, seconds=time.process_time() - began)

    return Task(
        name=name,
        family="live",
        space=space(name),
        read=read,
        truth=lambda params: truth(name, params),
        best=known.best,
        usual=known.usual,
    )


def space(name: str) -> rs.Space:
    """A task's space: which model, and what only that one has."""
    if name != CNN:
        return rs.Space({"model": rs.choice([dict(option) for option in SUBJECTS[name].options])})
    return rs.Space(
        {
            "optimizer": rs.choice(
                [{"kind": "adam"}, {"kind": "sgd", "momentum": rs.uniform(0.0, 0.99)}]
            ),
            "learning_rate": rs.loguniform(1e-4, 1.0),
            "batch": rs.qloguniform(32, 256, 1),
            "width": rs.qloguniform(2, 16, 1),
            "dropout": rs.uniform(0.0, 0.8),
        }
    )


def truth(name: str, params: Params) -> float:
    """What parameters are worth: the mean over all splits."""
    return _truth(name, json.dumps(params))


@lru_cache(maxsize=10_000)
def _truth(name: str, params: str) -> float:
    read = json.loads(params)
    return float(np.mean([measured(name, read, split) for split in range(SPLITS)]))


def measured(name: str, params: Params, split: int) -> float:
    """What a trial with this split finds."""
    if name == CNN:
        return [*cnn_errors(params, split)][-1]
    subject = SUBJECTS[name]
    inputs, held_out, targets, answers = _split(name, split)
    model = _model(params["model"], split, regression=subject.regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the budget is part of the task
        model.fit(inputs, targets)
    return subject.loss(model, held_out, answers)


@cache
def _split(name: str, split: int) -> Any:  # noqa: ANN401  (scikit-learn ships no types)
    """Inputs to learn from and to be measured on, then their targets."""
    inputs, targets = SUBJECTS[name].data(return_X_y=True)
    return train_test_split(
        inputs,
        targets,
        test_size=HELD_OUT,
        random_state=split,
        stratify=None if SUBJECTS[name].regression else targets,
    )


def _model(params: Params, seed: int, *, regression: bool) -> Any:  # noqa: ANN401  (as above)
    given = {key: value for key, value in params.items() if key != "kind"}
    match params["kind"]:
        case "svm":
            made = SVR(C=given["C"] * 10, gamma=given["gamma"]) if regression else SVC(**given)
        case "trees":
            kind = ExtraTreesRegressor if regression else ExtraTreesClassifier
            made = kind(n_estimators=40, random_state=seed, **given)
        case "boosting":
            boosting = (
                HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
            )
            made = boosting(
                learning_rate=given["learning_rate"],
                max_leaf_nodes=given["max_leaf_nodes"],
                l2_regularization=given["l2"],
                max_iter=given["rounds"],
                early_stopping=False,
                random_state=seed,
            )
        case "neighbours":
            neighbours = KNeighborsRegressor if regression else KNeighborsClassifier
            made = neighbours(
                n_neighbors=given["count"], weights=given["weights"], p=given["power"]
            )
        case "perceptron":
            made = MLPClassifier(
                hidden_layer_sizes=(given["width"],),
                learning_rate_init=given["learning_rate"],
                alpha=given["alpha"],
                activation=given["activation"],
                max_iter=20,
                random_state=seed,
            )
        case _:
            strength = given["strength"]
            made = Ridge(alpha=1 / strength) if regression else LogisticRegression(C=strength)
    return make_pipeline(StandardScaler(), made)


def cnn_errors(params: Params, split: int) -> Iterator[float]:
    """A small network's error on the held-out digits after each epoch."""
    import torch  # noqa: PLC0415  (two seconds, for one task)
    from torch import nn  # noqa: PLC0415

    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(split)
    torch.manual_seed(split)
    images, held_out, labels, answers = _images(split)
    width = int(params["width"])
    network = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(params["dropout"]), nn.Linear(32 * width, 10),
    )  # fmt: skip
    optimizer = _optimizer(params, network)
    for _ in range(CNN_EPOCHS):
        network.train()
        for batch in torch.randperm(len(images), generator=random).split(int(params["batch"])):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            yield float((network(held_out).argmax(1) != answers).float().mean())


def _optimizer(params: Params, network: Any) -> Any:  # noqa: ANN401  (torch's)
    import torch  # noqa: PLC0415  (as above)

    chosen, rate = params["optimizer"], params["learning_rate"]
    if chosen["kind"] == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=chosen["momentum"])


@cache
def _images(split: int) -> tuple[Any, ...]:
    """Digits of shape (n, 1, 8, 8) to learn from and to be measured on, then their labels."""
    import torch  # noqa: PLC0415  (as above)

    inputs, held_out, targets, answers = _split("live/digits", split)
    shaped = [
        torch.tensor(each / PIXEL, dtype=torch.float32).reshape(-1, 1, 8, 8)
        for each in (inputs, held_out)
    ]
    return *shaped, torch.tensor(targets), torch.tensor(answers)


def reference(name: str) -> Reference:
    """The least and the median loss, as far as a search of 112 configurations can tell."""
    return search(
        space(name),
        lambda found: np.array([truth(name, each) for each in found]),
        points=64,
        around=2,
        kept=3,
    )


def main() -> None:
    """Find the references of the tasks that are named, or of all, and write them."""
    known = read_references(REFERENCES) if REFERENCES.exists() else {}
    for name in sys.argv[1:] or names():
        known[name] = reference(name)
        print(name, known[name], flush=True)
        written(REFERENCES, {each: known[each] for each in names() if each in known})


if __name__ == "__main__":
    main()
