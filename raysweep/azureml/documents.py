"""A job's document: plain values, and where in which file each of them stands.

One rule: whoever judges a value holds its `Place`, and only a place makes a problem or a notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from raysweep.errors import Problem

Steps: TypeAlias = tuple[str | int, ...]  # keys and indexes from the top: ("limits", "timeout")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place in a file, both counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """What a file, a mapping or an object says, with the places of its values."""

    value: Any
    file: str = ""  # as messages name it; "": no file
    folder: Path  # against which its relative paths are resolved
    keys: Mapping[Steps, Mark] = field(default_factory=dict)  # where the key of a value begins
    values: Mapping[Steps, Mark] = field(default_factory=dict)  # where a value begins
    settings: Mapping[Steps, str] = field(default_factory=dict)  # what was set over it, and how
    notices: tuple[str, ...] = ()

    @property
    def top(self) -> Place:
        """The document as a whole."""
        return Place(document=self)

    def setting(self, steps: Steps) -> str | None:
        """The setting that a value came with, if any: `--set limits.timeout`."""
        for length in range(len(steps), 0, -1):
            if (found := self.settings.get(steps[:length])) is not None:
                return found
        return None


@dataclass(frozen=True, kw_only=True)
class Place:
    """A value's place in its document."""

    document: Document
    steps: Steps = ()

    def at(self, step: str | int) -> Place:
        """The place of a key or of an index inside."""
        return Place(document=self.document, steps=(*self.steps, step))

    @property
    def path(self) -> str:
        """As a user reads it: `search_space.lr.values[2]`."""
        shown = ""
        for step in self.steps:
            shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
        return shown

    @property
    def folder(self) -> Path:
        """Against which a relative path here is resolved; the current directory for a setting."""
        return Path.cwd() if self.document.setting(self.steps) else self.document.folder

    def problem(self, message: str, *, key: bool = False) -> Problem:
        """What is wrong here; `key` points at the key and not at its value."""
        if (setting := self.document.setting(self.steps)) is not None:
            return Problem(message=message, path=self.path, file=setting)
        mark = self._mark(key=key)
        return Problem(
            message=message,
            path=self.path,
            file=self.document.file,
            line=None if mark is None else mark.line,
            column=None if mark is None else mark.column,
        )

    def notice(self, message: str) -> str:
        """What is to be said about this: `sweep.yml:3:1: limits: what is to be said`."""
        return str(self.problem(message))

    def _mark(self, *, key: bool) -> Mark | None:
        """The nearest mark: of what is not there, the mapping that should hold it."""
        if key and (mark := self.document.keys.get(self.steps)) is not None:
            return mark
        ways = (self.steps[:length] for length in range(len(self.steps), -1, -1))
        marks = (self.document.values.get(way) for way in ways)
        return next((mark for mark in marks if mark is not None), None)
