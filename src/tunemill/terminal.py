"""What all commands share: their common options, how they print, and how they run a flow on a terminal."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tunemill.home import Home

if TYPE_CHECKING:
    from tunemill.config import PipelineConfig

Config = Annotated[Path, typer.Argument(help="A YAML file, e.g. pipeline_configs/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting, e.g. --set train.method.rank=32. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; everything else on stderr.")]


def run_flow(
    config: Path, set_: list[str] | None, name: str, conclude: bool = False, **parameters: Any
) -> dict[str, Any]:
    """Run a flow in this process, shown on the terminal, with a Prefect server of its own where none is named."""
    loaded(config, set_)
    # Prefect would log the traceback of each failure once a task and once a flow; it is told once, by main().
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    Home.find().enter()
    from importlib import import_module

    from tasks.machine import join

    join(Home.find())
    flow = getattr(import_module(f"flows.{name}"), name)
    from tasks.local_server import local_server
    from tasks.run import listening
    from tasks.screen import Screen

    with local_server(), Screen() as screen, listening(screen):
        summary: dict[str, Any] = flow(str(config.resolve()), overrides=list(set_ or ()), **parameters)
    if conclude:
        screen.conclude(summary)
    return summary


def loaded(config: Path, set_: list[str] | None) -> "PipelineConfig":
    """Load a configuration with its overrides; ConfigError tells every fault at once."""
    from tunemill.config import load

    return load(config, set_ or ())


def print_value(json: bool, value: Any, shown: Callable[[Any], str]) -> None:
    """Print a value for a person, or as one JSON object."""
    if json:
        print_json(value)
    else:
        typer.echo(shown(value))


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    import orjson

    sys.stdout.write(orjson.dumps(value, default=msgspec.to_builtins).decode() + "\n")
