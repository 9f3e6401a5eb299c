"""The command line: `raysweep run FILE` and what one asks about a sweep before and after.

One rule: a command parses, calls the rooms below, and prints; stdout holds results only. Rooms:
`group` (the commands' names, exit codes), `checking`, `running`, `showing`, `keeping`,
`checkpoints` and `benching` (the commands), `files` (a sweep out of a Python file), `story`, `doctor` (what is told),
`pages`, `documents` (how).
"""

from __future__ import annotations

from raysweep.cli.group import cli, main

__all__ = ["cli", "main"]
