"""Conclude: what the run is told to whoever started it: verdict, files, and what to do next."""

from typing import Any

from tasks.gate import verdict_of
from tasks.publish import publish_decision
from tasks.run import Run
from tunemill.artifacts import Decision, Exported, Verification
from tunemill.evaluation.gate import text
from tunemill.exporting.targets import TARGETS
from tunemill.home import Home
from tunemill.store import Store


def conclude(exported: Exported, verification: Verification, decision: Decision) -> dict[str, Any]:
    """Set what the run found and give its summary.

    A verdict other than PROMOTE is a result and no fault: the flow completes, and the command line exits with 4.
    """
    run, store = Run.current(), Store.at(Home.find().store)
    verdict, folder = verdict_of(decision, store), store.open(exported)
    run.gate = verdict.verdict
    written = {name: target for name, target in TARGETS.items() if (folder / name).is_dir()}
    run.exports = {name: str(folder / name) for name in written}
    run.serve = [line for n, target in written.items() for line in target.serve(folder / n, run.settings.name)]
    run.reasons = verdict.reasons
    publish_decision(verification, decision, verdict.verdict)
    return run.summary() | {"verification": verification.counts, "text": text(verdict)}
