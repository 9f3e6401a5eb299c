"""What a process that only ever learns more does about Python's search for garbage.

One rule: what has lived through a collection is not looked at again. Python looks through all that lives
each time a good deal more has come; in a sweep of a million trials that would stop the controller for
whole seconds, to find nothing.
"""

from __future__ import annotations

import gc

EVERY = 1.0  # seconds; what came in between is little, and is looked through in a millisecond


def settle() -> None:
    """Collect what garbage there is, and take what is left for lasting.

    What lasts is still freed when nothing refers to it any more; only a cycle of objects that becomes
    garbage later than this stays.
    """
    gc.collect()
    gc.freeze()
