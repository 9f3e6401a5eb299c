"""The text of a command: its references checked, its optional fragments rendered or dropped.

One rule: what comes out refers only to what is there.

`$[[--depth ${{inputs.depth}}]]` is an optional fragment, as in Azure ML's command components: it
stands if everything that it refers to is there, and goes otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from raysweep.azureml.documents import Place
from raysweep.azureml.refusals import refuse
from raysweep.core import checks
from raysweep.core.command import ROOTS, Reference, references_in
from raysweep.errors import JobFileError, Problem

_FRAGMENT = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)

Names = Mapping[str, Collection[str]]  # root -> what is defined there


def with_double_braces(notices: list[str], text: str, place: Place) -> str:
    """The text with `{inputs.data}`, the old way to refer to it, as `${{inputs.data}}`."""
    mapped = text
    for root in ("inputs", "outputs", "search_space"):
        single = re.compile(r"(?<!\{)\{" + root + r"\.([^}]*)\}(?!\})")
        mapped = single.sub(lambda found, root=root: f"${{{{{root}.{found[1]}}}}}", mapped)  # type: ignore[misc]
    if mapped != text:
        notices.append(place.notice("uses {...} for references, read as ${{...}}"))
    return mapped


def rendered(text: str, names: Names, place: Place) -> str:
    """The text with its optional fragments resolved and its references checked.

    Raises:
        JobFileError: it refers to what is not there.
    """
    text = _FRAGMENT.sub(lambda found: found[1] if _all_there(found[1], names) else "", text)
    problems: list[Problem] = []
    for reference in references_in(text):
        if not _is_there(reference, names):
            problems += _missing(reference, names, place).problems
    if problems:
        raise JobFileError(problems)
    return text


def redirected(text: str, root_of: Callable[[Reference], str]) -> str:
    """The text with each reference under the root that `root_of` says."""
    for reference in reversed(list(references_in(text))):
        written = f"${{{{{root_of(reference)}.{reference.name}}}}}"
        text = text[: reference.start] + written + text[reference.end :]
    return text


def _all_there(fragment: str, names: Names) -> bool:
    return all(_is_there(reference, names) for reference in references_in(fragment))


def _is_there(reference: Reference, names: Names) -> bool:
    return reference.name in names.get(reference.root, ())


def _missing(reference: Reference, names: Names, place: Place) -> JobFileError:
    known = [f"{root}.{name}" for root in ROOTS for name in names.get(root, ())]
    others = [root for root in ROOTS if reference.name in names.get(root, ())]
    near = f"; did you mean '{others[0]}.{reference.name}'?" if others else ""
    near = near or checks.did_you_mean(str(reference), known)
    found = f"refers to ${{{{{reference}}}}}, which is not defined"
    return refuse("reference", place, found, near=near)
