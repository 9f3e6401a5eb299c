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

from raysweep.core.command import Command, references_in
from raysweep.core.events import Params
from raysweep.errors import CommandError
from raysweep.runtime.command.quoting import CALCULATES, HERE, Place, Stand, stands_in

# Under these prefixes Azure hands the values out, by the kind of reference.
PREFIXES = {
    "search_space": "AZUREML_SWEEP_",
    "inputs": "AZURE_ML_INPUT_",
    "outputs": "AZURE_ML_OUTPUT_",
}
VALUE = "RAYSWEEP_VALUE_"  # under this one a script gets those that it refers to
HARMLESS = re.compile(r"[\w.,:/=+@%-]*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

OURS = re.compile(r"AZUREML_|AZURE_ML_|RAYSWEEP_")
SHELLS = r"(?:\S*/)?[\"']?(?:ba|da|z|k|a|fi)?sh[\"']?"
# What stands before a command that it runs: assignments, redirections, wrappers with their options.
BEFORE = re.compile(
    r"\s*(?:\w+\+?=(?:\"[^\"]*\"|'[^']*'|\S)*\s+|[<>]\S*\s+"
    r"|(?:\S*/)?(?:timeout|nice|ionice|env|sudo|exec|nohup|command|builtin|stdbuf|setsid|chrt|taskset"
    r"|numactl|time)\s+(?:-\S+\s+|[\d.]+[smhd]?\s+|\w+=\S*\s+)*)"
)
# Commands that read a word once more, as a script, a formula or a name.
READS_AGAIN = re.compile(
    rf"(?:[\"'\\]?eval[\"']?|\.|source|trap|let|unset|read|mapfile|readarray|coproc|compgen|complete|wait|ssh|su"
    rf"|xargs|parallel|watch|script|runuser|\$\{{?SHELL\}}?|\$\w+)(?=\s|$)"
    rf"|(?:declare|typeset|local|readonly|export)\s+(?:-\w+\s+)*-\w*[in]"
    rf"|printf\s+[\"']?-v|(?:test|\[)\s.*?-v|\[\["
    rf"|{SHELLS}\s+(?:-[\w-]+\s+)*(?:[\"']?-\w*c|<)|flock\s.*\s-c"
    rf"|\S+\s(?:.*\s)?{SHELLS}\s+-\w*c"
    rf"|(?:RANDOM|OPTIND|SECONDS|PS4|BASH_ENV|ENV|PROMPT_COMMAND|IFS)=",
    re.DOTALL,
)
INTO_A_SHELL = re.compile(
    rf"(?:\|&?|>\(|<<<)\s*\(?\s*(?:\w+\s+)?{SHELLS}(?![\w./-])|\|[^|;&\n]*\b(?:eval|xargs)\b"
)
READS_DOCUMENT = re.compile(
    rf"(?:^|[\s|;&(]){SHELLS}(?![\w./-])|(?:^|[\s|;&(])(?:\.|source|eval|ssh|python\S*|perl|ruby|node|su|sudo)\s"
)
DEFAULT = re.compile(r"\$\{\w+:?[-=+?][\w.,:/=+@%-]*$")  # ${x:-...}: text, and no formula
EXPANDS = re.compile(r"[`]|\$[(\[]|\$\{[^}]*[^\w}]")


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
        for stand in stands_in(text):
            reference, place = stand.reference, stand.place
            value = text_of(values[str(reference)])
            before = text[done : reference.start]
            if _is_plain(value, text, stand):
                script += [before, value]
                shown += [before, value]
            else:
                _refuse_unsure(value, text, stand)
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


def _is_plain(value: str, text: str, stand: Stand) -> bool:
    """Whether a value may be written out: it means the same to bash wherever it stands."""
    before, after = text[: stand.reference.start], text[stand.reference.end :]
    calculated = stand.place in CALCULATES and not DEFAULT.search(before)
    if calculated:
        return NUMBER.fullmatch(value) is not None
    joins = (
        OURS.search(value)  # a formula could follow the name to another value
        or re.search(r"\$\w*$", before)  # the name of a variable would go on
        or after[:1] in ("<", ">")  # a number would be a descriptor
        or (before[-1:] == "{" and "," in value)
        or any(value and value in found["end"] for found in HERE.finditer(text))
    )
    return HARMLESS.fullmatch(value) is not None and not joins


def _refuse_unsure(value: str, text: str, stand: Stand) -> None:
    """Refuse a value that bash might read once more."""
    why = "no command can hold a NUL" if "\0" in value else _read_again(text, stand)
    if why:
        raise CommandError(
            f"{stand.reference} is {value!r}, which cannot stand where the command refers to it: {why};"
            f" hand it over as an argument of its own, or read it from the environment"
        )


def _read_again(text: str, stand: Stand) -> str:
    """Why bash, or what it starts, could read a value as more than text there; "" if it does not."""
    if stand.place is Place.COMMENT:
        return ""
    if stand.place in CALCULATES:
        return "the shell calculates there, so it has to be a number"
    if stand.place is Place.HERE_QUOTED:
        return "a quoted here-document takes letters, digits and .,:/=+@%_- only"
    if stand.place is Place.HERE:
        return _read_in_document(text, stand)
    return _read_in_command(text, stand)


def _read_in_document(text: str, stand: Stand) -> str:
    if READS_DOCUMENT.search(stand.command) or _is_read_again(*stand.around):
        return "what reads the here-document takes it for a script"
    if EXPANDS.search(_without_references(text[text.find(stand.command) :])):
        return "the here-document has expansions of its own"
    return ""


def _read_in_command(text: str, stand: Stand) -> str:
    if _is_read_again(stand.command, *stand.around):
        return "its command reads it once more, as a script, a formula or a name"
    after = text[stand.reference.end :]
    pipeline = re.split(r";|(?<![|\s])\s*\n", after, maxsplit=1)[0]
    if INTO_A_SHELL.search(f"{stand.command} {pipeline}"):
        return "a shell reads what is printed"
    if re.search(r"[<>]&\s*[^\s;&|()]*$", stand.command):
        return "the shell expands a redirection's word once more"
    if re.search(r"\[[^\]]*$", stand.command) and re.match(r"[^\]]*\]\+?=", after):
        return "the shell calculates a subscript"
    return ""


def _is_read_again(*commands: str) -> bool:
    """Whether one of these simple commands does more with a word than to hand it over."""
    return any(READS_AGAIN.match(_bare(command)) for command in commands)


def _bare(command: str) -> str:
    """A simple command without what stands before its first word, on one line."""
    bare = command.replace("\\\n", " ")
    while found := BEFORE.match(bare):
        bare = bare[found.end() :]
    return bare.lstrip()


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
