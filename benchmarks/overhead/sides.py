"""The two sides of a comparison: how each is run, and how much of it.

One rule: every setting of Ray Tune's that is not its default has its name here, and is written down with
the results.
"""

from __future__ import annotations

from typing import Any

from record import QUICK
from rows import TUNE
from runs import Run

LOGGERS_OFF = (("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),)
SNAPSHOTS_RARE = (("TUNE_GLOBAL_CHECKPOINT_S", "100"),)
BUFFERED = (("TUNE_RESULT_BUFFER_LENGTH", "1000"),)
REUSE = f"{TUNE}, reuse_actors=True"
REUSE_OFF = f"{REUSE}, no loggers"
DEFAULT = f"{TUNE}, default: an actor a trial"
SETTINGS = {  # how Tune is run, as it is written down with the results
    "all": "Tuner(function); TuneConfig(max_concurrent_trials=slots, metric, mode); RunConfig(storage_path, "
    "name, verbose=0, one callback that notes the time of the first start and of each end); one CPU a trial",
    DEFAULT: "reuse_actors=False; default loggers: CSV, JSON, TensorBoardX",
    REUSE: "reuse_actors=True; default loggers",
    REUSE_OFF: "reuse_actors=True; TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1",
    "bookkeeping": "as Ray's test_bookkeeping_overhead: reuse_actors=True, TUNE_GLOBAL_CHECKPOINT_S=100, "
    "default loggers",
    "result throughput": "as Ray's test_result_throughput_*: reuse_actors=True, "
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1, TUNE_RESULT_BUFFER_LENGTH=1000. In Ray 2.60 the buffer's arguments "
    "are swapped between controller and trainable: a call gathers as many results as a tenth of the running "
    "trials, and none below ten trials, whatever the length",
    "durable": "as Ray's test_durable_trainable: reuse_actors=True, CheckpointConfig(num_to_keep=4), default "
    "loggers; storage_path on the local disk instead of S3, and Tune does not sync it",
}


def sized(full: int, quick: int) -> int:
    """A size of the long run, or of the short one."""
    return quick if QUICK else full


SLOTS = sized(16, 4)


def ours(**options: Any) -> Run:  # noqa: ANN401  (a run's fields)
    """A run of raysweep's."""
    return Run(**{"side": "raysweep", "work": "report", "slots": SLOTS, **options})


def theirs(**options: Any) -> Run:  # noqa: ANN401  (a run's fields)
    """A run of Tune's."""
    return Run(**{"side": "tune", "work": "report", "slots": SLOTS, **options})
