"""scikit-learn's estimators as leaves, by skops, which reads them back without pickle.

One rule: skops makes nothing but types that it knows to be harmless, and those that the caller names.
"""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Collection
from typing import Any

from raysweep.errors import UserError
from raysweep.storage.checkpoints.extras import library
from raysweep.storage.checkpoints.leaf import Leaf


def leaf_of(estimator: object) -> Leaf:
    """An estimator, or a pipeline of some, as a leaf."""
    cls = type(estimator)
    try:
        data = _skops().dumps(estimator)
    except UserError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # whatever its own and foreign parts raise
        raise ValueError(f"skops cannot store: {error}") from error
    return Leaf(kind="estimator", dtype=f"{cls.__module__}.{cls.__qualname__}", data=data)


def estimator_of(leaf: Leaf, trusted: Collection[str] | None = ()) -> object:
    """The estimator of a leaf.

    Args:
        leaf: of this kind.
        trusted: names of types that it may hold beyond those that skops trusts; None: any.

    Raises:
        UserError: it holds others, or skops is not installed.
    """
    skops = _skops()
    data = bytes(leaf.flat())
    try:
        _check_size(data)
        untrusted = sorted(skops.get_untrusted_types(data=data))
    except Exception as error:  # skops raises anything
        raise ValueError(f"skops cannot read it: {error}") from error
    if trusted is not None and (unknown := sorted(set(untrusted).difference(trusted))):
        raise UserError(
            f"is a {leaf.dtype} that holds {', '.join(unknown)}, which a forged file could use to"
            f" crash this process: if you know who wrote it, load it with trusted={unknown!r}"
        )
    try:
        made = skops.loads(data, trusted=untrusted)
    except (
        Exception
    ) as error:  # the types that it makes may be of another version: they raise anything
        raise UserError(f"is a {leaf.dtype} that cannot be made here: {error}") from error
    if not isinstance(made, importlib.import_module("sklearn.base").BaseEstimator):
        raise TypeError(f"is a {type(made).__name__} and no estimator")
    return made


def _check_size(data: bytes) -> None:
    """Refuse an archive that would unpack to more than itself; ours are not compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    stored = all(
        entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        for entry in entries
    )
    if not stored or sum(entry.file_size for entry in entries) > len(data):
        raise ValueError("it would take more memory than its size")


def _skops() -> Any:  # noqa: ANN401  (a module)
    return library("skops.io", "sklearn", "needs skops, which cannot be imported here")
