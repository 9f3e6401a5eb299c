"""Which sampler suits which space and budget."""

from __future__ import annotations

import pytest

from raysweep.core.samplers import Auto, Bayesian, Grid, Random, Sampler, Tpe, settled
from raysweep.core.samplers.auto import chosen
from raysweep.core.space import Space, choice, randint, uniform

NUMBERS = Space({"lr": uniform(0, 1), "act": choice(["relu", "tanh"])})
FEW = Space({"a": randint(4), "b": choice([1, 2, 3])})
CONDITIONAL = Space({"model": choice(["linear", {"depth": randint(8)}]), "lr": uniform(0, 1)})
LABELS = Space({f"op{i}": choice(list("abcdefghijkl")) for i in range(5)})
WIDE = Space({f"x{i}": uniform(0, 1) for i in range(60)})


@pytest.mark.parametrize(
    ("space", "trials", "sampler", "why"),
    [
        (
            NUMBERS,
            100,
            Bayesian(seed=3),
            "it needs the fewest trials for numbers and a few options",
        ),
        (NUMBERS, None, Bayesian(seed=3), "it needs the fewest trials"),
        (NUMBERS, 5_000, Tpe(seed=3), "it stays fast over 5,000 trials"),
        (FEW, 12, Grid(), "all 12 combinations fit in 12 trials"),
        (FEW, 11, Bayesian(seed=3), "it needs the fewest trials"),
        (FEW, None, Bayesian(seed=3), "it needs the fewest trials"),
        (CONDITIONAL, 100, Tpe(seed=3), "conditional parameters only where they are there"),
        (LABELS, 100, Tpe(seed=3), "the choices have 60 options together"),
        (WIDE, 100, Tpe(seed=3), "it stays fast over 60 parameters"),
    ],
)
def test_the_choice_follows_from_the_space_and_the_budget(
    space: Space, trials: int | None, sampler: Sampler, why: str
) -> None:
    """Each rule chooses its sampler, hands it the seed, and says why."""
    found, reason = chosen(space, trials, 3)
    assert sampler == found
    assert reason.startswith(f"sampler auto is {sampler.kind}: ")
    assert why in reason


def test_a_sweep_runs_with_what_was_chosen() -> None:
    """In place of `Auto` stands the sampler it chose, and a line that says so."""
    sampler, notices = settled(Auto(seed=5), FEW, 50)
    assert Grid() == sampler
    assert notices == ("sampler auto is grid: all 12 combinations fit in 50 trials",)


def test_any_other_sampler_is_itself() -> None:
    """Who asked for a sampler gets it, and nothing is said."""
    assert (Random(seed=1), ()) == settled(Random(seed=1), FEW, 50)


def test_auto_proposes_what_its_choice_does() -> None:
    """Asked itself, it is the sampler that suits the space."""
    for space, sampler in ((NUMBERS, Bayesian()), (CONDITIONAL, Tpe())):
        assert sampler.propose(space, (), 3, 7) == Auto().propose(space, (), 3, 7)
        assert sampler.size(space) == Auto().size(space)
