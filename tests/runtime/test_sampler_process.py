"""A sampler in a process of its own: what it is told, what it answers, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sweeps import PATIENCE, alive

from raysweep.core.samplers import Bayesian, Observation
from raysweep.core.space import Space, uniform
from raysweep.core.spec import Limits, SweepSpec, maximize
from raysweep.runtime.proposals import Answer, answer
from raysweep.runtime.sampler_process import SamplerProcess, parts

SPEC = SweepSpec(
    name="t",
    space=Space({"x": uniform(0, 1), "y": uniform(0, 1)}),
    objective=maximize("score"),
    sampler=Bayesian(),
    seed=3,
    limits=Limits(timeout=60),
)

SCRIPT = """
import os, sys
sys.path[:0] = [{folder!r}]
from test_sampler_process import SPEC, SamplerProcess
sampler = SamplerProcess(SPEC)
sampler.propose(range(1), [])
print(sampler._process.pid, flush=True)
sys.stdin.read()
"""


def known(count: int, *, running: int = 0) -> list[Observation]:
    """So many trials with a value, the last of which still run."""
    return [
        Observation(
            trial=n,
            params={"x": (n * 0.37) % 1, "y": (n * 0.61) % 1},
            score=(n * 0.37) % 1,
            pending=n >= count - running,
            curve=((n * 0.37) % 1,),
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def sampler() -> Iterator[SamplerProcess]:
    """A process that samples, for one test after the other: what it knows then is told each time."""
    made = SamplerProcess(SPEC)
    yield made
    made.close()


def pid(sampler: SamplerProcess) -> int:
    """Of the process."""
    assert sampler._process is not None
    return sampler._process.pid


def gone(process: int) -> bool:
    """Whether a process has ended, once it has had time to."""
    deadline = time.monotonic() + PATIENCE
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(process)


def test_it_answers_as_the_sampler_does_here(sampler: SamplerProcess) -> None:
    """Again and again, with more known each time, and what runs known better."""
    for count in (0, 3, 12):
        seen = known(count, running=2)
        expected = answer(SPEC, seen, range(count, count + 2))
        assert expected == sampler.propose(range(count, count + 2), seen)


def test_what_is_known_already_is_not_told_again(
    sampler: SamplerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten trials and one that is new, one is sent."""
    seen = known(10)
    sampler.propose(range(10, 11), seen)
    told: list[int] = []

    def counted(observations: Iterator[Observation]) -> Iterator[list[Observation]]:
        for part in parts(observations):
            told.extend(each.trial for each in part)
            yield part

    monkeypatch.setattr("raysweep.runtime.sampler_process.parts", counted)
    seen = [*seen, *known(11)[10:]]
    assert answer(SPEC, seen, range(11, 12)) == sampler.propose(range(11, 12), seen)
    assert [10] == told


def test_a_trial_that_is_proposed_anew_is_left_out_once(sampler: SamplerProcess) -> None:
    """What the process was told of it is not used for it, and is used for the next."""
    seen = known(12, running=1)
    sampler.propose(range(12, 13), seen)
    others = seen[:11]
    assert answer(SPEC, others, range(11, 12)) == sampler.propose(range(11, 12), others)
    assert answer(SPEC, seen, range(12, 13)) == sampler.propose(range(12, 13), seen)


def test_a_process_that_was_killed_is_replaced(sampler: SamplerProcess) -> None:
    """The next is told all that the first knew."""
    seen = known(12)
    sampler.propose(range(12, 13), seen)
    before = pid(sampler)
    os.kill(before, signal.SIGKILL)
    assert answer(SPEC, seen, range(12, 13)) == sampler.propose(range(12, 13), seen)
    assert before != pid(sampler)


def test_an_interrupt_of_its_controller_is_not_its_own(sampler: SamplerProcess) -> None:
    """It leads a group, in its controller's session: one of its own is a scheduler's class by itself."""
    sampler.propose(range(1), [])
    assert os.getpgid(pid(sampler)) == pid(sampler)
    assert os.getsid(pid(sampler)) == os.getsid(0)


def test_one_that_dies_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says how it ended."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    expected = Answer(error="the sampler's process ended twice: exit code 1")
    assert expected == SamplerProcess(SPEC).propose(range(1), [])


@pytest.mark.parametrize("taken", ["queue", "scipy"])
def test_what_lies_where_it_was_started_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    """Somebody's `queue.py` in the working directory is not Python's, nor `scipy.py` SciPy."""
    (tmp_path / f"{taken}.py").write_text("raise SystemExit('not meant')")
    monkeypatch.chdir(tmp_path)
    sampler = SamplerProcess(SPEC)
    try:
        assert answer(SPEC, [], range(1)) == sampler.propose(range(1), [])
    finally:
        sampler.close()


def test_what_a_sampler_raises_is_told(sampler: SamplerProcess) -> None:
    """As Python shows it, with where; the process lives on."""
    alien = Observation(trial=0, params={"z": 0.5}, score=1.0)
    told = sampler.propose(range(9, 10), [alien, *known(9)[1:]])
    expected = answer(SPEC, [alien, *known(9)[1:]], range(9, 10))
    assert (expected.error, True) == (told.error, "Traceback" in told.trace)
    assert expected.error
    assert answer(SPEC, known(9), range(9, 10)) == sampler.propose(range(9, 10), known(9))


def test_closing_ends_it() -> None:
    """In good order, and for good; a second time is nothing."""
    sampler = SamplerProcess(SPEC)
    sampler.propose(range(1), [])
    process = pid(sampler)
    assert "exit code 0" == sampler.close()
    assert gone(process)
    assert "" == sampler.close()
    assert sampler.propose(range(1), []).error
    assert sampler._process is None


def test_closing_ends_one_that_does_not_answer() -> None:
    """Whoever waits for the answer is told so."""
    sampler = SamplerProcess(SPEC)
    sampler.propose(range(0), [])
    process = pid(sampler)
    os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(sampler.propose, range(1), [])
        while not (sampler._busy.locked() or asked.done()):
            time.sleep(0.01)
        sampler.close()
        assert asked.result().error
    assert gone(process)


def test_it_dies_with_whoever_asked_it() -> None:
    """However suddenly that one goes."""
    script = SCRIPT.format(folder=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asker:
        assert asker.stdout is not None
        process = int(asker.stdout.readline())
        assert alive(process)
        asker.kill()
    assert gone(process)
