"""Show a run on a terminal: a line for each stage, a bar for long ones, and the next steps at the end."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tasks.run import Listener, StageRecord


class Screen(Listener):
    """Write to stderr, so that stdout stays free for `--json`."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("  {task.fields[stage]}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[text]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )

    def __enter__(self) -> "Screen":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def ended(self, record: StageRecord) -> None:
        """Print one line for a finished stage and drop its bar."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in record.counts.items())
        how = "held" if record.cached else f"{record.seconds:.1f} s"
        self.console.print(f"  {record.name:<12} {how:>8}  {record.key[:12]}  {counts}")

    def progress(self, stage: str, done: float, total: float, text: str) -> None:
        """Move the bar of a long stage."""
        if not self.bar.task_ids:
            self.bar.add_task("", total=total, stage=stage, text=text)
        self.bar.update(self.bar.task_ids[0], completed=done, total=total, text=text)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self.console.print(f"  [yellow]warning[/yellow] {message}")

    def conclude(self, summary: dict[str, Any]) -> None:
        """Print the verdict, where the report is and what to do next."""
        self.console.print(f"\n  {summary['verdict']}\n  report      {summary['report']}")
        if summary["mlflow_run"]:
            self.console.print(f"  MLflow run  {summary['mlflow_run']}")
        keys = {stage["name"]: stage["key"] for stage in summary["stages"]}
        self.console.print(f"  next        tunemill show {keys['train'][:12]}")
