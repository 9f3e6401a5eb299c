"""The commands by name, and what an error comes to: a line on stderr and an exit code.

One rule: nothing heavy is imported here, so that `raysweep --help` is there at once; a command's
module is imported when that command is called.
"""

from __future__ import annotations

import errno
import importlib
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from raysweep import __version__
from raysweep.errors import RaysweepError, UserError

FAILED = 1  # the sweep failed, or the cluster did
MISTAKEN = 2  # bad usage or a bad spec: nothing was started
INTERRUPTED = 130  # by Ctrl-C, as shells count: 128 + SIGINT

# Where each command lives, and its line in the list: a test holds it to the command's own.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("running", "Run the sweep that a file defines."),
    "validate": ("checking", "Check a file and say what it asks for; nothing is started."),
    "preview": (
        "checking",
        "Show the parameters and commands of the first trials; nothing is started.",
    ),
    "list": ("showing", "List the sweeps of a storage."),
    "show": ("showing", "Show a sweep and all of its trials."),
    "watch": ("running", "Watch a running sweep until it is over."),
    "logs": ("keeping", "Print what trials have written; with -f, as it comes."),
    "best": ("showing", "Show the best trial and how to load its checkpoint."),
    "explain": ("showing", "Tell a trial's story: attempts, decisions, why it ended."),
    "download": ("keeping", "Copy what a trial has left: outputs, artifacts, its log."),
    "export": ("showing", "Write a sweep's results as Parquet."),
    "checkpoint": ("checkpoints", "List checkpoints, show what is in one, hand it to other tools."),
    "cancel": ("running", "End a running sweep."),
    "resume": (
        "running",
        "Take up a sweep that was interrupted, or give one that is over more to do.",
    ),
    "bench": (
        "benching",
        "Compare samplers on tasks whose best is known, on this machine or a cluster.",
    ),
    "doctor": ("checking", "Check this machine, the storage and the cluster."),
}


class Commands(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        del ctx
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"raysweep.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's own signature)
        """Run the command; an error becomes a line and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except RaysweepError as error:
            _end(ctx, error, MISTAKEN if isinstance(error, UserError) else FAILED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # who read our output has gone: click knows what to do
                raise
            _end(ctx, error, FAILED)


def _end(ctx: click.Context, error: Exception, code: int) -> NoReturn:
    if ctx.params.get("debug"):
        traceback.print_exception(error)
    click.echo(f"error: {error}", err=True)
    ctx.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="raysweep")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Hyperparameter sweeps on a Ray cluster.

    Exit codes: 0 done, 1 the sweep failed, 2 bad usage or spec, 130 interrupted.
    """
    del debug  # `Commands.invoke` looks it up


def main() -> None:
    """The entry point `raysweep`."""
    cli(prog_name="raysweep")
