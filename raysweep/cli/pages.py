"""Text on stdout: sweeps, trials, specs and checks as people read them.

One rule: a terminal gets lines that fit it, and a pipe gets whole lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.text import Text

from raysweep.cli.doctor import Check, Mark
from raysweep.cli.options import command_line
from raysweep.cli.story import AttemptTold, Judged, ProposalTold, Story
from raysweep.core.choices import Choice
from raysweep.core.command import Command, Environment
from raysweep.core.expressions import Expression
from raysweep.core.policies import NoPolicy, Policy
from raysweep.core.samplers import Optuna
from raysweep.core.spec import SweepSpec
from raysweep.core.state import Phase
from raysweep.result import Result, TrialResult
from raysweep.runtime.screen import head
from raysweep.runtime.status import describe, row
from raysweep.runtime.table import (
    GUTTER,
    STYLES,
    Column,
    duration,
    number,
    params_table,
    size,
    state_text,
    table_of,
    trials_table,
)

PIPE_WIDTH = 200  # columns where there is no terminal
HEAD_WIDTH = 100  # columns that a head may take: beyond it, its two ends lose each other
KEPT = ("trial", "attempt", "interval", "report")  # numbers that say which checkpoint it is
LEAST_WIDTHS = {"dtype": 16, "path": 20, "shape": 12}  # columns that these give way to, in turn
LAST_LINES = 20  # of a traceback, a log or a list of decisions

MARKS: Mapping[Mark, str] = {Mark.OK: "green", Mark.WARN: "yellow", Mark.FAIL: "bold red"}


def show(*parts: RenderableType) -> None:
    """Print on stdout, without the blanks that fill up the lines of a table."""
    console = _console()
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text) and not part.no_wrap)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    click.echo("\n".join(lines), color=True)  # rich has decided already


def notify(notices: Sequence[str]) -> None:
    """Say what a person should know, on stderr: stdout is for results."""
    for notice in notices:
        click.echo(notice, err=True)


def width() -> int:
    """The columns that there are."""
    return _console().width


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


# --- a sweep --------------------------------------------------------------------------------------


def of_head(result: Result) -> list[Text]:
    """Where a sweep stands."""
    status = replace(describe(result.state, now=result.seconds), phase=result.standing)
    return head(status, width=min(width(), HEAD_WIDTH))


def of_sweep(result: Result) -> list[RenderableType]:
    """A sweep with all of its trials."""
    state = result.state
    rows = [row(state, trial) for trial in state.trials]
    best = None if state.best is None else state.best.trial
    table = trials_table(rows, width=width(), best=best)
    body: list[RenderableType] = [table, Text()] if rows else []
    about = Text(" · ".join(_about_sampler(state.spec)), "dim", no_wrap=True, overflow="ellipsis")
    return [*of_head(result), about, Text(), *body, of_place(result)]


def _about_sampler(spec: SweepSpec) -> list[str]:
    """What proposes the trials."""
    begins = [about for name, about in _about_beginning(spec).items() if name == "warm start"]
    return [f"sampler {_named(spec.sampler)}", f"seed {spec.seed}", *begins]


def of_place(result: Result) -> Text:
    """Where a sweep's files are, and what to do next."""
    storage = result.folder.storage
    lines = [Text.assemble(("files  ", "dim"), result.path)]
    if result.standing == "interrupted":
        lines.append(_next("resume", result))
    elif not result.state.over:
        lines += [
            _next("watch", result, "if it runs on a cluster"),
            _next("resume", result, "if it was interrupted"),
        ]
    elif result.phase is Phase.FAILED and result.state.trials:
        line = command_line("explain", f"{result.name} 0", storage)
        lines.append(Text.assemble(("next   ", "dim"), line))
    elif result.state.best is not None:
        lines.append(Text.assemble(("next   ", "dim"), command_line("best", result.name, storage)))
    return Text("\n").join(lines)


def _next(verb: str, result: Result, when: str = "") -> Text:
    line = command_line(verb, result.name, result.folder.storage)
    return Text.assemble(("next   ", "dim"), line, (f"   {when}" if when else "", "dim"))


def of_list(sweeps: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Sweeps, a line each; they come as `-o json` prints them."""
    return table_of(
        [
            Column("sweep", [Text(each["name"]) for each in sweeps]),
            Column("phase", [state_text(each["phase"]) for each in sweeps]),
            Column("trials", [Text(_share(each)) for each in sweeps], right=True),
            Column("best", [Text(_leader(each)) for each in sweeps]),
            Column("began", [Text(_local(each["began"])) for each in sweeps]),
        ]
    )


def _share(sweep: Mapping[str, Any]) -> str:
    total = sweep.get("total_trials")
    return f"{sweep.get('ended', '')}{f' of {total}' if total else ''}"


def _leader(sweep: Mapping[str, Any]) -> str:
    best = sweep.get("best")
    return "" if best is None else f"{sweep['metric']} {number(best)} (trial {sweep['best_trial']})"


def _local(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


# --- a trial --------------------------------------------------------------------------------------


def of_best(result: Result, trial: TrialResult) -> list[RenderableType]:
    """The best trial: its values, its metrics, its checkpoint."""
    metric = result.state.spec.objective.metric
    title = Text.assemble(
        f"best {metric} of {result.name}: ",
        (number(trial.best), "bold green"),
        f" in trial {trial.number} ({trial.state}) at interval {trial.best_interval}",
    )
    parts: list[RenderableType] = [title, *_section("parameters", _values(trial.params))]
    parts += _section("metrics", _values(trial.metrics))
    if trial.checkpoint_path is None:
        return [*parts, Text(), Text("no checkpoint was saved at or before that interval", "dim")]
    parts += _section(f"checkpoint of interval {trial.checkpoint_interval}", trial.checkpoint_path)
    load = f'import raysweep as rs; tree = rs.load_checkpoint("{trial.checkpoint_path}")'
    return parts + _section("load it in Python", load)


def of_story(result: Result, trial: TrialResult, story: Story) -> list[RenderableType]:
    """A trial's story."""
    title = Text.assemble(f"trial {trial.number} of {result.name}: ", state_text(trial.state))
    parts: list[RenderableType] = [title, Text(f"  {story.ended}")]
    parts += _section("parameters", _values(trial.params))
    earlier = len(result.state.spec.earlier)
    told = [_proposal(each, earlier) for each in story.proposals]
    parts += _section("proposed", "\n".join(told))
    parts += _section("command", story.command)
    if story.attempts:
        policy = result.state.spec.policy
        parts += [Text(), Text("attempts", "bold"), *map(_attempt, story.attempts)]
        parts += [Text(), Text(f"judged by: {_written_part(policy)}", "bold")]
        parts += _judged(story.judged, policy)
    parts += _section(f"traceback (last {LAST_LINES} lines)", _last(trial.traceback))
    return parts + _section(f"log (last {LAST_LINES} lines)", _last(trial.log))


def _proposal(told: ProposalTold, earlier: int) -> str:
    results = "no result" if not told.known else f"{told.known} result{'s' * (told.known != 1)}"
    besides = f" and {earlier:,} of an earlier sweep" if earlier else ""
    return f"at {duration(told.time)}, knowing {results}{besides}"


def _attempt(told: AttemptTold) -> Text:
    restored = f", from interval {told.start} ({told.checkpoint})" if told.checkpoint else ""
    until = "now" if told.ended is None else duration(told.ended)
    reports = f"{told.reports} report{'s' * (told.reports != 1)}"
    line = (
        f"  {told.attempt}  on slot {told.slot}, {duration(told.assigned)} to {until}"
        f"{restored}, {reports}"
    )
    return Text(f"{line}: {told.ending}" if told.ending else line)


def _judged(judged: list[Judged], policy: Policy) -> list[RenderableType]:
    """The last judgements, if there is a policy that made any."""
    if isinstance(policy, NoPolicy):
        return [Text("  every trial runs to its end", "dim")]
    if not judged:
        return [Text("  it reached no interval", "dim")]
    last = judged[-LAST_LINES:]
    table = table_of(
        [
            Column("attempt", [Text(str(each.attempt)) for each in last], right=True),
            Column("interval", [Text(str(each.interval)) for each in last], right=True),
            Column("value", [Text(number(each.value)) for each in last], right=True),
            Column("best", [Text(number(each.best)) for each in last], right=True),
            Column("", [_answer(each) for each in last]),
            Column("why", [Text(each.why) for each in last]),
        ]
    )
    hidden = len(judged) - len(last)
    return [*([Text(f"  {hidden:,} intervals before these", "dim")] if hidden else []), table]


def _answer(judged: Judged) -> Text:
    return Text("stop", STYLES["stopped"]) if judged.stopped else Text("go on", "green")


def _last(text: str) -> str:
    return "\n".join(text.splitlines()[-LAST_LINES:])


def _values(values: Mapping[str, object]) -> str:
    longest = max(map(len, values), default=0)
    return "\n".join(f"{name:{longest}}  {_exact(value)}" for name, value in values.items())


def _exact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _section(title: str, body: str) -> list[RenderableType]:
    """A title and an indented body; nothing when there is no body."""
    if not body:
        return []
    return [Text(), Text(title, "bold"), Text("\n".join(f"  {line}" for line in body.splitlines()))]


# --- checkpoints ----------------------------------------------------------------------------------


def of_checkpoints(result: Result, kept: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """Checkpoints, a line each; they come as `-o json` prints them."""
    place = f"{result.path}/checkpoints"
    columns = [
        *(_right(name, [str(each[name]) for each in kept]) for name in KEPT),
        _right("size", [size(each["size"]) for each in kept]),
        Column("path", [Text(each["path"].removeprefix(f"{place}/")) for each in kept]),
        Column("", [Text("best" if each["best"] else "", "bold green") for each in kept]),
    ]
    files = Text.assemble(("files  ", "dim"), place)
    return [table_of(_fitting(columns)), Text(), files, _next("checkpoint show", result)]


def of_checkpoint(about: Mapping[str, Any]) -> list[RenderableType]:
    """What is said about a checkpoint, and what is in it; it comes as `-o json` prints it."""
    leaves = about["leaves"]
    facts = f"  {size(about['size'])}, format {about['format']}, {about['checksum']}"
    said = {key: value for key, value in about["metadata"].items() if key != "metrics"}
    parts: list[RenderableType] = [Text(f"checkpoint {about['path']}"), Text(facts, "dim")]
    parts += _section("about", _values(said))
    parts += _section("metrics", _values(about["metadata"].get("metrics") or {}))
    columns = [
        Column("path", [Text(each["path"]) for each in leaves]),
        Column("kind", [Text(each["kind"]) for each in leaves]),
        Column("dtype", [Text(each["dtype"]) for each in leaves]),
        Column("shape", [Text(" x ".join(map(str, each["shape"]))) for each in leaves]),
        _right("size", [size(each["size"]) for each in leaves]),
    ]
    how = (
        Text("verified by checksum", "green")
        if about["verified"]
        else Text("not verified: --verify reads them all", "dim")
    )
    count = f"{len(leaves):,} lea{'f' if len(leaves) == 1 else 'ves'}, "
    return [*parts, Text(), table_of(_fitting(columns)), Text(), Text.assemble(count, how)]


def _right(name: str, cells: Sequence[str]) -> Column:
    return Column(name, [Text(cell) for cell in cells], right=True)


def _fitting(columns: Sequence[Column]) -> list[Column]:
    """Columns that fit the terminal: names lose their beginnings, numbers nothing."""
    over = sum(column.width + GUTTER for column in columns) - GUTTER - width()
    fitting = {column.name: column for column in columns}
    for name, least in LEAST_WIDTHS.items():
        if over > 0 and (column := fitting.get(name)) is not None and column.width > least:
            to = max(least, column.width - over)
            over -= column.width - to
            fitting[name] = replace(column, cells=[_end(cell, to) for cell in column.cells])
    return [*fitting.values()]


def _end(text: Text, width: int) -> Text:
    """The last columns of a text: what tells one path from another."""
    return text if text.cell_len <= width else Text(f"…{text.plain[1 - width :]}", text.style)


# --- a spec ---------------------------------------------------------------------------------------


def of_spec(spec: SweepSpec, command: Command | None = None) -> list[RenderableType]:
    """What a sweep asks for, and what its trials run if they are commands."""
    size = spec.space.size
    total = "until the timeout" if spec.total_trials is None else f"{spec.total_trials:,}"
    at_once = spec.limits.max_concurrent_trials
    about = {
        "sweep": spec.name,
        "objective": f"{spec.objective.goal} {spec.objective.metric}",
        "space": "no end of combinations" if size is None else f"{size:,} combinations",
        **{f"  {name}": written(each) for name, each in spec.space.parameters.items()},
        "sampler": _written_part(spec.sampler),
        "seed": str(spec.seed),
        **_about_beginning(spec),
        "policy": _written_part(spec.policy),
        "trials": f"{total}, {'as many as fit' if at_once is None else at_once} at once",
        "timeout": _limit(spec.limits.timeout),
        "trial timeout": _limit(spec.limits.trial_timeout),
        "each trial": ", ".join(f"{amount:g} {name}" for name, amount in spec.resources.demand().items()),
        "attempts": str(spec.max_attempts),
        "checkpoints": _written_keeping(spec.keep_checkpoints),
        **({} if command is None else _about_command(command)),
    }  # fmt: skip
    longest = max(map(len, about))
    return [Text.assemble((f"{name:{longest}}  ", "dim"), text) for name, text in about.items()]


def _about_beginning(spec: SweepSpec) -> dict[str, str]:
    """What the sweep begins with."""
    about = {}
    if spec.earlier:
        about["warm start"] = f"{len(spec.earlier):,} results of an earlier sweep"
    if spec.try_first:
        about["tried first"] = "; ".join(json.dumps(params) for params in spec.try_first)
    return about


def _written_keeping(count: int | None) -> str:
    """How many checkpoints of each trial are kept."""
    return "all" if count is None else f"the last {count} of each trial, and its best's"


def _about_command(command: Command) -> dict[str, str]:
    inputs = {**command.literals, **{name: each.shown for name, each in command.inputs.items()}}
    about = {
        "command": command.text.strip().replace("\n", "\n  "),
        "code": command.code or "an empty folder",
        "environment": _about_environment(command.environment),
    }
    if inputs:
        about["inputs"] = ", ".join(f"{name} = {value}" for name, value in inputs.items())
    if command.outputs:
        about["outputs"] = ", ".join(command.outputs)
    return about


def _about_environment(environment: Environment) -> str:
    """What a command finds installed.

    >>> _about_environment(Environment(name="azureml:a:1", pip=("mlflow", "numpy")))
    'azureml:a:1: pip install mlflow numpy'
    """
    chosen = "what the cluster has"
    if environment.python:
        chosen = environment.python
    elif environment.pip:
        chosen = f"pip install {' '.join(environment.pip)}"
    elif environment.conda is not None:
        chosen = f"conda file of {_listed(environment.conda)}"
    elif environment.image:
        chosen = environment.image
    return f"{environment.name}: {chosen}" if environment.name else chosen


def _listed(document: Mapping[str, Any]) -> str:
    """The packages of a conda file."""
    found: list[str] = []
    for each in document.get("dependencies") or []:
        found += each.get("pip") or [] if isinstance(each, Mapping) else [str(each)]
    return ", ".join(found)


def _limit(seconds: float | None) -> str:
    return "none" if seconds is None else duration(seconds)


def _written_part(part: object) -> str:
    """A sampler or a policy with the fields that were given: `bandit(slack_factor=0.1)`."""
    given = [
        f"{each.name}={getattr(part, each.name)}"
        for each in fields(part)  # type: ignore[arg-type]  # samplers and policies are dataclasses
        if getattr(part, each.name) not in (each.default, None, {})
        and not (isinstance(part, Optuna) and each.name == "sampler")
    ]
    return f"{_named(part)}({', '.join(given)})" if given else _named(part)


def _named(part: object) -> str:
    """`sobol`, `optuna:TPESampler`."""
    kind: str = part.kind  # type: ignore[attr-defined]  # of samplers and policies
    return f"{kind}:{part.sampler}" if isinstance(part, Optuna) else kind


def written(template: object) -> str:
    """An expression as one writes it.

    >>> from raysweep.core.space import choice, randint, uniform
    >>> written(uniform(0, 0.5)), written(choice(["linear", {"depth": randint(8)}]))
    ('uniform(0.0, 0.5)', "choice(['linear', {'depth': randint(8)}])")
    """
    if isinstance(template, Choice):
        return f"choice({written(list(template.values))})"
    if isinstance(template, Expression):
        bounds = ", ".join(repr(getattr(template, each.name)) for each in fields(template))
        return f"{template.kind}({bounds})"
    if isinstance(template, Mapping):
        return f"{{{', '.join(f'{key!r}: {written(value)}' for key, value in template.items())}}}"
    if isinstance(template, list):
        return f"[{', '.join(map(written, template))}]"
    return repr(template)


def of_preview(trials: list[dict[str, Any]], commands: list[str]) -> list[RenderableType]:
    """The parameters of the first trials, and their commands if they are commands."""
    table = params_table(range(len(trials)), trials)
    told = (_section(f"trial {number}", command) for number, command in enumerate(commands))
    return [table, *(part for section in told for part in section)]


# --- checks ---------------------------------------------------------------------------------------


def of_check(check: Check) -> Text:
    """A check, a line."""
    return Text.assemble((f"{check.mark:5}", MARKS[check.mark]), f"{check.name:14} ", check.found)
