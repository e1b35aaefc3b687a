"""Which date a night has, which files are new to it, and what its record holds: by data and a clock that is given."""

import datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from tunemill import nights
from tunemill.artifacts import SourceFile, SourceFiles
from tunemill.errors import StoreError
from tunemill.nights import Answer, Champion, Night, NightlySettings, Taken

TWO_O_CLOCK = datetime.datetime(2025, 1, 1, 2, tzinfo=datetime.UTC)
A_DAY = datetime.timedelta(days=1)


def day(number: int) -> datetime.date:
    return datetime.date(2026, 3, number)


def files(*names: str, under: str = "logs") -> SourceFiles:
    return SourceFiles(files=tuple(SourceFile(sha256=name, path=f"{under}/{name}.jsonl") for name in names))


def judged(number: int, *names: str, verdict: str = "REJECT") -> Night:
    return Night(name="desk", date=day(number), state="judged", verdict=verdict, files=files(*names).files)


def take(closed: SourceFiles, finished: list[Night]) -> Taken:
    """Take on a disk where all that was ever recorded still stands."""
    return nights.take(closed, finished, frozenset(nights.recorded(finished)))


@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe"])
def test_in_two_years_with_all_changes_of_clocks_each_date_has_one_night(zone: str) -> None:
    begun = [(TWO_O_CLOCK + number * A_DAY).astimezone(ZoneInfo(zone)) for number in range(730)]
    assert len({moment.utcoffset() for moment in begun}) == (1 if zone == "UTC" else 2)
    dates = [nights.date_of(moment) for moment in begun]
    assert dates == [TWO_O_CLOCK.date() + number * A_DAY for number in range(730)]


def test_the_hour_that_comes_twice_belongs_to_one_date() -> None:
    london = ZoneInfo("Europe/London")
    first, second = (datetime.datetime(2026, 10, 25, 1, 30, tzinfo=london, fold=fold) for fold in (0, 1))
    assert second.astimezone(datetime.UTC) - first.astimezone(datetime.UTC) == datetime.timedelta(hours=1)
    assert nights.date_of(first) == nights.date_of(second) == datetime.date(2026, 10, 25)


def test_a_file_is_new_until_a_night_that_took_it_came_to_a_verdict() -> None:
    failed = Night(name="desk", date=day(2), state="open", files=files("a", "b").files)
    skipped = failed.model_copy(update={"date": day(3), "state": "skipped"})
    finished = nights.earlier([judged(1, "a"), failed, skipped], day(4))
    assert [night.date for night in finished] == [day(1)]
    assert take(files("a", "b", "c"), finished).new == ("b", "c")


def test_a_verdict_against_the_model_takes_the_files_as_well() -> None:
    for verdict in ("PROMOTE", "REJECT", "CANNOT_TELL", "INVALID"):
        assert take(files("a", "b"), [judged(1, "a", verdict=verdict)]).new == ("b",)


def test_a_night_has_what_earlier_nights_took_and_what_is_new() -> None:
    taken = take(files("c", under="elsewhere"), [judged(1, "a"), judged(2, "a", "b")])
    assert [file.path for file in taken.files] == ["logs/a.jsonl", "logs/b.jsonl", "elsewhere/c.jsonl"]
    assert (taken.new, taken.gone) == (("c",), ())


def test_a_file_that_was_moved_is_not_new_and_is_read_where_it_lies() -> None:
    taken = nights.take(files("a", under="archive"), [judged(1, "a")], frozenset())
    assert [file.path for file in taken.files] == ["archive/a.jsonl"]
    assert (taken.new, taken.gone) == ((), ())


def test_a_file_that_is_gone_is_named() -> None:
    taken = nights.take(files("c"), [judged(1, "a", "b")], frozenset({"b"}))
    assert ([file.sha256 for file in taken.files], taken.gone) == (["b", "c"], ("a",))


def test_after_three_days_without_a_scheduler_one_night_takes_all_three() -> None:
    before = judged(1, "a")
    today, late = day(5), [day(3), day(4), day(5)]
    first = take(files("a", "b", "c", "d"), nights.earlier([before], today))
    assert first.new == ("b", "c", "d")
    done = Night(name="desk", date=today, state="judged", files=first.files)
    refused = [nights.refusal(date, today, [before, done]) for date in late]
    assert [bool(why) for why in refused] == [True, True, False]
    assert "2026-03-05 stands" in refused[0] and "only the latest date" in refused[0]


def test_a_night_that_has_not_come_yet_is_refused() -> None:
    assert nights.refusal(day(6), day(5), []) == "2026-03-06 has not come yet; in UTC it is 2026-03-05"
    assert nights.refusal(day(5), day(5), []) == ""


def test_a_night_of_the_past_sees_no_later_one() -> None:
    assert [night.date for night in nights.earlier([judged(3, "c"), judged(1, "a")], day(2))] == [day(1)]


def test_a_night_with_too_few_rows_says_how_many_it_had() -> None:
    asked, taken = NightlySettings(min_new_rows=20), Taken(files("a", "b").files, ("b",), ())
    assert nights.too_few(taken, 20, asked, day(1)) == ""
    assert "19 new rows in 1 new files since the night of 2026-03-01" in nights.too_few(taken, 19, asked, day(1))
    assert nights.too_few(Taken(files("a").files, (), ()), 0, asked, None) == "no new file"


def test_a_question_expires_when_its_time_has_come_and_not_after_its_answer() -> None:
    at = datetime.datetime(2026, 3, 4, 2, tzinfo=datetime.UTC)
    asked = judged(1, "a").model_copy(update={"approval": Answer(state="waiting", until=at)})
    assert [nights.expired(asked, at + datetime.timedelta(seconds=s)) for s in (-1, 0)] == [False, True]
    told = asked.model_copy(update={"approval": Answer(state="approved", until=at)})
    assert not nights.expired(told, at)
    assert not nights.expired(judged(1, "a"), at)


def test_a_question_waits_for_the_flow_run_that_asked_it() -> None:
    at = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)
    asked = judged(1, "a").model_copy(update={"approval": Answer(state="waiting", until=at), "flow_run": "mine"})
    assert (nights.waits_elsewhere(asked, "mine"), nights.waits_elsewhere(asked, "other")) == (False, True)


def test_a_record_is_read_as_it_was_written() -> None:
    at = datetime.datetime(2026, 3, 4, 2, 0, 1, 5, tzinfo=datetime.UTC)
    answer = Answer(state="approved", until=at, by="Ada", reason="read 50 answers", at=at)
    night = judged(2, "a", "b").model_copy(
        update={"approval": answer, "champion": Champion(version=3, digest="f" * 32), "before": day(1)}
    )
    assert nights.from_json(nights.to_json(night), "there") == night


def test_a_record_whose_bytes_changed_is_not_believed() -> None:
    body = orjson.loads(nights.to_json(judged(2, "a", "b")))
    body["files"].pop()
    for data in (orjson.dumps(body), b"{", b"[]", nights.to_json(judged(2))[:-1]):
        with pytest.raises(StoreError, match=r"nights/desk/2026-03-02\.json: .*\n.*Put the file back"):
            nights.from_json(data, "nights/desk/2026-03-02.json")
