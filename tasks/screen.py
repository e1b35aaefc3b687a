"""Show a run on a terminal: a line for each stage, a bar for long ones, and the next steps at the end."""

import re
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.run import Listener, StageRecord
from tunemill.home import PROJECT


class Screen(Listener):
    """Write to stderr, so that stdout stays free for `--json`; into a file or a pipe, one line for each thing."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.bar = Progress(
            TextColumn("  {task.fields[stage]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.told: set[tuple[str, str]] = set()

    def __enter__(self) -> "Screen":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def ended(self, record: StageRecord) -> None:
        """Print one line for a finished stage and drop its bar; a stage that is asked for again is not told again."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        if (record.name, record.key) in self.told:
            return
        self.told.add((record.name, record.key))
        how = "held" if record.cached else f"{record.seconds:,.1f} s"
        self._line(f"  {record.name:<12} {how:>9}  {record.key[:12]}  ", listed(record.counts))

    def progress(self, stage: str, done: float, total: float, text: str) -> None:
        """Move the bar of a long stage."""
        if not self.bar.task_ids:
            self.bar.add_task("", total=total, stage=stage, text=text)
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, text=text)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._line("  warning  ", message, "yellow")

    def conclude(self, summary: dict[str, Any]) -> None:
        """Print the verdict and why, where the files are, and what to do next."""
        rows = [("data page", summary["page"])] if summary["page"] else []
        rows += [("report", summary["report"]), *summary["exports"].items()]
        rows += [("MLflow run", summary["mlflow_run"])] if summary["mlflow_run"] else []
        rows += [("serve", command) for command in summary["serve"]]
        rows += [("next", command) for command in next_steps(summary)]
        self.console.print()
        self._line("  ", summary["text"].partition("\n")[0].removeprefix("# "), "bold")
        for reason in summary["reasons"]:
            self._line("    ", reason)
        self.console.print()
        for name, text in rows:
            # Whole, so that it can be copied.
            self.console.print(f"  {name:<11} {shortened(text)}", soft_wrap=True)

    def _line(self, head: str, text: str, style: str = "") -> None:
        """Print a line; a terminal that is too narrow breaks `text` between words and below itself."""
        if not self.console.is_terminal:
            self.console.print(f"{head}{text}".rstrip(), soft_wrap=True)
            return
        grid = Table.grid()
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(head, text, style=style)
        self.console.print(grid)


def listed(counts: dict[str, int]) -> str:
    """Say counts in words; what is 0 is left out."""
    return ", ".join(_counted(name.replace("_", " "), value) for name, value in counts.items() if value)


def _counted(name: str, value: int) -> str:
    if name == "version":
        return f"version {value}"
    return f"1 {name.removesuffix('s')}" if value == 1 else f"{value:,} {name}"


def shortened(text: str) -> str:
    """Write paths inside the project as they are typed from there."""
    return re.sub(rf"(?<!\S){re.escape(str(PROJECT))}/", "", text)


def next_steps(summary: dict[str, Any]) -> list[str]:
    """Give the commands that a person would want after a run."""
    keys = {stage["name"]: stage["key"][:12] for stage in summary["stages"]}
    steps = [f"tunemill chat {keys['export']}"] if "gguf" in summary["exports"] else []
    steps.append(f"tunemill trace {keys['export']}")
    if summary["gate"] != "PROMOTE":
        steps.append(f"tunemill gate {summary['run']}")
    if summary["gate"] in ("PROMOTE", "CANNOT_TELL"):
        steps.append(f"tunemill promote {keys['export']} --by NAME --reason TEXT")
    return steps
