"""Tell a trace to a person: what it is, what it came from, what became of it, and the next question to ask."""

from collections.abc import Iterator
from typing import Any

from tasks.screen import listed
from tasks.trace_artifact import SIDES

Found = dict[str, Any]


def shown(found: Found) -> str:
    """Give a trace as lines of text."""
    tell = {"row": _row, "source": _source}.get(found["stage"], _artifact)
    return "\n".join(tell(found))


def _artifact(found: Found) -> Iterator[str]:
    yield f"{found['what']}\n  is {found['stage']} {found['key'][:12]}{_known_by(found)}"
    if len(found["chain"]) > 1:
        yield "  made from"
    for link in found["chain"][:-1]:
        yield f"    {link['stage']:<12} {link['key'][:12]}  {listed(link['counts'])}".rstrip()
    yield from _led_to(found)
    yield from _runs(found["runs"])
    for source in found["sources"]:
        counts = listed({side: source[side] for side in (*SIDES, "rows") if side in source})
        yield f"  {source['file']}  sha256 {source['sha256'][:12]}…  {counts}"
    if found["rows"]:
        first = found["rows"][0]
        yield f"  {listed({'rows': len(found['rows'])})}; all of them: tunemill trace {found['key'][:12]} --json"
        yield f"  what became of one: tunemill trace {first['file']}:{first['line']}"


def _known_by(found: Found) -> str:
    if found["altered"]:
        return ", as its lineage says; but it was ALTERED: no file of its size was sealed there"
    how = {"lineage": ", as its lineage says", "sha256": ", of which it is a copy"}
    counts = listed(found["chain"][-1]["counts"])
    return how.get(found["known_by"], "") + (f": {counts}" if counts else "")


def _led_to(found: Found) -> Iterator[str]:
    after: dict[str, list[str]] = {}
    for link in found["led_to"]:
        after.setdefault(link["stage"], []).append(link["key"][:12])
    if after:
        yield "  led to"
    for stage, keys in after.items():
        yield f"    {stage:<12} {', '.join(keys)}"


def _runs(runs: list[Found]) -> Iterator[str]:
    """Tell of the runs that made it, and of the newest that held it."""
    held = [run for run in runs if not run["made"]]
    for run in [run for run in runs if run["made"]] + held[-1:]:
        how = "made it" if run["made"] else "held it" if len(held) == 1 else f"held it last, {len(held):,} runs in all"
        told = [f"evaluation {run['verdict']}"] * bool(run["verdict"]) + [f"gate {run['gate']}"] * bool(run["gate"])
        told += [f"{run['version']['name']} version {run['version']['version']}"] if run["version"] else []
        told += [f"MLflow run {run['mlflow_run']}"] * bool(run["mlflow_run"])
        told += [str(run["state"])] * (run["state"] != "done")
        yield f"  run {run['run']} {how}: {', '.join(told)}"


def _source(found: Found) -> Iterator[str]:
    for file in found["files"]:
        yield f"{file['file']}  sha256 {file['sha256'][:12]}…{_also(file)}"
        for link in file["read_by"]:
            counts = listed({"rows": link["rows"], "rejected": link["rejected"]})
            yield f"  read by {link['stage']} {link['key'][:12]}: {counts}"
        if not file["read_by"]:
            yield "  no artifact holds a record of it"
        yield from _led_to(file)
    yield f"  what became of a line: tunemill trace {found['files'][0]['file']}:LINE"


def _row(found: Found) -> Iterator[str]:
    for record in found["records"]:
        yield f"{record['file']}:{record['line']}  sha256 {record['sha256'][:12]}…{_also(record)}"
        if origin := record["mended_from"]:
            yield f"  mended from {origin['file']}:{origin['line']}, which was rejected"
        yield from (f"  mended as {place['file']}:{place['line']}" for place in record["mended_as"])
        yield from _steps(record["path"], "  ")
    trained = ", ".join(key[:12] for key in found["trained"])
    yield f"Adapters trained on it: {trained}" if trained else "No adapter was trained on it."


def _also(file: Found) -> str:
    return f" (also {', '.join(file['names'][1:])})" if file["names"][1:] else ""


def _steps(steps: list[Found], indent: str) -> Iterator[str]:
    """Tell one step a line; where the path parts, what follows each part is indented below it."""
    for step in steps:
        same = ", ".join(key[:12] for key in step["keys"][1:])
        yield f"{indent}{step['stage']:<12} {step['keys'][0][:12]}  {_outcome(step)}{f' ({same} too)' if same else ''}"
        yield from _steps(step["next"], indent + "  " * (len(steps) > 1))


def _outcome(step: Found) -> str:
    match step["outcome"]:
        case "read":
            return f"read as row {step['row_id'][:12]}"
        case "rejected" | "passed over" as lost:
            return f"{lost}: {_why(step['reason'], step['detail'])}"
        case "duplicate":
            return (
                f"{step['kind']} duplicate, similarity {step['similarity']:g}, of {_place(step['kept'])}, which stays:"
            )
        case "contradiction":
            stays = f"; {_place(step['kept'])} stays" if step["kept"] else ""
            return f"dropped, its prompt has another answer: {step['reason']}{stays}"
        case "kept" if step.get("stands_for"):
            gone = ", ".join(f"{_place(each)} ({each['kind']})" for each in step["stands_for"][:3])
            more = len(step["stands_for"]) - 3
            return f"kept, in place of {gone}{f' and {more:,} more' if more > 0 else ''}"
        case "left out":
            return f"left out: {step['reason']} ({step['listed']})"
        case "trained" | "not trained" as trained:
            return f"{trained} on it"
        case "shipped":
            told = [f"{each['name']} version {each['version']}, gate {each['gate']}" for each in step["versions"]]
            return "; ".join(told) or "not registered"
    return f"{step['outcome']} side" if step["stage"] == "split" else str(step["outcome"])


def _why(reason: str, detail: str) -> str:
    """Say the reason once: the details of validate begin with it, those of ingest do not."""
    return detail if reason in detail else f"{reason}: {detail}" if detail else reason


def _place(row: Found) -> str:
    return f"{row['file']}:{row['line']}"
