"""scikit-learn's estimators in checkpoints, and what is not trusted."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raysweep.errors import CheckpointDamagedError, UnstorableError, UserError
from raysweep.storage import checkpoints
from raysweep.storage.checkpoints.leaf import Leaf
from raysweep.storage.checkpoints.writing import write

X = np.random.default_rng(0).normal(size=(50, 3))
Y = (X[:, 0] > 0).astype(int)


def test_a_pipeline_comes_back(tmp_path: Path) -> None:
    """It predicts what it did; its type is listed."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    checkpoints.save(tmp_path / "c.arrow", {"model": model, "epoch": 1})
    loaded = checkpoints.load(tmp_path / "c.arrow")["model"]
    assert model.predict_proba(X).tolist() == loaded.predict_proba(X).tolist()
    assert {"path": "model", "kind": "estimator", "dtype": "sklearn.pipeline.Pipeline"}.items() <= (
        checkpoints.leaves(tmp_path / "c.arrow").to_pylist()[0].items()
    )


def test_what_a_forged_file_could_misuse_is_loaded_only_if_named(tmp_path: Path) -> None:
    """Trees index memory by what is stored; their file must come from somebody who is trusted."""
    model = RandomForestClassifier(3, random_state=0).fit(X, Y)
    checkpoints.save(tmp_path / "c.arrow", {"model": model})
    with pytest.raises(
        UserError, match=r"c\.arrow holds model, which is .*trusted=\['sklearn.tree"
    ):
        checkpoints.load(tmp_path / "c.arrow")
    for trusted in (["sklearn.tree._tree.Tree"], None):
        loaded = checkpoints.load(tmp_path / "c.arrow", trusted=trusted)["model"]
        assert model.predict(X).tolist() == loaded.predict(X).tolist()


class Own(LogisticRegression):  # type: ignore[misc]  # sklearn has no types
    """An estimator of somebody's own."""


def test_an_estimator_of_ones_own_is_named(tmp_path: Path) -> None:
    """Its class would have to be imported, so the caller says that it may be."""
    checkpoints.save(tmp_path / "c.arrow", Own().fit(X, Y))
    with pytest.raises(UserError, match=r"test_checkpoint_estimators\.Own"):
        checkpoints.load(tmp_path / "c.arrow")


@pytest.mark.parametrize("told", [10_000_000, 10])
def test_an_archive_that_grows_is_refused(tmp_path: Path, told: int) -> None:
    """A small file cannot ask for a large memory, whatever it says of its size."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("schema.json", bytes(10_000_000))
    data = packed.getvalue().replace(struct.pack("<I", 10_000_000), struct.pack("<I", told))
    write(tmp_path / "c.arrow", [((), Leaf(kind="estimator", data=data))])
    with pytest.raises(CheckpointDamagedError, match="would take more memory than its size"):
        checkpoints.load(tmp_path / "c.arrow")


def test_what_is_no_estimator_is_not_taken_for_one(tmp_path: Path) -> None:
    """However harmless it is."""
    data = skops.io.dumps({"a": 1})
    write(tmp_path / "c.arrow", [((), Leaf(kind="estimator", dtype="sklearn.svm.SVC", data=data))])
    with pytest.raises(CheckpointDamagedError, match="is a dict and no estimator"):
        checkpoints.load(tmp_path / "c.arrow")


def test_without_skops_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When saving as when loading."""
    checkpoints.save(tmp_path / "c.arrow", {"model": LogisticRegression()})
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(UnstorableError, match=r"^model is .*pip install 'raysweep\[sklearn\]'"):
        checkpoints.save(tmp_path / "d.arrow", {"model": LogisticRegression()})
    with pytest.raises(
        UserError, match=r"c\.arrow holds model, which .*pip install 'raysweep\[sklearn\]'"
    ):
        checkpoints.load(tmp_path / "c.arrow")
