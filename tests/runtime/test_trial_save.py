"""Checkpoints that belong to the report before them, and reports that cannot be sent."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raysweep.core.events import AttemptId
from raysweep.errors import MetricError, Stopped
from raysweep.runtime.messages import Message, Order
from raysweep.runtime.trial import Trial, run


class Listener:
    """The other end of a trial's channel, which takes messages up to a size."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.told: list[Message] = []  # that the trial has not heard yet

    def send(self, message: Message) -> None:
        """Take a message, unless it is too large."""
        if message[0] == "report" and len(message[1]) > 8 * 10:
            raise MetricError("too large")
        self.heard.append(message)

    def receive(self, *, wait: bool) -> Message | None:
        """What the trial is told."""
        del wait
        return self.told.pop(0) if self.told else None

    def fileno(self) -> int:
        """There is no file."""
        return -1


@pytest.fixture
def listener() -> Listener:
    """What hears the trial."""
    return Listener()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """What a trial is told to do."""
    return Order(id=AttemptId(0, 1), params={}, seed=1, folder=str(tmp_path))


@pytest.fixture
def trial(order: Order, listener: Listener) -> Iterator[Trial]:
    """A trial without a slot."""
    trial = Trial(order, listener)
    yield trial
    trial.finish()


def test_a_report_that_was_not_sent_has_no_number(trial: Trial, listener: Listener) -> None:
    """The checkpoint of the second report that arrives is the second's, not the third's."""
    trial.report(score=1)
    with pytest.raises(MetricError, match="too large"):
        trial.report({f"m{number}": 1.0 for number in range(20)})
    trial.report(score=2, checkpoint={"a": 1})
    trial.settle()
    assert ["report", "report", "saved"] == [
        message[0] for message in listener.heard if message[0] != "metrics"
    ]
    assert 2 == listener.heard[-1][1]


def report_often(trial: Trial, name: str) -> None:
    """Report a metric that is named by a letter, with the letter's number."""
    for _ in range(5_000):
        trial.report({name: ord(name)})


def test_threads_that_report_at_once_do_not_mix_their_metrics(
    trial: Trial, listener: Listener
) -> None:
    """Each number goes under the name that it was reported with."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            for name in ("a", "b"):
                threads.submit(report_often, trial, name)
    finally:
        sys.setswitchinterval(before)
    name, heard = "", Counter[tuple[str, float]]()
    for message in listener.heard:
        if message[0] == "metrics":
            (name,) = message[1]
        else:
            heard[name, struct.unpack("=2d", message[1])[1]] += 1
    assert heard == {("a", 97.0): 5_000, ("b", 98.0): 5_000}


def test_a_checkpoint_may_follow_its_report(trial: Trial, listener: Listener) -> None:
    """Once, and not before there is one."""
    with pytest.raises(MetricError, match="needs a report before it"):
        trial.save({"a": 1})
    trial.report(score=1)
    trial.save({"a": 1})
    trial.settle()
    assert ["saved", 1] == listener.heard[-1][:2]
    with pytest.raises(MetricError, match="has no checkpoint yet"):
        trial.save({"a": 2})
    trial.report(score=2, checkpoint={"a": 2})
    with pytest.raises(MetricError, match="has no checkpoint yet"):
        trial.save({"a": 3})


def test_a_checkpoint_is_wanted_when_the_machine_goes(trial: Trial, listener: Listener) -> None:
    """The trial goes on until it saves one, and ends with it."""
    trial.report(score=1)
    assert not trial.checkpoint_wanted
    listener.told.append(["leave"])
    trial.report(score=2)
    assert trial.checkpoint_wanted
    with pytest.raises(Stopped, match="its machine is taken away"):
        trial.report(score=3, checkpoint={"a": 1})
    trial.settle()
    assert ["report", "report", "report", "saved"] == [
        message[0] for message in listener.heard if message[0] != "metrics"
    ]


@pytest.mark.parametrize(("saves", "ending"), [(True, "lost"), (False, "returned")])
def test_a_trial_that_left_is_lost_and_no_failure(
    listener: Listener, order: Order, ending: str, *, saves: bool
) -> None:
    """One that came to its end before it saved is complete."""

    def train(trial: Trial) -> None:
        listener.told.append(["leave"])
        trial.report(score=1, checkpoint={"a": 1} if saves else None)

    run(train, order, listener)
    assert ["end", ending] == listener.heard[-1][:2]
