r"""A command's text with a trial's values in it: for bash to run, and for people to read.

One rule: a value that bash could read as anything but text is never part of what bash parses.

- A value of harmless characters (`0.001`, `adam`, `./data`) is written out, as Azure shows it.
- Any other is handed over in an environment variable, of which the text gets the name, quoted as the
  place asks for: one reference is one word whatever is in it, and none where the value is empty.
- Where bash would read a variable's value once more, as a formula, a name or a script, such a
  value is refused. So it is wherever that cannot be told for sure.

>>> command = Rendered.of("python a.py --lr ${{search_space.lr}} '${{inputs.who}}'",
...                       {"search_space.lr": 0.1, "inputs.who": "$(id)"})
>>> command.script
'python a.py --lr 0.1 \'\'"${RAYSWEEP_VALUE_inputs_who}"\'\''
>>> command.variables
{'RAYSWEEP_VALUE_inputs_who': '$(id)'}
>>> command.shown
"python a.py --lr 0.1 '$(id)'"
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from raysweep.core.command import Command, Reference, references_in
from raysweep.core.events import Params
from raysweep.errors import CommandError
from raysweep.runtime.command.quoting import CALCULATES, HERE, Place, places_in

# Under these prefixes Azure hands the values out, by the kind of reference.
PREFIXES = {
    "search_space": "AZUREML_SWEEP_",
    "inputs": "AZURE_ML_INPUT_",
    "outputs": "AZURE_ML_OUTPUT_",
}
VALUE = "RAYSWEEP_VALUE_"  # under this one a script gets those that it refers to
HARMLESS = re.compile(r"[\w.,:/=+@%-]*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

# What reads a word of its command once more: as a formula, a name, a script.
READS_AGAIN = re.compile(
    r"(?<![\w./-])(?:eval|let|declare|typeset|local|readonly|trap|source|read|mapfile|readarray|unset"
    r"|printf\s+-v|wait\s+-\w*p|coproc|test|\[\[?|ssh|xargs|parallel|watch|su|env\s+-S"
    r"|(?:ba|da|z|k|a)?sh\s(?:[^;&|\n]*\s)?-\w*c)(?![\w./-])"
)
INTO_A_SHELL = re.compile(r"\|&?\s*(?:\S*/)?(?:ba|da|z|k|a)?sh(?![\w.-])")
SHELL = re.compile(r"(?<![\w.-])(?:ba|da|z|k|a)?sh(?![\w.-])")
DEFAULT = re.compile(r"\$\{\w+:?[-=+?][\w.,:/=+@%-]*$")  # ${x:-...}: text, and no formula
EXPANDS = re.compile(r"[`]|\$[({\[]")


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
            before = text[done : reference.start]
            if _is_plain(value, text, reference, place):
                script += [before, value]
                shown += [before, value]
            else:
                _refuse_unsure(value, text, reference, place)
                name = VALUE + re.sub(r"\W", "_", str(reference), flags=re.ASCII)
                variables[name] = value
                before = _unescaped(before, place)
                script += [before, FOR_BASH[place](name)]
                quoted = FOR_PEOPLE[place](value)
                twice = text.count("`", 0, reference.start) % 2  # bash reads what it encloses twice
                shown += [before, FOR_BASH[place](name) if twice else quoted]
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
    paths = {f"inputs.{name}": each.shown for name, each in command.inputs.items()}
    paths |= {f"outputs.{name}": f"./outputs/{name}" for name in command.outputs}
    return Rendered.of(command.text, values_of(command, params, paths)).shown


def text_of(value: object) -> str:
    """A value as a command line shows it: lists and mappings as JSON, the rest as Python does."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


# Whether a value may stand somewhere


def _is_plain(value: str, text: str, reference: Reference, place: Place) -> bool:
    """Whether a value may be written out: it means the same to bash wherever it stands."""
    before = text[: reference.start]
    if place in CALCULATES and not DEFAULT.search(before):
        return NUMBER.fullmatch(value) is not None
    name_goes_on = re.search(r"\$\w*$", before) is not None
    return HARMLESS.fullmatch(value) is not None and not name_goes_on and _keeps_open(value, text)


def _keeps_open(value: str, text: str) -> bool:
    """Whether a value cannot be taken for the end of a here-document."""
    ends = (found["end"] for found in HERE.finditer(text))
    return not any(value and value in end for end in ends)


def _refuse_unsure(value: str, text: str, reference: Reference, place: Place) -> None:
    """Refuse a value that bash might read once more."""
    why = "no command can hold a NUL" if "\0" in value else _read_again(text, reference, place)
    if why:
        raise CommandError(
            f"{reference} is {value!r}, which cannot stand where the command refers to it: {why};"
            f" hand it over as an argument of its own, or read it from the environment"
        )


def _read_again(text: str, reference: Reference, place: Place) -> str:
    """Why bash, or what it starts, could read a value as more than text there; "" if it does not."""
    if place in CALCULATES:
        return "the shell calculates there, so it has to be a number"
    if place is Place.HERE_QUOTED:
        return "a quoted here-document takes letters, digits and .,:/=+@%_- only"
    if place is Place.HERE:
        return _read_in_document(text, reference)
    return "" if place is Place.COMMENT else _read_in_command(text, reference)


def _read_in_document(text: str, reference: Reference) -> str:
    opened, _, before = text[: reference.start].rpartition("<<")
    body = before + _without_references(text[reference.end :])
    if SHELL.search(opened.rpartition("\n")[2]) or EXPANDS.search(_without_references(body)):
        return "the here-document is a script, or has expansions of its own"
    return ""


def _read_in_command(text: str, reference: Reference) -> str:
    before = text[: reference.start]
    line = before.replace("\\\n", "  ").rpartition("\n")[2]
    if READS_AGAIN.search(line) or INTO_A_SHELL.search(text):
        return "what it is handed to reads it once more, as a script, a formula or a name"
    word = re.search(r"(?:[<>]&\s*)?[^\s;&|()]*$", before)
    if word and re.search(r"[<>]&|\w\[", word[0]):
        return "the shell expands a redirection's word, or a subscript, once more"
    return ""


def _without_references(text: str) -> str:
    """A text without its references."""
    for reference in reversed(list(references_in(text))):
        text = text[: reference.start] + text[reference.end :]
    return text


def _unescaped(before: str, place: Place) -> str:
    """What stands before a variable, so that it neither quotes it nor becomes a part of it."""
    slashes = len(before) - len(before.rstrip("\\"))
    if place in (Place.PLAIN, Place.DOUBLE, Place.HERE):
        if slashes % 2:  # outside of quotes it would quote the value's first character
            return before[:-1] if place is Place.PLAIN else f"{before}\\"
        if before.endswith("$"):
            return f"{before[:-1]}\\$"
    return before


FOR_BASH: Mapping[Place, Callable[[str], str]] = {
    Place.PLAIN: lambda name: f'${{{name}:+"${name}"}}',
    Place.DOUBLE: lambda name: f"${{{name}}}",
    Place.SINGLE: lambda name: f"'\"${{{name}}}\"'",
    Place.ANSI: lambda name: f"'\"${{{name}}}\"$'",
    Place.HERE: lambda name: f"${{{name}}}",
    Place.COMMENT: lambda _: "",
}
"""What stands in a script for a variable, by place."""

FOR_PEOPLE: Mapping[Place, Callable[[str], str]] = {
    Place.PLAIN: lambda value: shlex.quote(value) if value else "",
    Place.DOUBLE: lambda value: re.sub(r'([\\"$`])', r"\\\1", value),
    Place.SINGLE: lambda value: value.replace("'", "'\\''"),
    Place.ANSI: lambda value: re.sub(r"([\\'])", r"\\\1", value),
    Place.HERE: lambda value: re.sub(r"([\\$`])", r"\\\1", value),
    Place.COMMENT: lambda value: value.replace("\n", " "),
}
"""What stands in a command that is shown."""
