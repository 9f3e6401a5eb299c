"""A sampler of Optuna's, described: its name and its options.

One rule: a description knows nothing of Optuna. Who asks for trials has it proposed to by
`raysweep.runtime.optuna_study`, and refuses there what only Optuna knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from raysweep.core import checks
from raysweep.core.samplers.sampler import Observation, check_seed
from raysweep.core.space import Space, Value
from raysweep.errors import SpecError


@dataclass(frozen=True)
class Optuna:
    """A sampler of Optuna's, by the name of its class: `rs.Optuna("CmaEsSampler")`.

    Trials that run, that were stopped by a policy and that failed are told to it as such. It keeps
    its state in the process that samples: a sweep that is taken up again goes on from what is known, with
    other random numbers. `pip install 'raysweep[optuna]'` brings Optuna along.

    Attributes:
        sampler: of `optuna.samplers`.
        options: its keyword arguments, as far as they are plain data; `seed` is given beside them.
        seed: as for every sampler; None: the sweep draws one.
    """

    kind: ClassVar[str] = "optuna"
    learns: ClassVar[bool] = True

    sampler: str = "TPESampler"
    _: KW_ONLY
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not checks.text("optuna sampler", self.sampler).isidentifier():
            raise SpecError(
                "optuna sampler must be the name of a class in optuna.samplers, such as"
                f" TPESampler, but got {self.sampler!r}"
            )
        object.__setattr__(self, "options", _plain(self.options))
        check_seed(self.seed)

    def check(self, space: Space) -> None:
        """Whether the space will do, Optuna says; see `raysweep.runtime.proposals.check`."""

    def size(self, space: Space) -> None:  # noqa: ARG002  (the protocol's signature)
        """Where an end is, only a sampler of Optuna's that goes through a space finds out."""
        return

    def propose(
        self, space: Space, known: Sequence[Observation], trial: int, seed: int
    ) -> dict[str, Value] | None:
        """Refused: a description has no state to propose from."""
        del space, known, trial, seed
        raise SpecError(
            f"optuna's {self.sampler} keeps its state from trial to trial, so it is asked through"
            " a sweep or rs.Optimizer, not by propose()"
        )


def _plain(options: object) -> dict[str, Any]:
    """The options as plain data of their own."""
    given = dict(checks.mapping("optuna options", options))
    if "seed" in given:
        raise SpecError(
            f"optuna options must not hold seed, but got {given['seed']!r};"
            " give it beside them: rs.Optuna(..., seed=7)"
        )
    checks.storable("optuna options", given)
    try:
        plain: dict[str, Any] = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"optuna options must be numbers, strings, booleans, None, lists and mappings, but"
            f" got {checks.described(given)}: {error}"
        ) from error
    return plain
