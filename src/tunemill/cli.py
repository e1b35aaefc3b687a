"""The command line: the one door.

Exit status: 0 done, 1 a bug or a fault of the machine, 2 the configuration, 3 the data or the model, 4 the gate.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunemill.errors import ConfigError, TunemillError
from tunemill.home import PROJECT, Home

app = typer.Typer(
    help="Tunemill: raw logs in, a verified model out.",
    epilog="Start with: tunemill plan pipeline_configs/quickstart.yaml. "
    "Exit status: 0 done, 2 configuration, 3 data or model, 4 the gate, 1 a bug or a fault of the machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Config = Annotated[Path, typer.Argument(help="A YAML file, e.g. pipeline_configs/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting, e.g. --set train.method.rank=32. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; everything else on stderr.")]


@app.command()
def run(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Go from the raw files to the verdict; what is held is not made again."""
    from tunemill.config import load

    load(config, set_ or ())
    # Prefect would log the traceback of each failure once a task and once a flow; it is told once, below.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    Home.find().enter()
    from flows.finetune import finetune
    from tasks.run import listening
    from tasks.screen import Screen

    with Screen() as screen, listening(screen):
        summary = finetune(str(config.resolve()), list(set_ or ()))
    if json:
        _print_json(summary)
    else:
        screen.conclude(summary)


@app.command()
def plan(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Check a configuration and say which stages are held, run, or depend on another."""
    from tasks.plan import planned, shown
    from tunemill.config import load

    steps = planned(load(config, set_ or ()))
    if json:
        _print_json({"valid": True, "stages": [step.model_dump() for step in steps]})
    else:
        typer.echo(shown(steps))


@app.command()
def show(key: Annotated[str, typer.Argument(help="The first digits of a key.")], json: Json = False) -> None:
    """Show a sealed artifact: what it was made from, its files and its counts."""
    from tunemill.store import Store

    store = Store(Home.find().store)
    found = store.find(key)
    if len(found) != 1:
        names = ", ".join(f"{m.stage} {m.key[:12]}" for m in found[:5])
        which = f" ({names}); give more digits" if found else f" in {store.root}; `tunemill plan CONFIG` lists the keys"
        raise ConfigError(f"{len(found)} artifacts have a key that begins with {key!r}{which}")
    facts: dict[str, Any] = {**found[0].model_dump(), "folder": str(store.folder(found[0].stage, found[0].key))}
    if json:
        _print_json(facts)
        return
    for name in ("stage", "key", "digest", "folder", "counts", "made_from", "parts"):
        typer.echo(f"{name:10} {facts[name]}")
    for name, file in found[0].files.items():
        typer.echo(f"  {file.size:>14,}  {file.sha256[:12]}  {name}")


@app.command()
def schema(json: Json = False) -> None:
    """Write pipeline_configs/schema.json, by which editors complete and check."""
    from tunemill.config import json_schema

    path = PROJECT / "pipeline_configs" / "schema.json"
    path.write_text(schema_text(json_schema()), encoding="utf-8")
    if json:
        _print_json({"schema": str(path)})
    else:
        typer.echo(f"wrote {path.relative_to(PROJECT)}")


def schema_text(value: dict[str, Any]) -> str:
    """Give a JSON schema as the bytes that are committed."""
    import json

    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _print_json(value: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def main() -> None:
    """Run the command line; our own errors print without a traceback and give their exit status."""
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    try:
        app()
    except TunemillError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
