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
        """Print the verdict, where the files are and what to do next."""
        rows = [("report", summary["report"]), *summary["exports"].items()]
        rows += [("MLflow run", summary["mlflow_run"])] if summary["mlflow_run"] else []
        rows += [("serve", command) for command in summary["serve"]]
        rows += [("next", command) for command in next_steps(summary)]
        self.console.print(f"\n  {summary['text'].partition(chr(10))[0].removeprefix('# ')}")
        for reason in summary["reasons"]:
            self.console.print(f"    {reason}")
        self.console.print()
        for name, text in rows:
            self.console.print(f"  {name:<11} {text}", soft_wrap=True)


def next_steps(summary: dict[str, Any]) -> list[str]:
    """Give the commands that a person would want after a run."""
    keys = {stage["name"]: stage["key"][:12] for stage in summary["stages"]}
    steps = [f"tunemill chat {keys['export']}", f"tunemill trace {keys['export']}"]
    if summary["gate"] in ("PROMOTE", "CANNOT_TELL"):
        steps.append(f"tunemill promote {keys['export']} --by NAME --reason TEXT")
    return steps
