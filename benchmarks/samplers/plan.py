"""What is to be run: which contenders on which tasks, with how many workers, trials and seeds.

One rule: all contenders of a plan have the same seeds, so that what is compared is paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BUDGETS = (20, 50, 100, 200, 500)  # trials after which a run is looked at

# Whose asks take so long that the whole grid would take days: fewer workers, fewer trials.
SLOW = {"optuna-gp": (100, (1, 16))}  # most trials, numbers of workers
LEARNING_SEEDS = 3  # of a sampler that learns, under each policy; its sweeps take seconds each
CHEAP = {"random", "random-x2", "sobol"}  # many runs of theirs make one job


@dataclass(frozen=True, order=True, kw_only=True)
class Job:
    """Runs that are made together: one for each seed."""

    task: str
    contender: str
    workers: int
    budget: int  # trials
    seeds: tuple[int, ...]
    policy: str = ""  # of early termination; none: whole trials, on a clock of the benchmark's own


def races(
    tasks: Sequence[str],
    contenders: Sequence[str],
    workers: Sequence[int],
    budget: int,
    seeds: Sequence[int],
) -> Iterator[Job]:
    """Whole trials, less what would take too long; seed by seed, so that any prefix is fair."""
    for block in _blocks(seeds, 5):
        for at_once in workers:
            for contender in contenders:
                most, allowed = SLOW.get(contender, (budget, workers))
                if at_once not in allowed:
                    continue
                for task in tasks:
                    for few in _blocks(block, 5 if contender in CHEAP else 1):
                        yield Job(
                            task=task,
                            contender=contender,
                            workers=at_once,
                            budget=min(budget, most),
                            seeds=tuple(few),
                        )


def sweeps(
    tasks: Sequence[str],
    contenders: Sequence[str],
    *,
    policies: Sequence[str],
    workers: Sequence[int],
    trials: int,
    seeds: Sequence[int],
) -> Iterator[Job]:
    """Trials that a policy may end early, in the same order; few seeds for what takes long."""
    blocks = [seeds[:LEARNING_SEEDS], *_blocks(seeds[LEARNING_SEEDS:], 5)]
    for at, block in enumerate(blocks):
        for at_once in workers:
            for contender in contenders:
                if contender not in CHEAP and at > 0:
                    continue
                for policy in policies:
                    for task in tasks:
                        yield Job(
                            task=task,
                            contender=contender,
                            policy=policy,
                            workers=at_once,
                            budget=trials,
                            seeds=tuple(block),
                        )


def _blocks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (seeds[at : at + size] for at in range(0, len(seeds), size))
