"""What is to be run: which contenders on which tasks, with how many workers, trials and seeds.

One rule: all contenders of a plan have the same seeds, so that what is compared is paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BUDGETS = (20, 50, 100, 200, 500)  # trials after which a run is looked at

# Whose asks take so long that the whole grid would take days: fewer workers, fewer trials.
SLOW = {"optuna-gp": (100, (1, 16))}  # most trials, numbers of workers
CHEAP = {"random", "random-x2", "sobol"}  # many runs of theirs make one job


@dataclass(frozen=True, order=True, kw_only=True)
class Job:
    """Runs that are made together: one for each seed."""

    task: str
    contender: str
    workers: int
    budget: int
    seeds: tuple[int, ...]


def jobs(
    tasks: Sequence[str],
    contenders: Sequence[str],
    workers: Sequence[int],
    budget: int,
    seeds: Sequence[int],
) -> Iterator[Job]:
    """All that is asked for, less what would take too long, seed by seed: any prefix is fair."""
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


def _blocks(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (seeds[at : at + size] for at in range(0, len(seeds), size))
