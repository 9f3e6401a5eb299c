r"""A command's text with a trial's values in it: for bash to run, and for people to read.

One rule: a value is never part of what bash parses. Where the text says `${{search_space.lr}}` bash
gets the name of an environment variable that holds the value, quoted as the place asks for, so
that one reference is one word whatever is in it, and none where the value is empty. Where bash
would calculate with the value it has to be a number; where bash expands nothing (a quoted
here-document) it has to stay on its line.

>>> command = Rendered.of("python a.py --lr ${{search_space.lr}} '${{inputs.who}}'",
...                       {"search_space.lr": 0.1, "inputs.who": "$(id)"})
>>> command.script
'python a.py --lr ${AZUREML_SWEEP_lr:+"$AZUREML_SWEEP_lr"} \'\'"${AZURE_ML_INPUT_who}"\'\''
>>> command.variables
{'AZUREML_SWEEP_lr': '0.1', 'AZURE_ML_INPUT_who': '$(id)'}
>>> command.shown
"python a.py --lr 0.1 '$(id)'"
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from raysweep.core.command import Command, Reference, references_in
from raysweep.core.events import Params
from raysweep.errors import CommandError

PREFIXES = {
    "search_space": "AZUREML_SWEEP_",
    "inputs": "AZURE_ML_INPUT_",
    "outputs": "AZURE_ML_OUTPUT_",
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
COMPARISON = r"-(?:eq|ne|lt|le|gt|ge)"  # operators that calculate inside [[ ]]
BEFORE_COMPARISON = re.compile(rf"[\"']?\s+{COMPARISON}\s")
AFTER_COMPARISON = re.compile(rf"\s{COMPARISON}\s+[\"']?$")


class Place(Enum):
    """How bash reads the place at which a reference stands."""

    PLAIN = auto()
    DOUBLE = auto()  # "..."
    SINGLE = auto()  # '...'
    ANSI = auto()  # $'...'
    ARITHMETIC = auto()  # $((...)), ((...))
    HERE = auto()  # a here-document in which variables are expanded
    HERE_QUOTED = auto()  # one in which nothing is
    COMMENT = auto()


@dataclass(frozen=True)
class Rendered:
    """A command with one trial's values."""

    script: str  # for bash -c
    variables: dict[str, str]  # that the script asks for
    shown: str  # the same command with the values written out

    @classmethod
    def of(cls, text: str, values: Mapping[str, object]) -> Self:
        """Put values into a command's text.

        Args:
            text: the command with its references.
            values: `search_space.lr` -> its value; every reference needs one.

        Raises:
            CommandError: a value cannot stand where it is asked for.
        """
        script, shown, variables = [], [], {}
        done = 0
        for reference, place in places_in(text):
            value = text_of(values[str(reference)])
            if "\0" in value:
                raise CommandError(f"the value of {reference} holds a NUL, which no command can")
            if _calculates(text, reference, place) and not NUMBER.fullmatch(value):
                raise CommandError(
                    f"{reference} must be a number where the shell calculates with it,"
                    f" but got {value!r}"
                )
            if place is Place.HERE_QUOTED and "\n" in value:
                raise CommandError(
                    f"{reference} must have no line break inside a quoted here-document,"
                    f" but got {value!r}; leave the quotes of its delimiter out"
                )
            name = variable(reference)
            variables[name] = value
            before = text[done : reference.start]
            script += [before, FOR_BASH[place](name, value)]
            shown += [before, FOR_PEOPLE[place](value)]
            done = reference.end
        return cls("".join([*script, text[done:]]), variables, "".join([*shown, text[done:]]))


def values_of(command: Command, params: Params, paths: Mapping[str, str]) -> dict[str, object]:
    """What each reference of a command stands for: `search_space.lr`, `inputs.x`, `outputs.m`."""
    drawn = {f"search_space.{name}": value for name, value in params.items()}
    given = {f"inputs.{name}": value for name, value in command.literals.items()}
    return {**drawn, **given, **paths}


def shown(command: Command, params: Params) -> str:
    """A trial's command for people to read: inputs as they were given, outputs as `./outputs`.

    Raises:
        CommandError: a value cannot stand where the command asks for it.
    """
    paths = {f"inputs.{name}": each.path for name, each in command.inputs.items()}
    paths |= {f"outputs.{name}": f"./outputs/{name}" for name in command.outputs}
    return Rendered.of(command.text, values_of(command, params, paths)).shown


def text_of(value: object) -> str:
    """A value as a command line shows it: lists and mappings as JSON, the rest as Python does."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def variable(reference: Reference) -> str:
    """The environment variable that holds a reference's value."""
    return PREFIXES[reference.root] + re.sub(r"\W", "_", reference.name, flags=re.ASCII)


def _calculates(text: str, reference: Reference, place: Place) -> bool:
    """Whether bash evaluates the value as a formula, which may hold commands."""
    if place is Place.ARITHMETIC:
        return True
    compared = (
        BEFORE_COMPARISON.match(text, reference.end) is not None
        or AFTER_COMPARISON.search(text, 0, reference.start) is not None
    )
    return compared and place in (Place.PLAIN, Place.DOUBLE)


FOR_BASH: Mapping[Place, Callable[[str, str], str]] = {
    Place.PLAIN: lambda name, _: f'${{{name}:+"${name}"}}',
    Place.DOUBLE: lambda name, _: f"${{{name}}}",
    Place.SINGLE: lambda name, _: f"'\"${{{name}}}\"'",
    Place.ANSI: lambda name, _: f"'\"${{{name}}}\"$'",
    Place.ARITHMETIC: lambda _, value: value,
    Place.HERE: lambda name, _: f"${{{name}}}",
    Place.HERE_QUOTED: lambda _, value: value,
    Place.COMMENT: lambda name, _: f"${{{name}}}",
}
"""What stands in a script, by place: made of the variable's name and its value."""

FOR_PEOPLE: Mapping[Place, Callable[[str], str]] = {
    Place.PLAIN: lambda value: shlex.quote(value) if value else "",
    Place.DOUBLE: lambda value: re.sub(r'([\\"$`])', r"\\\1", value),
    Place.SINGLE: lambda value: value.replace("'", "'\\''"),
    Place.ANSI: lambda value: re.sub(r"([\\'])", r"\\\1", value),
    Place.ARITHMETIC: str,
    Place.HERE: lambda value: re.sub(r"([\\$`])", r"\\\1", value),
    Place.HERE_QUOTED: str,
    Place.COMMENT: lambda value: value.replace("\n", " "),
}
"""What stands in a command that is shown."""


def places_in(text: str) -> list[tuple[Reference, Place]]:
    """Every reference of a command with how bash reads the place where it stands.

    >>> [place.name for _, place in places_in('a ${{inputs.x}} "$(b ${{inputs.x}})" "${{inputs.x}}"')]
    ['PLAIN', 'PLAIN', 'DOUBLE']
    """
    return _Scanner(text).places


@dataclass(slots=True)
class _Frame:
    """Something that has been opened and not yet closed."""

    place: Place
    closer: str  # what ends it
    depth: int = 0  # of parentheses inside of an arithmetic one


@dataclass(slots=True)
class _HereDocument:
    delimiter: str
    indented: bool  # <<- : the delimiter may stand behind tabs
    place: Place


# What opens something, by the text that opens it; the longer come first.
OPENERS: tuple[tuple[str, Place, str], ...] = (
    ("$((", Place.ARITHMETIC, "))"),
    ("$(", Place.PLAIN, ")"),
    ("`", Place.PLAIN, "`"),
)
QUOTES: tuple[tuple[str, Place, str], ...] = (
    ("$'", Place.ANSI, "'"),
    ("'", Place.SINGLE, "'"),
    ('"', Place.DOUBLE, '"'),
    ("((", Place.ARITHMETIC, "))"),
    ("(", Place.PLAIN, ")"),
)
HERE = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|(\\?)([^\s;&|<>()'\"]+))")


@dataclass(slots=True)
class _Scanner:
    """Walks over a command as bash's lexer does, as far as quoting goes."""

    text: str
    places: list[tuple[Reference, Place]] = field(default_factory=list)
    _at: int = 0
    _open: list[_Frame] = field(default_factory=lambda: [_Frame(Place.PLAIN, "")])
    _waiting: list[_HereDocument] = field(default_factory=list)
    _references: dict[int, Reference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._references = {reference.start: reference for reference in references_in(self.text)}
        while self._at < len(self.text):
            self._step()

    def _step(self) -> None:
        frame = self._open[-1]
        if self._took_reference(frame.place):
            return
        if frame.place is Place.SINGLE:
            self._until_closed(frame)
        elif self._sees("\\"):
            self._at += 1 if self._at + 1 in self._references else 2
        elif frame.closer and self._closes(frame):
            self._open.pop()
            self._at += len(frame.closer)
        elif not (frame.place is Place.PLAIN and self._took_plain()) and not self._opened(frame):
            self._at += 1

    def _sees(self, what: str) -> bool:
        return self.text.startswith(what, self._at)

    def _took_reference(self, place: Place) -> bool:
        reference = self._references.get(self._at)
        if reference is None:
            return False
        self.places.append((reference, place))
        self._at = reference.end
        return True

    def _until_closed(self, frame: _Frame) -> None:
        if self._sees(frame.closer):
            self._open.pop()
        self._at += 1

    def _closes(self, frame: _Frame) -> bool:
        """Whether the frame ends here; parentheses inside of a calculation are counted."""
        if frame.place is Place.ARITHMETIC:
            if self._sees("("):
                frame.depth += 1
            elif self._sees(")") and frame.depth:
                frame.depth -= 1
                return False
        return self._sees(frame.closer)

    def _opened(self, frame: _Frame) -> bool:
        """Open what begins here, if anything does."""
        if frame.place is Place.ANSI:
            return False
        if self._sees("${"):
            # Inside of an expansion bash reads on as around it.
            around = Place.DOUBLE if frame.place is Place.DOUBLE else Place.PLAIN
            return self._open_with("${", around, "}")
        openers = OPENERS if frame.place is Place.DOUBLE else (*OPENERS, *QUOTES)
        for opener, place, closer in openers:
            if self._sees(opener) and not (frame.place is Place.ARITHMETIC and opener[0] == "("):
                return self._open_with(opener, place, closer)
        return frame.place is Place.DOUBLE and frame.closer == "}" and self._inner_quote()

    def _inner_quote(self) -> bool:
        r"""A quote inside of `"${x:-"..."}"`."""
        return self._sees('"') and self._open_with('"', Place.DOUBLE, '"')

    def _open_with(self, opener: str, place: Place, closer: str) -> bool:
        self._open.append(_Frame(place, closer))
        self._at += len(opener)
        return True

    def _took_plain(self) -> bool:
        """Take what means something only outside of quotes."""
        if self._sees("#") and (self._at == 0 or self.text[self._at - 1] in " \t\n;&|()"):
            self._take_lines(self._line_end(), Place.COMMENT)
            return True
        if self._sees("\n"):
            self._at += 1
            while self._waiting:
                self._take_document(self._waiting.pop(0))
            return True
        if self._sees("<<<"):
            self._at += 3
            return True
        if self._sees("<<") and (found := HERE.match(self.text, self._at)):
            self._wait_for(found)
            return True
        return False

    def _wait_for(self, found: re.Match[str]) -> None:
        """A here-document begins with the next line."""
        dash, single, double, backslash, bare = found.groups()
        quoted = single if single is not None else double
        place = Place.HERE if quoted is None and not backslash else Place.HERE_QUOTED
        delimiter = bare if quoted is None else quoted
        self._waiting.append(_HereDocument(delimiter, indented=dash == "-", place=place))
        self._at = found.end()

    def _take_document(self, document: _HereDocument) -> None:
        """Take the lines of a here-document, its delimiter included."""
        while self._at < len(self.text):
            end = self._line_end()
            line = self.text[self._at : end]
            self._take_lines(min(end + 1, len(self.text)), document.place)
            if (line.lstrip("\t") if document.indented else line) == document.delimiter:
                return

    def _take_lines(self, end: int, place: Place) -> None:
        while self._at < end:
            if not self._took_reference(place):
                self._at += 1

    def _line_end(self) -> int:
        end = self.text.find("\n", self._at)
        return len(self.text) if end < 0 else end
