"""How bash reads each place of a command, as far as quoting goes.

One rule: it walks as bash's own lexer does: quotes, expansions, substitutions, calculations,
here-documents, comments. Where it cannot be sure a place counts as one of calculations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from raysweep.core.command import Reference, references_in


class Place(Enum):
    """How bash reads the place at which a reference stands."""

    PLAIN = auto()
    DOUBLE = auto()  # "..."
    SINGLE = auto()  # '...'
    ANSI = auto()  # $'...'
    ARITHMETIC = auto()  # $((...)), ((...)), $[...]
    EXPANSION = auto()  # ${...}
    HERE = auto()  # a here-document in which variables are expanded
    HERE_QUOTED = auto()  # one in which nothing is
    COMMENT = auto()


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a reference stands."""

    reference: Reference
    place: Place
    command: str  # the simple command that it is part of, up to it; of a document, its first line
    around: tuple[str, ...]  # the commands that this one is part of, by $(...) and the like


def stands_in(text: str) -> list[Stand]:
    """Every reference of a command with how bash reads the place where it stands.

    >>> found = stands_in('a; A=1 b ${{inputs.x}} "$(c "${{inputs.x}}")"')
    >>> [(stand.place.name, stand.command.strip()) for stand in found]
    [('PLAIN', 'A=1 b'), ('DOUBLE', 'c "')]
    """
    return _Scanner(text).stands


@dataclass(slots=True)
class _Frame:
    """Something that has been opened and not yet closed."""

    place: Place
    closer: str  # what ends it
    began: int = 0  # where the simple command begins that is being read in it
    depth: int = 0  # of parentheses inside of a calculation, of `case` inside of a command


@dataclass(slots=True)
class _HereDocument:
    delimiter: str
    indented: bool  # <<- : the delimiter may stand behind tabs
    place: Place
    line: str  # the line that it is part of, with what comes after it there


# What opens something, by the text that opens it; the longer come first.
OPENERS: tuple[tuple[str, Place, str], ...] = (
    ("$((", Place.ARITHMETIC, "))"),
    ("$(", Place.PLAIN, ")"),
    ("$[", Place.ARITHMETIC, "]"),
    ("${", Place.EXPANSION, "}"),
    ("`", Place.PLAIN, "`"),
)
QUOTES: tuple[tuple[str, Place, str], ...] = (
    ("$'", Place.ANSI, "'"),
    ("'", Place.SINGLE, "'"),
    ('"', Place.DOUBLE, '"'),
    ("((", Place.ARITHMETIC, "))"),
    ("(", Place.PLAIN, ")"),
)
TEST = re.compile(r"\s*\[\[\s(?!.*\s\]\])", re.DOTALL)
CASE = re.compile(r"\s*(case|esac)(?=[\s;)]|$)")
# Words after which a command begins; what stands before a command that is run some other way.
KEYWORD = re.compile(r"\s*(?:if|then|elif|else|while|until|do|time|!|\{)(?=\s)")
CALCULATES = (Place.ARITHMETIC, Place.EXPANSION)  # what opens inside of one is one, too
HERE = re.compile(r"<<(?P<dash>-?)[ \t]*(?P<end>(?:[^\s;&|<>()'\"\\]|\\.|'[^'\n]*'|\"[^\"\n]*\")+)")


COMMENTS = _HereDocument("", indented=False, place=Place.COMMENT, line="")


@dataclass(slots=True)
class _Scanner:
    """Walks over a command as bash's lexer does, as far as quoting goes."""

    text: str
    stands: list[Stand] = field(default_factory=list)
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
        if self._took_reference(self._place):
            return
        if frame.place is Place.SINGLE:
            self._until_closed(frame)
        elif self._sees("\\"):
            self._at += 1 if self._at + 1 in self._references else 2
        elif frame.closer and self._closes(frame):
            self._open.pop()
            self._at += len(frame.closer)
        elif not (frame.place is Place.PLAIN and self._took_plain(frame)) and not self._opened(
            frame
        ):
            self._at += 1

    @property
    def _place(self) -> Place:
        """How bash reads what stands here: inside of a calculation everything is part of it."""
        outer = next((each for each in self._open if each.place in CALCULATES), None)
        return outer.place if outer else self._open[-1].place

    def _sees(self, what: str) -> bool:
        return self.text.startswith(what, self._at)

    def _took_reference(self, place: Place, line: str | None = None) -> bool:
        reference = self._references.get(self._at)
        if reference is None:
            return False
        *around, command = self._commands
        stand = Stand(reference, place, command if line is None else line, tuple(around))
        self.stands.append(stand)
        self._at = reference.end
        return True

    @property
    def _command(self) -> str:
        """The simple command that is being read, as far as it has come; quotes are parts of one."""
        return self._commands[-1]

    @property
    def _commands(self) -> list[str]:
        """The commands that are being read, each within the one before it."""
        plain = [each for each in self._open if each.place is Place.PLAIN]
        return [self.text[each.began : self._at] for each in plain]

    def _until_closed(self, frame: _Frame) -> None:
        if self._sees(frame.closer):
            self._open.pop()
        self._at += 1

    def _closes(self, frame: _Frame) -> bool:
        """Whether the frame ends here; what is opened inside of it and means nothing is counted."""
        if frame.place is Place.ARITHMETIC:
            if self._sees("("):
                frame.depth += 1
            elif self._sees(")") and frame.depth:
                frame.depth -= 1
                return False
        elif frame.closer == ")" and frame.depth:  # a pattern of `case` ends with one, too
            return False
        return self._sees(frame.closer)

    def _opened(self, frame: _Frame) -> bool:
        """Open what begins here, if anything does."""
        if frame.place is Place.ANSI:
            return False
        openers = OPENERS if frame.place is Place.DOUBLE else (*OPENERS, *QUOTES)
        for opener, place, closer in openers:
            counted = frame.place in CALCULATES and opener[0] == "("
            subshells = (
                place is Place.ARITHMETIC and opener.endswith("((") and not self._calculates()
            )
            if self._sees(opener) and not counted and not subshells:
                self._at += len(opener)
                self._open.append(_Frame(place, closer, began=self._at))
                return True
        return False

    def _calculates(self) -> bool:
        """Whether the two parentheses that open here are closed together, as a formula's are."""
        depth, at = 0, self.text.find("((", self._at)
        for index in range(at, len(self.text)):
            depth += {"(": 1, ")": -1}.get(self.text[index], 0)
            if depth == 1 and index > at + 1:
                return self.text.startswith(")", index + 1)
        return True

    def _took_plain(self, frame: _Frame) -> bool:
        """Take what means something only outside of quotes."""
        first = not self.text[frame.began : self._at].strip()
        if first and (found := CASE.match(self.text, self._at)):
            frame.depth += 1 if found[1] == "case" else -min(1, frame.depth)
            self._at = found.end()
            return True
        if first and (found := KEYWORD.match(self.text, self._at)):
            self._at = frame.began = found.end()
            return True
        if self._sees("#") and (self._at == 0 or self.text[self._at - 1] in " \t\n;&|("):
            end = self.text.find("`", self._at) if frame.closer == "`" else -1
            self._take_lines(min(self._line_end(), end) if end >= 0 else self._line_end(), COMMENTS)
            return True
        return self._took_separator(frame) or self._took_document()

    def _took_separator(self, frame: _Frame) -> bool:
        """Take what ends a simple command."""
        if TEST.match(self._command) and self.text[self._at] in "\n;&|":
            return False  # not inside of [[ ]]
        if self._sees("\n"):
            self._at += 1
            while self._waiting:
                self._take_document(self._waiting.pop(0))
        elif self.text[self._at - 1 : self._at] in ("<", ">"):
            return False  # nor in >& and >|
        elif self.text[self._at] in ";&|)":
            self._at += 1
        else:
            return False
        frame.began = self._at
        return True

    def _took_document(self) -> bool:
        if self._sees("<<<"):
            self._at += 3
            return True
        if self._sees("<<") and (found := HERE.match(self.text, self._at)):
            self._wait_for(found)
            return True
        return False

    def _wait_for(self, found: re.Match[str]) -> None:
        """A here-document begins with the next line."""
        end = found["end"]
        place = Place.HERE_QUOTED if re.search(r"['\"\\]", end) else Place.HERE
        delimiter = re.sub(r"\\(.)|['\"]", r"\1", end)
        line = self._command + self.text[self._at : self._line_end()]
        self._waiting.append(_HereDocument(delimiter, found["dash"] == "-", place, line))
        self._at = found.end()

    def _take_document(self, document: _HereDocument) -> None:
        """Take the lines of a here-document, its delimiter included."""
        joined = False  # whether the line before goes on in this one
        while self._at < len(self.text):
            end = self._line_end()
            line = self.text[self._at : end]
            self._take_lines(min(end + 1, len(self.text)), document)
            bare = line.lstrip("\t") if document.indented else line
            if bare == document.delimiter and not joined:
                return
            slashes = len(line) - len(line.rstrip("\\"))
            joined = document.place is Place.HERE and slashes % 2 == 1

    def _take_lines(self, end: int, document: _HereDocument) -> None:
        while self._at < end:
            if not self._took_reference(document.place, document.line):
                self._at += 1

    def _line_end(self) -> int:
        end = self.text.find("\n", self._at)
        return len(self.text) if end < 0 else end
