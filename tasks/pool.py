"""Pool: let the GPU pool make what the store does not hold, and wait for it outside that pool.

The parent asks the store first, so a night in which all is held wakes no worker; what the child has made the parent
then finds by its key, as it finds everything.
"""

import contextlib
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from tasks.run import Run, _current
from tunemill.config import PipelineConfig
from tunemill.errors import PoolError
from tunemill.home import Home

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

TRIES = 3
"""How often a child is started whose worker died; it goes on from what the store and its checkpoints hold."""
PART = ".part"
"""How the record of a child ends."""
POLL = 2
"""Seconds between two looks at a child."""


def dispatch(deployment: str, **parameters: Any) -> None:
    """Run a deployment as a child of this flow run and wait for it.

    Raises:
        PoolError: it failed, was cancelled, or crashed three times; the message says where its log is.
    """
    from prefect.deployments import run_deployment

    run = Run.current()
    run.tracking()  # so that this run's record knows the MLflow run which the child joins
    parameters |= {"settings": run.config, "run": run.id}
    for attempt in range(1, TRIES + 1):
        child: FlowRun = run_deployment(deployment, parameters=parameters, poll_interval=POLL)  # type: ignore[assignment]
        state = child.state
        _take_over(run)
        if state is not None and state.is_completed():
            return
        told = f"{deployment}: flow run `{child.name}` {(state.name or '').lower() if state else 'has no state'}"
        if state is None or not state.is_crashed() or attempt == TRIES:
            why = (state.message or "").strip() if state else ""
            raise PoolError(f"{told}\n  {why}\n  Its log: prefect flow-run logs {child.id}")
        run.warn(f"{told}, so it is started again ({attempt + 1} of {TRIES})")


def _take_over(run: Run) -> None:
    """Record the stages that children made, and what they warned of."""
    for path in sorted(Home.find().runs.glob(f"{run.id}-*{PART}")):
        part = Run.model_validate_json(path.read_bytes())
        for record in part.made:
            run.ended(record)
        for warning in part.warnings:
            run.warn(warning)
        path.unlink()


@contextlib.contextmanager
def part_of(run: str, settings: PipelineConfig) -> Iterator[Run]:
    """Let stages in this process tell MLflow as part of the parent's run; their record is added to its record."""
    home = Home.find()
    home.enter()
    path = home.runs / f"{run}.json"
    known = orjson.loads(path.read_bytes()) if path.is_file() else {}
    config = settings.model_dump(mode="json", by_alias=True)
    part = Run(id=run, config=config, named=known.get("named", ""))
    part._settings, part._record = settings, home.runs / f"{run}-{secrets.token_hex(3)}{PART}"
    token = _current.set(part)
    try:
        yield part
    finally:
        _current.reset(token)
