"""Write the page of a registered version: verdict, scores, files, and the way back to its data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from tasks.publish import SHOWN, lineage
from tasks.run import Run
from tunemill.artifacts import Decision, Exported
from tunemill.evaluation import gate
from tunemill.evaluation.gate import GateVerdict
from tunemill.evaluation.gate_evidence import ShippedFile, Verified
from tunemill.exporting.targets import TARGETS
from tunemill.store import Manifest, Store

PAGES = (".json", ".md", ".png")
"""What of gate, verify, evaluate and train is shown beside the files that ship."""
LARGEST = 6
"""Files of the export that the description names; the artifacts show all."""
GAP = "&emsp;"
"""MLflow sets the columns of a table without any space between them."""


class Evidence(msgspec.Struct, frozen=True):
    """What stands in the store about one export: read once, before MLflow is asked."""

    chain: dict[str, Manifest]
    """Stage → manifest, from the gate's down to the raw data's."""
    verdict: GateVerdict
    summary: dict[str, Any]
    shipped: tuple[ShippedFile, ...]
    folder: Path
    """Where the files that ship lie."""
    files: dict[str, Path]
    """Name on the page → where it lies."""

    @property
    def scores(self) -> dict[str, float]:
        """The means of the files that ship, named `test/<file>/<metric>`."""
        return {f"test/{file.name}/{metric}": _mean(file, metric) for file in self.shipped for metric in file.scores}

    @property
    def test_digest(self) -> str:
        """Digest of the rows that they were measured on."""
        return self.chain["split"].part("test")


def read(store: Store, exported: Exported, decision: Decision) -> Evidence:
    """Read what the page of a version shows; every file that ships is checked against its manifest."""
    # Two exports of which the same was found share one decision, which names the first; the export knows its own chain.
    chain = lineage(store, "gate", decision.key) | lineage(store, "export", exported.key)
    folders = {stage: store.folder(stage, manifest.key) for stage, manifest in chain.items()}
    shipped = store.open(exported)
    files = {name: shipped / name for name in chain["export"].files}
    for stage in ("gate", "verify", "evaluate", "train"):
        names = [name for name in chain[stage].files if name.endswith(PAGES) and not name.startswith("adapter/")]
        files |= {f"{stage}/{Path(name).name}": folders[stage] / name for name in names}
    return Evidence(
        chain=chain,
        verdict=gate.from_json((store.open(decision) / "gate.json").read_bytes()),
        summary=orjson.loads((folders["evaluate"] / "summary.json").read_bytes()),
        shipped=msgspec.json.decode((folders["verify"] / "verification.json").read_bytes(), type=Verified).files,
        folder=shipped,
        files=files,
    )


def page(name: str, run: Run, evidence: Evidence, links: dict[str, str]) -> str:
    """Write the description of a version in markdown, plain at first, since MLflow's list shows its source.

    Args:
        links: words → address, from the page of the version.
    """
    first, _, rest = gate.text(evidence.verdict).partition("\n")
    lines = [first.removeprefix("# "), "", " · ".join(f"[{words}]({address})" for words, address in links.items()), ""]
    lines += [*_scores(evidence), "", rest.strip(), "", *_files(evidence), ""]
    served = [
        c for n, t in TARGETS.items() if (evidence.folder / n).is_dir() for c in t.serve(evidence.folder / n, name)
    ]
    lines += ["```", *served, "```", ""] if served else []
    lines += [
        *_datasets(evidence),
        "",
        f"Pipeline run `{run.id}`; `tunemill trace {evidence.chain['export'].key[:SHOWN]}` goes on from here.",
    ]
    return "\n".join(lines)


def _scores(evidence: Evidence) -> Iterator[str]:
    """Give a table: a metric a line, the arms with their intervals, then the files that ship."""
    arms = evidence.summary["arms"]
    yield _row("test rows", *(arm.replace("_", "-") for arm in arms), *(file.name for file in evidence.shipped))
    yield "|---" * (1 + len(arms) + len(evidence.shipped)) + "|"
    for metric in dict.fromkeys(metric for arm in arms.values() for metric in arm["metrics"]):
        cells = [_interval(arm["metrics"].get(metric)) for arm in arms.values()]
        cells += [f"{_mean(file, metric):.3f}" if metric in file.scores else "" for file in evidence.shipped]
        yield _row(metric, *cells)


def _interval(found: dict[str, float] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _mean(file: ShippedFile, metric: str) -> float:
    values = file.scores[metric]
    return sum(values.values()) / len(values)


def _files(evidence: Evidence) -> Iterator[str]:
    yield _row("file", "bytes", "sha256")
    yield "|---" * 3 + "|"
    for name, file in sorted(evidence.chain["export"].files.items(), key=lambda item: -item[1].size)[:LARGEST]:
        yield _row(name, f"{file.size:,}", f"`{file.sha256[:SHOWN]}`")


def _datasets(evidence: Evidence) -> Iterator[str]:
    split = evidence.chain["split"]
    yield _row("dataset", "rows", "sha256")
    yield "|---" * 3 + "|"
    for side in ("train", "validation", "test"):
        yield _row(side, f"{split.counts[side]:,}", f"`{split.part(side)[:SHOWN]}`")


def _row(*cells: str) -> str:
    return "| " + " | ".join(f"{cell}{GAP}" for cell in cells) + " |"
