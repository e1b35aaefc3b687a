"""Measure read, row rules, deduplicate and split on planted rows, beside a floor and other engines, in one run.

Each measurement is a process of its own, after its loops were compiled. CPU seconds count all threads. Results go to
benchmarks/results/data.json and data.md; what is installed and generated for them lies under TUNEMILL_HOME/bench.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import corpus, environments
from benchmarks.data.clock import Measures, in_child
from benchmarks.data.leaks import leaks
from benchmarks.data.machine import machine
from benchmarks.data.report import written
from benchmarks.data.stages import STAGES
from benchmarks.data.truth import score
from tunemill.home import PROJECT

NIGHT = 10_000
PEERS = PROJECT / "benchmarks/data/peers"
RESULTS = PROJECT / "benchmarks/results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data.run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add(
        "--rows",
        type=int,
        action="append",
        help="rows to generate, about 1.1 kB each; may be given several times\n"
        "(default: 10000 and 100000; 1000000 takes some minutes and 8 GB)",
    )
    add(
        "--stages",
        nargs="*",
        choices=STAGES,
        default=list(STAGES),
        metavar="STAGE",
        help=f"which of our stages: {' '.join(STAGES)} (default: all;\nnight needs index before it)",
    )
    add(
        "--peers",
        nargs="*",
        choices=environments.PEERS,
        default=list(environments.PEERS),
        metavar="PEER",
        help=f"which other engines: {' '.join(environments.PEERS)} (default: all)",
    )
    add("--peer-rows", type=int, default=100_000, help="most rows that other engines are given (default: 100000)")
    add("--limit", type=float, default=900, help="seconds after which a measurement is given up (default: 900)")
    add("--seed", type=int, default=7, help="another seed makes other rows (default: 7)")
    add("--no-leaks", action="store_true", help="leave out the leak counts on real data (TUNEMILL_REAL_DATA)")
    add("--name", default="data", help="name of the two files of results (default: data)")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    found: dict[str, Any] = {"machine": machine(["numba", "numpy", "msgspec", "orjson", "pyarrow"]), "sizes": {}}
    for count in asked.rows or [10_000, 100_000]:
        found["sizes"][str(count)] = measured(count, asked)
    if not asked.no_leaks:
        found["leaks"] = leaks()
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{asked.name}.json").write_text(json.dumps(found, indent=2) + "\n")
    text = written(found)
    (RESULTS / f"{asked.name}.md").write_text(text)
    print(text)


def measured(count: int, asked: argparse.Namespace) -> dict[str, Measures]:
    """Run every measurement at one size."""
    folder = environments.folder() / "data"
    folder.mkdir(parents=True, exist_ok=True)
    rows, night = folder / f"rows-{count}-{asked.seed}.jsonl", folder / f"night-{count}-{asked.seed}.jsonl"
    for path, end, start in ((rows, count, 0), (night, count + NIGHT, count)):
        if not path.with_suffix(".npz").is_file():
            corpus.write(path, end, asked.seed, start)
    found = {"floor": _floor(rows, asked.limit)}
    for stage in asked.stages:
        file = night if stage in ("night", "clean-night") else rows
        command = [sys.executable, "-m", "benchmarks.data.stages", stage, str(file), str(folder)]
        found[stage] = _said(count, stage, in_child(command, asked.limit))
    for peer in asked.peers if count <= asked.peer_rows else []:
        found |= _peer(peer, rows, asked.limit, count)
    return found


def _floor(rows: Path, limit: float) -> Measures:
    try:
        python = environments.python_of("floor", (environments.FLOOR,))
    except environments.NotInstalled:  # no wheel for this Python: the script parses with our orjson then
        python = Path(sys.executable)
    return in_child([str(python), str(PEERS / "floor.py"), str(rows)], limit)


def _peer(name: str, rows: Path, limit: float, count: int) -> dict[str, Measures]:
    """Give every setting of one engine the same normalised texts, and hold what it drops against the truth."""
    version = f"{name} {environments.PEERS[name][0].partition('==')[2]}"
    texts, script = rows.with_suffix(".texts"), PEERS / f"{name.replace('-', '_')}.py"
    try:
        python = environments.python_of(name, environments.PEERS[name])
    except environments.NotInstalled as error:
        return {version: _said(count, name, {"failed": str(error)})}
    listed = in_child([str(python), str(script), "settings"], limit)
    if "failed" in listed:
        return {version: _said(count, name, listed)}
    if not texts.is_file():
        in_child([sys.executable, "-m", "benchmarks.data.texts", str(rows)], limit)
    found = {}
    for setting in listed["settings"]:
        flags = rows.with_suffix(".flags")
        made = in_child([str(python), str(script), str(texts), setting, str(flags)], limit)
        if "failed" not in made:
            dropped = np.frombuffer(flags.read_bytes(), np.uint8) == ord("1")
            made |= score(rows.with_suffix(".npz"), dropped)
        found[f"{version}: {setting}"] = _said(count, name, made)
    return found


def _said(count: int, name: str, made: Measures) -> Measures:
    print(f"{count:>9,} {name}: {made.get('failed') or made['parts']}", file=sys.stderr, flush=True)
    return made


if __name__ == "__main__":
    main()
