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
from raysweep.runtime.command.quoting import Place, stands_in
from raysweep.runtime.command.shell import Rendered, text_of

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


@pytest.mark.parametrize("value", ["$(id)", "a\nE\nid", "E"])
def test_a_quoted_here_document_takes_harmless_values_only(value: str, tmp_path: Path) -> None:
    """Nothing is expanded there, and a line of the value could end the document."""
    text = f"cat <<'E'\nx='{X}' $HOME\nE\n"
    assert "x='0.5' $HOME\n" == output(text, 0.5, tmp_path)
    with pytest.raises(CommandError, match="quoted here-document"):
        Rendered.of(text, {"search_space.x": value})


@pytest.mark.parametrize("text", [f"echo $(( {X} + 1 ))", f"(( {X} > 1 ))", f"echo $[ {X} ]"])
def test_only_numbers_are_calculated_with(text: str, tmp_path: Path) -> None:
    """A formula can hold a command, or the name of a variable that does."""
    output(text, 4, tmp_path)
    for value in ("a[$(touch executed)]", "PATH"):
        with pytest.raises(CommandError, match="has to be a number"):
            output(text, value, tmp_path)


# Places at which bash, or what it starts, reads a word once more; and places that are hard to tell.
HARD = [
    f"a=(1 2); echo ${{a[{X}]}}",
    f'a=(1 2); echo "${{a[{X}]}}"',
    f"a[{X}]=1",
    f"s=abc; echo ${{s:{X}:2}}",
    f'let "y={X}"',
    f"declare -i n={X}",
    f"[[ {X} -eq 1 ]]",
    f"[[ '{X}' -eq 1 ]]",
    f"[[ 1 -eq -{X} ]]",
    f"[[ {X} \\\n -eq 1 ]]",
    f"[[ -v {X} ]]",
    f"test -v {X}",
    f"unset {X}",
    f"printf -v {X} hi",
    f"read {X} <<< hi",
    f"cat <<EOF\n$(( {X} * 2 ))\nEOF\n",
    f"cat <<EOF\n$({ECHO} {X})\nEOF\n",
    f"cat <<EOF\n`{ECHO} {X}`\nEOF\n",
    f"cat <<'EOF'\n{X}\nEOF\n",
    f"cat <<E'O'F\n{X}\nEOF\n{ECHO} {X}\n",
    f"cat <<\\EOF\n{X}\nEOF\n",
    f"bash <<EOF\n{ECHO} {X}\nEOF\n",
    f"bash -c '{ECHO} {X}'",
    f'bash -c "echo {X}"',
    f"sh -ec 'echo {X}'",
    f"echo {X} | bash",
    f"eval echo {X}",
    f'eval "\n echo {X}\n"',
    f"bash -c '\n echo {X}\n'",
    f"timeout 5 /bin/sh -ce 'echo {X}'",
    f'bash <<< "echo {X}"',
    f"bash <(echo echo {X})",
    f". <(echo echo {X})",
    f"cat <<EOF | bash\necho {X}\nEOF\n",
    f"bash <<EOF\ncat <<< ok\necho {X}\nEOF\n",
    f"source /dev/stdin <<EOF\necho {X}\nEOF\n",
    f'eval "$(cat <<EOF\necho {X}\nEOF\n)"',
    f"python3 - <<EOF\nprint('{X}')\nEOF\n",
    f"[[ -n a &&\n {X} -gt 1 ]]",
    f"a[ {X} ]=1",
    f"a=([{X}]=1)",
    f"trap '\n echo {X}\n' EXIT",
    f"trap 'echo {X}' EXIT",
    f"echo hi >& run-{X}.log",
    f'echo $(( "{X}" + 1 ))',
    f"echo $(( ${{N:-{X}}} + 1 ))",
    f"for ((i=0;i<{X};i++)); do break; done",
    f'v={X}; echo "${{v/{X}/Z}}"',
    f'{ECHO} "$(case a in a) {ECHO} {X};; esac)"',
    f"y=`echo a # it's`; {ECHO} {X}",
    f'{ECHO} "`{ECHO} \\"{X}\\"`"',
    f"v='a b'; {ECHO} ${{v/ #/-}} {X}",
    f"{ECHO} $[1<<2]\n{ECHO} {X}",
    f"((echo a); {ECHO} {X})",
    f'{ECHO} "$((echo a); {ECHO} {X})"',
    f'{ECHO} "cost ${X}"',
    f'{ECHO} "C:\\dir\\{X}"',
    f"{ECHO} \\{X}",
    f"{ECHO} {{1..{X}}}",
    f"export A={X}; {ECHO} $A",
    f"case {X} in {X}) {ECHO} {X};; esac",
    f"cat <(echo {X})",
    f'{ECHO} "${{nope:-it\'s}}" {X}',
]


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize(
    "value",
    ["a[$(touch executed)]", "$(touch executed)", "'; touch executed; '", "EOF\ntouch executed"],
)
def test_nothing_is_executed_wherever_it_stands(text: str, value: str, tmp_path: Path) -> None:
    """Such a value is refused, or it is text; as it is run, and as it is shown."""
    try:
        rendered = Rendered.of(text, {"search_space.x": value})
    except CommandError:
        return
    for script, variables in ((rendered.script, rendered.variables), (rendered.shown, {})):
        environment = os.environ | variables
        subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", HARD)
def test_a_harmless_value_may_stand_anywhere(text: str) -> None:
    """A number is written out as Azure shows it, whatever the place."""
    rendered = Rendered.of(text, {"search_space.x": 3})
    if f"${X}" not in text:  # a dollar before it would make it a parameter of the shell
        assert text.replace(X, "3") == rendered.script == rendered.shown


@pytest.mark.parametrize(
    "value", ["a b (c)", '{"a": [1, "b"]}', "C:\\data\\x", "https://h/p?a=1&b=2"]
)
@pytest.mark.parametrize(
    "text",
    [
        f"test -d . && {ECHO} {X}",
        f"set -ex\n[ -d out ] || true\n{ECHO} {X}",
        f'export A={X}; {ECHO} "$A"',
        f"unset LD_PRELOAD; trap 'true' EXIT; {ECHO} {X}",
        f"echo true | sh && {ECHO} {X}",
        f"bash -c 'true' && {ECHO} \"{X}\"",
        f"timeout 20 {ECHO} {X}",
        f'if [ "{X}" = a ]; then true; else {ECHO} {X}; fi',
        f"for i in 1; do\n  {ECHO} {X}\ndone",
        f"{ECHO} {X} | cat",
    ],
)
def test_an_argument_of_its_own_may_be_anything(text: str, value: str, tmp_path: Path) -> None:
    """Beside tests, traps, shells and loops that have nothing to do with it."""
    assert [value] == argv(text, value, tmp_path)


@pytest.mark.parametrize(
    "words",
    ["main.py test --mode test --x", "train.sh -c conf.yml --x", "a.py layers[0]=", "a.py eval"],
)
def test_words_that_only_look_dangerous_refuse_nothing(words: str) -> None:
    """They are arguments of a program."""
    start = "bash" if words.startswith("train.sh") else "python"
    assert "'a b'" in Rendered.of(f"{start} {words} {X}", {"search_space.x": "a b"}).shown


def test_a_name_is_not_continued_by_a_value(tmp_path: Path) -> None:
    """`$HOME` stays `$HOME` in front of a value."""
    assert [f"{Path.home()}work"] == argv(f"{ECHO} $HOME{X}", "work", tmp_path)


def test_words_that_look_like_comparisons_are_words(tmp_path: Path) -> None:
    """`-lt` is an option of ls, and calculates nothing."""
    assert ["-lt", "a b"] == argv(f"{ECHO} -lt {X}", "a b", tmp_path)


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
        (f'echo "${{Y:-{X}}}" ${{Y:-{X}}}', [Place.EXPANSION, Place.EXPANSION]),
        (f"echo \\' {X} '\\' {X}", [Place.PLAIN, Place.PLAIN]),
        (f"echo '\"' {X}", [Place.PLAIN]),
        (f"cat <<< {X} # {X}", [Place.PLAIN, Place.COMMENT]),
        (f"a=$((2 * (3 + {X}))); echo {X}", [Place.ARITHMETIC, Place.PLAIN]),
    ],
)
def test_knows_how_bash_reads_a_place(text: str, places: list[Place]) -> None:
    """Quotes, expansions, comments and calculations, nested."""
    assert places == [stand.place for stand in stands_in(text)]


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
    assert 3 == len(stands_in(text))
