"""Commands of a machine that works by itself: nights, servers and workers, and the runs that it is given."""

import datetime
from collections.abc import Callable
from typing import Annotated

import typer

from tunemill.errors import ConfigError
from tunemill.home import Home
from tunemill.terminal import Config, Json, Overrides, loaded, print_value, run_flow


def night(
    config: Config,
    date: Annotated[str | None, typer.Option(help="The night to run, YYYY-MM-DD; left out, today's in UTC.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the night would take.")] = False,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Retrain on what is new since the last finished night; a person then promotes it."""
    from tasks.night_end import shown

    if dry_run:
        from tasks.night_end import dry

        print_value(json, dry(loaded(config, set_), _date(date)), shown)
        return
    told = run_flow(config, set_, "nightly", date=_date(date))
    print_value(json, told, shown)
    if told["state"] == "judged" and told["verdict"] != "PROMOTE":
        raise SystemExit(4)


def up(
    port_base: Annotated[
        int, typer.Option(help="Prefect listens here, MLflow on the next port; 0 takes any two.", min=0, max=65534)
    ] = 4200,
    postgres: Annotated[
        str,
        typer.Option(envvar="TUNEMILL_POSTGRES", help="Server with databases `prefect` and `mlflow`, made if absent."),
    ] = "",
) -> None:
    """Run a Prefect server, an MLflow server and workers on this machine until Ctrl-C."""
    from tasks.postgres import databases
    from tasks.up import up as run_machine

    Home.find().enter()
    run_machine(Home.find(), port_base, databases(postgres), lambda text: typer.echo(text, err=True))


def down(json: Json = False) -> None:
    """Stop what `tunemill up` runs, from another terminal."""
    from tasks.down import down as stop
    from tasks.down import shown

    print_value(json, stop(Home.find()), shown)


def status(json: Json = False) -> None:
    """Say what runs: servers, workers, pools and the last runs; exit status 3 where nothing is up."""
    from tasks.status import shown
    from tasks.status import status as seen

    now = seen(Home.find())
    print_value(json, now, shown)
    if not now["up"]:
        raise SystemExit(3)


def submit(
    config: Config,
    set_: Overrides = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run; end with the exit status of `run`.")] = False,
    json: Json = False,
) -> None:
    """Start a run on the machine that is up."""
    from tasks.submit import follow, shown
    from tasks.submit import submit as send
    from tunemill.config import load

    load(config, set_ or ())
    sent = send(Home.find(), config.resolve(), set_ or ())
    print_value(json, sent, shown)
    if watch and (ended := follow(Home.find(), sent, lambda text: typer.echo(text, err=True))):
        raise SystemExit(ended)


def _date(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(f"--date {text}: {error}; the form is --date 2026-03-02") from None


COMMANDS: dict[Callable[..., None], str | None] = {
    night: "Examples: tunemill night examples/nightly/nightly.yaml; tunemill night c.yaml --date 2026-03-02",
    up: "Example: tunemill up; tunemill up --postgres postgresql://me:secret@db:5432 --port-base 14200",
    down: None,
    status: None,
    submit: "Example: tunemill submit pipeline_configs/quickstart.yaml --set train.epochs=2 --watch",
}
"""Each with its example, in the order in which they are listed."""
