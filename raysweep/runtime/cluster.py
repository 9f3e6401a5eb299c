"""The Ray cluster as a sweep sees it: whether there is room for its trials, and where."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.errors import ResourcesError, StorageUnusableError
from raysweep.storage.bucket import Bucket
from raysweep.storage.folder import SweepFolder
from raysweep.storage.mirror import is_bucket

MOST_SLOTS = 1_000  # that one controller serves
NOTICE = 30.0  # seconds that a node has which is to go at a time that nobody has said
PROBE = 60.0  # seconds that a node has to answer whether it reaches the storage


def nodes() -> list[dict[str, Any]]:
    """The nodes that are alive, as Ray describes them."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray gives it no types
    return [node for node in found if node["Alive"]]


def draining() -> dict[str, float]:
    """The nodes that are to be taken away, and when: node id -> seconds since 1970."""
    found: dict[str, int] = ray._private.state.state.get_draining_nodes()  # noqa: SLF001  (Ray has no public way to ask)
    soon = time.time() + NOTICE
    return {node: at / 1000 if at else soon for node, at in found.items()}


def room(demand: Mapping[str, float]) -> int:
    """How many slots there may be: as the nodes have room for, if nothing else ran on them."""
    if not demand or node_types():
        return MOST_SLOTS  # they take no room, or the autoscaler makes it
    leaving = draining()
    return sum(
        _fits(node["Resources"], demand) for node in nodes() if node["NodeID"] not in leaving
    )


def cores() -> int:
    """How many cores the nodes have: as they say, and this machine no more than it has, whatever they say."""
    if node_types():
        return MOST_SLOTS  # nobody knows yet which nodes will come
    here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray gives it no types
    own = os.cpu_count() or 1
    said: Counter[str] = Counter()
    for node in nodes():
        said[node["NodeManagerAddress"]] += int(node["Resources"].get("CPU", own))
    said[here] = min(said[here], own)
    return max(1, said.total())


def require(demand: Mapping[str, float]) -> None:
    """Refuse resources that nothing in this cluster can ever offer.

    Raises:
        ResourcesError: with what was asked for and what there is.
    """
    offers = [node["Resources"] for node in nodes()] + node_types()
    if any(_fits(offer, demand) for offer in offers) or not demand:
        return
    largest: Mapping[str, float] = max(
        offers, key=lambda offer: sum(_shared(offer, demand)), default={}
    )
    raise ResourcesError(
        f"a trial asks for {_shown(demand)}, but no node of this cluster, and no node type of its"
        f" autoscaler, offers that; the nearest of {len(offers)} offers"
        f" {_shown({name: largest.get(name, 0) for name in demand})}:"
        f" ask for less with resources=..., --cpus or --gpus, or add such a node"
    )


def unused(demand: Mapping[str, float]) -> str:
    """A line for who may have forgotten that there are GPUs; "" if they are used, or there are none."""
    gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes())
    if "GPU" in demand or not gpus:
        return ""
    return f"the cluster has {gpus:g} GPUs, and a trial asks for none: --gpus 1 gives it one"


def node_types() -> list[dict[str, float]]:
    """What the node types that the cluster's autoscaler may start offer."""
    config = ray._private.state.state.get_cluster_config()  # noqa: SLF001  (Ray has no public way to ask)
    if config is None:
        return []
    return [
        dict(group.resources)
        for group in config.node_group_configs
        if group.max_count != 0 and group.resources
    ]


def require_shared(folder: SweepFolder) -> None:
    """Refuse a storage that not every node of the cluster reaches.

    This process writes a file, or an object, with a random content; a task on each node reads it.

    Raises:
        StorageUnusableError: with the nodes that do not see it.
    """
    alive = nodes()
    if len(alive) <= 1:
        return
    nonce = secrets.token_hex(16)
    probe = f"{folder.storage}/.probe-{nonce[:8]}"
    with _left(probe, nonce):
        blind = [node["NodeManagerHostname"] for node in alive if not _reads(node, probe, nonce)]
    if blind:
        raise StorageUnusableError(
            f"storage {folder.storage} is not reached by {len(blind)} of {len(alive)} nodes"
            f" ({', '.join(blind)}); choose one that all nodes reach, with storage=..."
        )


def alike_everywhere(paths: Sequence[Path]) -> set[Path]:
    """Those of the paths at which every node of the cluster has the same as this machine.

    A node that the autoscaler has not started yet is taken for one like those that there are; where
    there is none but this, nothing is known of it.
    """
    alive = nodes() if ray.is_initialized() else []
    if len(alive) <= 1:
        return set() if alive and node_types() else set(paths)
    names = [str(path) for path in paths]
    asked = [_on(node, ray.remote(_looks)).remote(names) for node in alive]
    try:
        answers = ray.get(asked, timeout=PROBE)
    except (ray.exceptions.RayError, TimeoutError):
        return set()
    here = _looks(names)
    return {path for at, path in enumerate(paths) if all(a[at] == here[at] for a in answers)}


def _looks(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """How each path looks: its size and time, of a folder how many entries; None where it is not."""
    found: list[tuple[int, int] | None] = []
    for path in map(Path, paths):
        try:
            stat = path.stat()
            size = len([*path.iterdir()]) if path.is_dir() else stat.st_size
        except OSError:
            found.append(None)
        else:
            found.append((size, int(stat.st_mtime)))
    return found


def _on(node: Mapping[str, Any], task: Any) -> Any:  # noqa: ANN401  (Ray's own)
    """A task that runs on this node, and takes nothing of it."""
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return task.options(num_cpus=0, scheduling_strategy=there)


@contextlib.contextmanager
def _left(place: str, content: str) -> Iterator[None]:
    """Leave something in a storage for a while."""
    storage, _, key = place.rpartition("/")
    bucket = Bucket(storage) if is_bucket(place) else None
    if bucket is None:
        Path(place).write_text(content)
    else:
        bucket.write(key, content.encode())
    try:
        yield
    finally:
        if bucket is None:
            Path(place).unlink()
        else:
            bucket.remove([key])


def _reads(node: Mapping[str, Any], probe: str, nonce: str) -> bool:
    read = _on(node, ray.remote(_content)).remote(probe)
    try:
        return bool(ray.get(read, timeout=PROBE) == nonce)
    except (ray.exceptions.RayError, TimeoutError):
        return False


def _content(path: str) -> str | None:
    storage, _, key = path.rpartition("/")
    try:
        if is_bucket(path):
            return (Bucket(storage).read(key) or b"").decode()
        return Path(path).read_text()
    except (OSError, StorageUnusableError):
        return None


def _fits(offer: Mapping[str, float], demand: Mapping[str, float]) -> int:
    """How many such demands fit into an offer."""
    return min(int(offer.get(name, 0.0) / amount + 1e-9) for name, amount in demand.items())


def _shared(offer: Mapping[str, float], demand: Mapping[str, float]) -> list[float]:
    """The share of each part of a demand that an offer covers."""
    return [min(1.0, offer.get(name, 0.0) / amount) for name, amount in demand.items()]


def _shown(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"
