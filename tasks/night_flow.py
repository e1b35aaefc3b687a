"""Night flow: what a night must know of the flow run that it is."""

import datetime
from pathlib import Path

from tunemill.nights import date_of


def date_of_run() -> datetime.date:
    """Give the date in UTC on which this flow run first began; resumed or retried on another day, it keeps it."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with get_client(sync_client=True) as client:
        begun = client.read_flow_run(flow_run.id).start_time
    return date_of(begun or datetime.datetime.now(datetime.UTC))


def deployed_run() -> str | None:
    """Give the id of this flow run where a worker runs it, so that it can suspend; else None."""
    from prefect.runtime import deployment, flow_run

    return str(flow_run.id) if deployment.id else None


def night_name() -> str:
    """Name a flow run by its configuration and its date."""
    from prefect.runtime import flow_run

    given = flow_run.parameters
    return f"nightly {Path(given['config']).stem} {given.get('date') or date_of_run()}"
