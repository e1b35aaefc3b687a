"""Three nights of the example's logs, by the data stages' own code and without Prefect: what is new, skipped, held."""

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.deduplicate import deduplicate
from tasks.history import earlier_clean, earlier_splits
from tasks.ingest import ingest
from tasks.night import alone, found, night_files, opened, records, settings_of, split_before, write
from tasks.night_end import concluded, dry, shown, stands
from tasks.split import benchmark_files, split
from tasks.validate import validate
from tests.exporting import test_export as small
from tests.stages.conftest import put
from tunemill.artifacts import Splits, Tokenizer
from tunemill.config import PipelineConfig, load
from tunemill.errors import ConfigError, StoreError
from tunemill.home import PROJECT, Home
from tunemill.nights import Night
from tunemill.segments import read
from tunemill.store import Store

EXAMPLE = PROJECT / "examples" / "nightly"
TODAY = datetime.date(2026, 3, 5)
FIRST, SECOND, THIRD = (datetime.date(2026, 3, day) for day in (2, 3, 4))
Logs = Callable[[int], None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    home = Home.find()
    home.enter()
    return home


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    """Let the logs of the first nights land."""

    def land(nights: int) -> None:
        words = [str(EXAMPLE / "generate.py"), "--nights", str(nights), "--out", str(tmp_path / "logs")]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    return land


@pytest.fixture
def config(home: Home, tmp_path: Path) -> PipelineConfig:
    return load(EXAMPLE / "nightly.yaml", [f"ingest.files={tmp_path / 'logs'}"])


def data(config: PipelineConfig, night: Night) -> Splits:
    """Run the data stages on what a night took."""
    store, files = Store(Home.find().store), night_files(night.name, night.date)
    words: Tokenizer = put(store, Tokenizer, small.tokenizer)
    raw = ingest.run(store, files, config.ingest)
    valid = validate.run(store, raw, words, config.validation)
    clean = deduplicate.run(store, valid, earlier_clean(valid, config.deduplicate), config.deduplicate)
    before = earlier_splits(files, config.split, split_before(night.name, night.date))
    return split.run(store, clean, before, benchmark_files(config.split), config.split)


def finished(night: Night, verdict: str = "REJECT") -> Night:
    return write(night.model_copy(update={"state": "judged", "verdict": verdict, "flow_run": None}))


def two_nights(config: PipelineConfig, logs: Logs) -> tuple[Night, Night]:
    logs(1)
    first = finished(opened(config, FIRST, TODAY))
    logs(2)
    return first, finished(opened(config, SECOND, TODAY))


def questions(splits: Splits, side: str) -> set[str]:
    return {row.messages[-2].content for row in read(Store(Home.find().store).open(splits) / side)}


def test_three_nights_take_what_is_new_and_the_third_is_skipped(config: PipelineConfig, logs: Logs) -> None:
    first, second = two_nights(config, logs)
    logs(3)
    third = opened(config, THIRD, TODAY)
    assert [len(night.files) for night in (first, second, third)] == [1, 2, 3]
    assert [len(night.new) for night in (first, second, third)] == [1, 1, 1]
    assert (first.before, second.before, third.before) == (None, FIRST, SECOND)
    assert third.state == "skipped"
    assert third.reason.startswith("18 new rows in 1 new files since the night of 2026-03-03, nightly.min_new_rows is")
    assert [night.state for night in records(config.name)] == ["judged", "judged", "skipped"]


def test_the_files_of_a_skipped_night_are_new_to_the_next(config: PipelineConfig, logs: Logs) -> None:
    two_nights(config, logs)
    logs(3)
    skipped = opened(config, THIRD, TODAY)
    fewer = config.model_copy(update={"nightly": config.nightly.model_copy(update={"min_new_rows": 18})})
    next_one = opened(fewer, TODAY, TODAY)
    assert (next_one.state, next_one.new, next_one.before) == ("open", skipped.new, SECOND)


def test_a_night_without_a_new_file_says_so_and_reads_none(config: PipelineConfig, logs: Logs) -> None:
    two_nights(config, logs)
    quiet = opened(config, THIRD, TODAY)
    assert (quiet.state, quiet.new_rows) == ("skipped", 0)
    assert quiet.reason == "no new file since the night of 2026-03-03"


def test_a_later_night_keeps_every_row_on_its_side_and_counts_repeated_ones_once(
    config: PipelineConfig, logs: Logs
) -> None:
    first, second = two_nights(config, logs)
    one, two = data(config, first), data(config, second)
    assert sum(one.counts[side] for side in ("train", "validation", "test")) == 120
    assert sum(two.counts[side] for side in ("train", "validation", "test")) == 180
    for side in ("train", "validation", "test"):
        assert questions(one, side) < questions(two, side)


def test_a_past_date_again_has_the_same_files_and_finds_the_same_folders(config: PipelineConfig, logs: Logs) -> None:
    first, second = two_nights(config, logs)
    made = [data(config, night) for night in (first, second)]
    logs(3)
    finished(opened(config, THIRD, TODAY))
    sealed = {path: path.stat().st_mtime_ns for path in Home.find().store.rglob("manifest.json")}
    again = [opened(config, date, TODAY) for date in (FIRST, SECOND)]
    assert again == [first, second]
    assert [data(config, night) for night in again] == made
    assert {path: path.stat().st_mtime_ns for path in Home.find().store.rglob("manifest.json")} == sealed


def test_a_night_that_failed_has_the_same_files_again_though_more_have_landed(
    config: PipelineConfig, logs: Logs
) -> None:
    logs(1)
    failed = opened(config, FIRST, TODAY, flow_run="first")
    logs(2)
    again = opened(config, FIRST, TODAY, flow_run="second")
    assert (again.files, again.new, again.flow_run) == (failed.files, failed.new, "second")


def test_a_night_that_failed_on_a_file_that_was_mended_takes_the_mended_one(
    config: PipelineConfig, logs: Logs, tmp_path: Path
) -> None:
    logs(1)
    failed = opened(config, FIRST, TODAY)
    log = tmp_path / "logs" / "2026-03-01.jsonl"
    log.write_bytes(log.read_bytes().replace(b'{"prompt": "cut off\n', b""))
    mended = opened(config.model_copy(update={"ingest": settled(config)}), FIRST, TODAY)
    assert mended.state == "open"
    assert mended.new and mended.new != failed.new


def settled(config: PipelineConfig) -> Any:
    """Take a file that was changed just now for closed."""
    return config.ingest.model_copy(update={"closed": config.ingest.closed.model_copy(update={"seconds": 0})})


def test_a_night_that_failed_leaves_its_files_to_the_next(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    failed = opened(config, FIRST, TODAY)
    logs(2)
    assert set(opened(config, SECOND, TODAY).new) > set(failed.new)


def test_a_date_behind_a_finished_night_is_refused_and_leaves_no_record(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    finished(opened(config, SECOND, TODAY))
    late = opened(config, FIRST, TODAY)
    assert (late.state, late.files) == ("skipped", ())
    assert "only the latest date is caught up" in late.reason
    assert [night.date for night in records(config.name)] == [SECOND]


def test_a_file_that_was_rotated_away_costs_a_place_and_is_named(
    config: PipelineConfig, logs: Logs, tmp_path: Path
) -> None:
    two_nights(config, logs)
    logs(3)
    (tmp_path / "logs" / "2026-03-01.jsonl").unlink()
    fewer = config.model_copy(update={"nightly": config.nightly.model_copy(update={"min_new_rows": 1})})
    night = opened(fewer, THIRD, TODAY)
    assert (len(night.files), len(night.gone)) == (2, 1)


def test_rows_stay_on_their_side_though_the_log_that_they_came_with_is_gone(
    config: PipelineConfig, logs: Logs, tmp_path: Path
) -> None:
    logs(1)
    first = opened(config, FIRST, TODAY)
    finished(first.model_copy(update={"keys": {"split": data(config, first).key}}))
    logs(2)
    second = opened(config, SECOND, TODAY)
    stood = data(config, second)
    finished(second.model_copy(update={"keys": {"split": stood.key}}))
    logs(3)
    (tmp_path / "logs" / "2026-03-01.jsonl").unlink()
    fewer = config.model_copy(update={"nightly": config.nightly.model_copy(update={"min_new_rows": 1})})
    third = data(config, opened(fewer, THIRD, TODAY))
    assert third.counts["nights"] == 3
    for side, others in (("train", ("validation", "test")), ("validation", ("train",)), ("test", ("train",))):
        assert questions(third, side) & questions(stood, side)
        assert not any(questions(third, side) & questions(stood, other) for other in others)


def test_a_split_of_the_night_before_that_is_gone_stops_the_night(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    first = opened(config, FIRST, TODAY)
    finished(first.model_copy(update={"keys": {"split": "0" * 32}}))
    logs(2)
    second = opened(config, SECOND, TODAY)
    with pytest.raises(StoreError, match="is gone, and it says which rows the night before tested"):
        data(config, second)


def test_a_dry_run_writes_no_record(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    told = dry(config, FIRST)
    assert (told["state"], told["files"], told["new_files"], told["new_rows"]) == ("open", 1, 1, 20)
    assert shown(told).splitlines()[0] == "night 2026-03-02 of nightly-desk: open"
    assert records(config.name) == []


def test_a_judged_night_keeps_its_settings_though_the_file_was_changed(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    night = finished(opened(config, FIRST, TODAY))
    changed = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 5})})
    assert settings_of(night, changed) == config
    assert settings_of(found(changed, SECOND, TODAY), changed) == changed


def test_a_finished_night_stands_unless_it_is_asked_for_or_resumed(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    night = finished(opened(config, FIRST, TODAY)).model_copy(update={"flow_run": "mine"})
    assert stands(night, "other", asked=False)
    assert not stands(night, "mine", asked=False)
    assert not stands(night, "other", asked=True)
    assert concluded(night)["verdict"] == "REJECT"


def test_a_record_that_was_changed_by_hand_stops_the_night(config: PipelineConfig, logs: Logs) -> None:
    logs(1)
    finished(opened(config, FIRST, TODAY))
    (record,) = (Home.find().nights / config.name).glob("*.json")
    record.write_bytes(record.read_bytes().replace(b'"REJECT"', b'"PROMOTE"'))
    with pytest.raises(StoreError, match="its seal does not match"):
        opened(config, SECOND, TODAY)


def test_a_night_that_would_promote_by_itself_is_refused(config: PipelineConfig) -> None:
    for when in ("verdict", "never"):
        asked = config.model_copy(update={"promote": config.promote.model_copy(update={"when": when})})
        with pytest.raises(ConfigError, match=f"promote.when is {when}: a night is promoted by a person"), alone(asked):
            pass


def test_two_processes_do_not_have_a_products_nights_at_once(config: PipelineConfig) -> None:
    words = "import sys; from tasks.night import alone; from tunemill.config import load; from pathlib import Path\n"
    words += "with alone(load(Path(sys.argv[1]))): print('has them')"
    with alone(config):
        other = subprocess.Popen(
            [sys.executable, "-c", words, str(EXAMPLE / "nightly.yaml")], cwd=PROJECT, stdout=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(3)
    out, _ = other.communicate(timeout=30)
    assert out == b"has them\n"
