"""Values in a command's text, held against bash itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysweep.core.command import references_in
from raysweep.errors import CommandError
from raysweep.runtime.shell import Place, Rendered, places_in, text_of

X = "${{search_space.x}}"
ECHO = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
HOSTILE = [
    "'; rm -rf / #",
    "$(touch executed)",
    "`touch executed`",
    "a b",
    "two\nlines",
    'say "hi"',
    "it's",
    "\\",
    "*",
    "~",
    "$HOME",
    "${X}",
    "a;b|c&d>e<f",
    "!!",
    "ünï 漢字 🙂",
    "-n",
    " lead and trail ",
    "tab\there",
    "a[$(touch executed)]",
]


def argv(text: str, value: object, folder: Path) -> list[str]:
    """What a program is handed by a command with a value in it, as bash runs it."""
    return list(json.loads(output(text, value, folder)))


def output(text: str, value: object, folder: Path, *, preview: bool = False) -> str:
    """What a command prints; as it is run, or as it is shown."""
    rendered = Rendered.of(text, {"search_space.x": value})
    done = subprocess.run(
        ["bash", "-c", rendered.shown if preview else rendered.script],
        cwd=folder,
        env=os.environ | ({} if preview else rendered.variables),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert not (folder / "executed").exists(), f"{value!r} was executed in {text!r}"
    return done.stdout.decode()


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "text",
    [
        f"{ECHO} {X}",
        f'{ECHO} "{X}"',
        f"{ECHO} '{X}'",
        f"{ECHO} $'{X}'",
        f"true && {ECHO} {X} | cat",
        f"{ECHO} \\\n  {X}\n",
        f'echo "$({ECHO} {X})"',
        f'echo "$({ECHO} "{X}")"',
        f"echo it is \"'\" > /dev/null # don't {X}\n{ECHO} {X}",
        f"if true; then ({ECHO} {X}); fi",
    ],
)
def test_one_reference_is_one_word(text: str, value: str, preview: bool, tmp_path: Path) -> None:
    """Wherever it stands and whatever is in it, a value arrives whole and is never executed."""
    assert [value] == json.loads(output(text, value, tmp_path, preview=preview))


@pytest.mark.parametrize("value", HOSTILE)
def test_in_backticks_too(value: str, tmp_path: Path) -> None:
    """Backticks, which bash reads twice, execute nothing either."""
    assert [value] == argv(f'cat <<< "`{ECHO} {X}`"', value, tmp_path)


@pytest.mark.parametrize("value", HOSTILE)
def test_stands_inside_of_a_word(value: str, tmp_path: Path) -> None:
    """What is written beside a reference is part of the same word."""
    assert [f"--x={value}!"] == argv(f"{ECHO} --x={X}'!'", value, tmp_path)


@pytest.mark.parametrize("value", HOSTILE)
def test_here_documents_hold_the_value(value: str, tmp_path: Path) -> None:
    """In a here-document the value is text; what follows the document is read as usual."""
    text = f"cat <<-EOF\n\tx is {X}\n\tEOF\nprintf '%s\\n' '{X}' > after"
    assert f"x is {value}\n" == output(text, value, tmp_path)
    assert f"{value}\n" == (tmp_path / "after").read_text()


def test_a_quoted_here_document_takes_the_value_as_it_is(tmp_path: Path) -> None:
    """Nothing is expanded there, so the value itself is written."""
    text = f"cat << 'THE END'\nx='{X}' $HOME\nTHE END\n"
    assert "x='$(id)' $HOME\n" == output(text, "$(id)", tmp_path)


def test_a_quoted_here_document_refuses_a_line_break() -> None:
    """A line of the value could end the document."""
    with pytest.raises(CommandError, match="must have no line break"):
        Rendered.of(f"cat <<'E'\n{X}\nE\n", {"search_space.x": "a\nE\nid"})


@pytest.mark.parametrize(
    "text", [f"echo $(( {X} + 1 ))", f"(( {X} > 1 ))", f"[[ {X} -gt 3 ]]", f'[[ 3 -eq "{X}" ]]']
)
def test_only_numbers_are_calculated_with(text: str, tmp_path: Path) -> None:
    """A formula can hold a command, so a value in one has to be a number."""
    output(text, 4 if "-eq" not in text else 3, tmp_path)
    with pytest.raises(CommandError, match=r"search_space\.x must be a number"):
        output(text, "a[$(touch executed)]", tmp_path)


def test_an_empty_value_is_no_word_outside_of_quotes(tmp_path: Path) -> None:
    """As a shell's own variable would be."""
    assert ["a"] == argv(f"{ECHO} {X} a", "", tmp_path)
    assert ["", "a"] == argv(f'{ECHO} "{X}" a', "", tmp_path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0001, "0.0001"),
        (1e-5, "1e-05"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ({"lr": 0.5, "k": "a"}, '{"lr": 0.5, "k": "a"}'),
        ("1e-4", "1e-4"),
    ],
)
def test_values_are_shown_as_azure_shows_them(value: object, shown: str) -> None:
    """Numbers as Python writes them, strings as they are, mappings as JSON."""
    assert shown == text_of(value)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (f'echo "a $(b "{X}") {X}" {X}', [Place.DOUBLE, Place.DOUBLE, Place.PLAIN]),
        (f'echo "${{Y:-{X}}}" ${{Y:-{X}}}', [Place.DOUBLE, Place.PLAIN]),
        (f"echo \\' {X} '\\' {X}", [Place.PLAIN, Place.PLAIN]),
        (f"echo '\"' {X}", [Place.PLAIN]),
        (f"cat <<< {X} # {X}", [Place.PLAIN, Place.COMMENT]),
        (f"a=$((2 * (3 + {X}))); echo {X}", [Place.ARITHMETIC, Place.PLAIN]),
    ],
)
def test_knows_how_bash_reads_a_place(text: str, places: list[Place]) -> None:
    """Quotes, expansions, comments and calculations, nested."""
    assert places == [place for _, place in places_in(text)]


@settings(max_examples=60)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_any_text_arrives_whole(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """Whatever the text: in and out of quotes, run and shown."""
    folder = tmp_path_factory.mktemp("any")
    text = f"{ECHO} \"{X}\" '{X}' .{X}"
    expected = [value, value, f".{value}"]
    assert expected == json.loads(output(text, value, folder))
    assert expected == json.loads(output(text, value, folder, preview=True))


def test_every_reference_is_found_once() -> None:
    """However it is spaced, also where nothing is quoted."""
    text = "a ${{ search_space.x }}${{inputs.data}} '${{outputs.m}}'"
    assert ["search_space.x", "inputs.data", "outputs.m"] == [str(r) for r in references_in(text)]
    assert 3 == len(places_in(text))
