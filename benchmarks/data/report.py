"""Write what was measured as Markdown tables."""

from typing import Any

from benchmarks.data.clock import Measures
from benchmarks.data.machine import sentence

OWN = {
    "read": "read: file → rows",
    "parquet": "rows written and read back as parquet",
    "rules": "row rules: tidied, columns derived",
    "index": "deduplicate, index from nothing",
    "deduplicate": "deduplicate, the whole stage from table to table",
    "split": "split with certificate",
    "expectations": "Great Expectations and its report",
    "prompts": "index, prompts alone",
    "night": "a night of 10,000 more rows, index alone",
    "clean-night": "a night of 10,000 more rows, the whole stage",
}


def written(found: dict[str, Any]) -> str:
    """Give the whole page."""
    sizes: dict[str, dict[str, Measures]] = found["sizes"]
    parts = ["# Data stages\n", sentence(found["machine"]) + "\n", "Made by `python -m benchmarks.data.run`.\n"]
    parts += ["## CPU seconds (wall seconds), and CPU seconds over those of the floor\n", _costs(sizes)]
    parts += ["## Deduplicating against planted truth\n", _engines(sizes)]
    parts += [_nights(sizes)] if any("night" in measures for measures in sizes.values()) else []
    if found.get("leaks"):
        parts += ["## Test rows that were also trained on\n", _leaks(found["leaks"])]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _costs(sizes: dict[str, dict[str, Measures]]) -> str:
    first = next(iter(sizes.values()))
    rows = [[f"floor: {first['floor'].get('parser')} parse only", *(_cost(m["floor"], m) for m in sizes.values())]]
    for stage, name in OWN.items():
        if any(stage in measures for measures in sizes.values()):
            rows.append([name, *(_cost(m.get(stage), m) for m in sizes.values())])
    return _table(["rows", *(f"{int(count):,}" for count in sizes)], rows)


def _cost(made: Measures | None, beside: dict[str, Measures]) -> str:
    if made is None:
        return "–"
    if "failed" in made:
        return str(made["failed"])
    cpu, wall = (_sum(made, unit) for unit in ("cpu", "wall"))
    floor = _sum(beside["floor"], "cpu")
    return f"{cpu:.2f} ({wall:.2f}) {cpu / floor:.1f}×" if floor else f"{cpu:.2f} ({wall:.2f})"


def _sum(made: Measures, unit: str) -> float:
    aside = ("open", "check every byte")
    return float(sum(part[unit] for name, part in made.get("parts", {}).items() if name not in aside))


def _engines(sizes: dict[str, dict[str, Measures]]) -> str:
    rows = []
    for count, measures in sizes.items():
        for name, made in measures.items():
            if "recall" not in made and (name in OWN or name == "floor"):
                continue
            shown = f"Tunemill: {OWN[name]}" if name in OWN else name
            if "failed" in made:
                rows.append([f"{int(count):,}", shown, str(made["failed"]), "", "", "", ""])
                continue
            # Other engines are given normalised texts, so normalising is left out of the comparison.
            cpu = sum(
                part["cpu"]
                for step, part in made["parts"].items()
                if step in ("deduplicate", "grow", "labels", "night")
            )
            kinds = ("typo", "words", "reworded")
            each = " / ".join(f"{made[f'recall of {kind}']:.3f}" for kind in kinds)
            scores = (f"{made['recall']:.4f}", f"{made['precision']:.4f}", each)
            rows.append([f"{int(count):,}", shown, f"{cpu:.2f}", *scores, f"{made['peak_mb']:,}"])
    head = ["rows", "engine", "CPU s", "recall", "precision", "typo / words / reworded", "MB"]
    return _table(head, rows)


def _nights(sizes: dict[str, dict[str, Measures]]) -> str:
    rows = []
    for measures in sizes.values():
        made = measures.get("night")
        if made and "failed" not in made:
            parts = made["parts"]
            cells = [f"{parts[name]['cpu']:.3f}" for name in ("open", "check every byte", "night")]
            rows.append([f"{made['held']:,}", *cells])
    head = ["rows held", "open, CPU s", "check every byte, CPU s", "normalise, grow and label 10,000 new rows, CPU s"]
    return "## A night\n\n" + _table(head, rows)


def _leaks(found: dict[str, dict[str, dict[str, int]]]) -> str:
    ways = list(next(iter(found.values())))
    rows = [
        [name, *(f"{made[way]['leaks']:,} of {made[way]['test rows']:,}" for way in ways)]
        for name, made in found.items()
    ]
    return _table(["", *ways], rows)
