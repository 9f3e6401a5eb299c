"""YAML files as documents.

One rule: values are exactly those of `yaml.safe_load` (YAML 1.1: `1e-4` is a string, `on` is true);
beside them stands what it forgets: lines, columns, keys that were written twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from raysweep.azureml.documents import Document, Mark, Steps
from raysweep.core import checks
from raysweep.errors import JobFileError, Problem

# What aliases may make of a file; beyond it, it is a bomb and no job.
MOST_VALUES = 100_000
MOST_LEVELS = 64

_MERGE = "tag:yaml.org,2002:merge"


def read_file(path: Path) -> Document:
    """The document in a YAML file, whatever it is.

    Raises:
        JobFileError: it cannot be read, or is not YAML.
    """
    return read_yaml(_text_of(path), file=str(path), folder=path.resolve().parent)


def read_mapping(path: Path) -> Document:
    """The document in a YAML file that is one mapping.

    Raises:
        JobFileError: it cannot be read, is not YAML, or is not one mapping.
    """
    document = read_file(path)
    if not isinstance(document.value, dict):
        found = "nothing" if document.value is None else checks.described(document.value)
        problem = document.top.problem(f"must be a mapping of keys to values, but got {found}")
        raise JobFileError([problem])
    return document


def read_yaml(text: str, *, file: str, folder: Path) -> Document:
    """The document that a text of YAML says, whatever it is.

    Raises:
        JobFileError: it is not YAML, or grows beyond all measure.
    """
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(value=None, file=file, folder=folder)
        _measure(node, file)
        notices = tuple(_written_twice(node, file))
        value = _constructed(loader, node, file)
    except yaml.YAMLError as error:
        raise JobFileError([_unreadable(error, file)]) from error
    except RecursionError:
        raise JobFileError(
            [Problem(message="is nested too deeply to be read", file=file)]
        ) from None
    finally:
        loader.dispose()
    keys: dict[Steps, Mark] = {}
    values: dict[Steps, Mark] = {}
    _mark_all(node, (), keys, values)
    return Document(
        value=value, file=file, folder=folder, keys=keys, values=values, notices=notices
    )


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise JobFileError([Problem(message=message, file=str(path))]) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"must be UTF-8 text, but has the byte 0x{data[error.start]:02x} here"
        raise JobFileError(
            [Problem(message=message, file=str(path), line=line, column=column)]
        ) from error


def _unreadable(error: yaml.YAMLError, file: str) -> Problem:
    """A syntax error by line and column."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(message=f"is not YAML: {error}".replace("\n", " "), file=file)
    told = [getattr(error, name, None) for name in ("context", "problem")]
    message = f"is not YAML 1.1: {': '.join(part for part in told if part)}"
    if "'\\t'" in message:
        message += "; indent with spaces, not with tabs"
    elif "single document" in message:
        message += "; keep one document, without `---` between"
    return Problem(message=message, file=file, line=mark.line + 1, column=mark.column + 1)


def _constructed(loader: Any, node: Any, file: str) -> Any:  # noqa: ANN401  (PyYAML has no types)
    """The values of the nodes; a scalar that has none (30 February) is named by its place."""
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        scalars = _nodes(node, yaml.ScalarNode, set())
        culprit = next((each for each in scalars if not _has_value(each)), node)
        message = f"cannot be read as {culprit.tag.rpartition(':')[2]}: {error}; quote it"
        mark = culprit.start_mark
        raise JobFileError(
            [Problem(message=message, file=file, line=mark.line + 1, column=mark.column + 1)]
        ) from error


def _has_value(node: Any) -> bool:  # noqa: ANN401  (the same)
    try:
        yaml.SafeLoader("").construct_object(node)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def _nodes(node: Any, kind: type, seen: set[int]) -> Iterator[Any]:  # noqa: ANN401  (the same)
    """The nodes of a kind in a node and below it, each once however many aliases name it."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, kind):
        yield node
    for _, inner in _inner(node):
        yield from _nodes(inner, kind, seen)


def _inner(node: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401  (the same)
    """The nodes inside a node, each with the node of its key (None in a list)."""
    if isinstance(node, yaml.SequenceNode):
        yield from ((None, item) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        yield from node.value


def _measure(top: Any, file: str) -> None:  # noqa: ANN401  (the same)
    """Refuse what aliases blow up beyond all measure, or tie into itself, without unfolding it."""
    sizes: dict[int, int] = {}

    def size(node: Any, levels: int) -> int:  # noqa: ANN401  (the same)
        if levels > MOST_LEVELS or sizes.get(id(node)) == 0:
            raise _too_much(
                node, f"nested more than {MOST_LEVELS} levels deep, or into itself", file
            )
        if id(node) not in sizes:
            sizes[id(node)] = 0  # being measured
            sizes[id(node)] = 1 + sum(size(inner, levels + 1) for _, inner in _inner(node))
        if sizes[id(node)] > MOST_VALUES:
            raise _too_much(node, f"more than {MOST_VALUES} values once its aliases unfold", file)
        return sizes[id(node)]

    size(top, 0)


def _too_much(node: Any, what: str, file: str) -> JobFileError:  # noqa: ANN401  (the same)
    mark = node.start_mark
    return JobFileError(
        [Problem(message=f"is {what}", file=file, line=mark.line + 1, column=mark.column + 1)]
    )


def _written_twice(node: Any, file: str) -> Iterator[str]:  # noqa: ANN401  (the same)
    """A notice for each key that its mapping holds twice; the last one counts."""
    for mapping in _nodes(node, yaml.MappingNode, set()):
        seen = set()
        for key, _ in mapping.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen and key.tag != _MERGE:
                mark = key.start_mark
                yield (
                    f"{file}:{mark.line + 1}:{mark.column + 1}: {key.value} is written twice; the last one counts"
                )
            seen.add(name)


def _mark_all(node: Any, steps: Steps, keys: dict[Steps, Mark], values: dict[Steps, Mark]) -> None:  # noqa: ANN401  (the same)
    """Note where every value begins; called when merges have been unfolded."""
    values[steps] = _mark_of(node)
    for index, (key, inner) in enumerate(_inner(node)):
        step = index if key is None else _name_of(key)
        if key is not None:
            keys[*steps, step] = _mark_of(key)
        _mark_all(inner, (*steps, step), keys, values)


def _name_of(key: Any) -> str:  # noqa: ANN401  (the same)
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"


def _mark_of(node: Any) -> Mark:  # noqa: ANN401  (the same)
    return Mark(line=node.start_mark.line + 1, column=node.start_mark.column + 1)
