"""What the tests share: how Hypothesis searches, one Ray, and one S3 server.

One rule: a test that asks for `local_ray` is marked `ray`, so `pytest -m "not ray"` is the quick half.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

# "ci" is what runs unless another is asked for: the same examples every time, so that a verdict
# belongs to the commit and not to the day, and no deadline, since a shared machine has slow moments.
settings.register_profile("ci", derandomize=True, deadline=None)
# "search" looks for new examples: pytest --hypothesis-profile=search
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile("ci")


def pytest_configure() -> None:
    """Let Ctrl-C be heard by what tests start, also where a shell runs `make test &` and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for `local_ray`, itself or through another fixture."""
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """A Ray of the tests' own, with four logical CPUs and no dashboard; yields its address."""
    import ray

    # Ray puts sockets beneath this folder, and a socket's path may have no more than 107 bytes.
    folder = tempfile.mkdtemp(prefix="rs", dir="/tmp")
    ray.init(
        address="local",  # never a cluster that happens to run on this machine
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        namespace="raysweep",
        _temp_dir=folder,
    )
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """An S3 server's endpoint; each test has a folder of its bucket for itself."""
    from s3_server import s3_server

    with s3_server() as endpoint:
        yield endpoint
