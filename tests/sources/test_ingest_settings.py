"""What can be set about reading, and what enters a key."""

import datetime

import pytest
from pydantic import ValidationError

from tunemill.sources import FORMATS
from tunemill.sources.settings import IngestSettings

RULE = {"matches": "x", "reason": "has an x"}


def test_one_string_is_a_list_of_one_file():
    assert IngestSettings(files="a.jsonl").files == ("a.jsonl",)


def test_traces_alone_are_a_source_and_no_decision():
    settings = IngestSettings(traces={"experiment": "shop"})
    assert settings.files == () and "traces" not in settings.decisions()


def test_one_dataset_is_a_list_of_one_and_no_decision():
    settings = IngestSettings(datasets={"hub": "acme/desk", "revision": "main"})
    assert [one.split for one in settings.datasets] == ["train"] and "datasets" not in settings.decisions()


def test_renaming_the_files_changes_no_decision():
    assert IngestSettings(files="a.jsonl").decisions() == IngestSettings(files=["b.jsonl", "c"]).decisions()


def test_another_rule_for_closed_files_changes_no_decision():
    open_day = IngestSettings(files="a", closed={"seconds": 60, "marker": ".done"})
    assert open_day.decisions() == IngestSettings(files="a").decisions()


def test_a_filter_a_rule_and_what_becomes_of_a_thumb_are_decisions():
    settings = IngestSettings(files="a", where={"model": "m"}, thumbs_down="keep", answer_rules=[RULE])
    decided = settings.decisions()
    assert (decided["where"]["model"], decided["thumbs_down"]) == (["m"], "keep")
    assert decided["answer_rules"][0]["matches"] == "x"


def test_a_bare_date_of_yaml_is_the_first_moment_of_that_day_in_utc():
    where = IngestSettings(files="a", where={"since": datetime.date(2026, 1, 31)}).where
    assert where and where.since == "2026-01-31T00:00:00+00:00"


def test_mapping_another_column_changes_a_decision():
    decided = IngestSettings(files="a", map={"prompt": "q", "answer": "a"}).decisions()
    assert (decided["map"]["prompt"], decided["max_line_bytes"]) == ("q", 8_388_608)


BAD = {
    "no file": {"files": []},
    "an empty name": {"files": ""},
    "traces of no experiment": {"traces": {"filter": "x"}},
    "no files": {},
    "a dataset without revision": {"datasets": {"hub": "acme/desk"}},
    "a dataset without owner": {"datasets": {"hub": "desk", "revision": "main"}},
    "a dataset in a folder above": {"datasets": {"hub": "../desk", "revision": "main"}},
    "a split that is a path": {"datasets": {"hub": "acme/desk", "revision": "main", "split": "a/b"}},
    "an unknown format": {"files": "a", "format": "xml"},
    "a share over 1": {"files": "a", "max_rejected": 1.01},
    "a line of 0 bytes": {"files": "a", "max_line_bytes": 0},
    "a blank system prompt": {"files": "a", "system": " \n"},
    "a prompt without answer": {"files": "a", "map": {"prompt": "q"}},
    "an input without prompt": {"files": "a", "map": {"input": "q", "user": "u"}},
    "an empty map": {"files": "a", "map": {}},
    "a time that is none": {"files": "a", "where": {"since": "yesterday"}},
    "an end before the beginning": {"files": "a", "where": {"since": "2026-01-02", "before": "2026-01-01"}},
    "a filter for no model": {"files": "a", "where": {"model": []}},
    "a thumb that is none": {"files": "a", "where": {"feedback": "sideways"}},
    "a broken pattern": {"files": "a", "answer_rules": [{"matches": "[", "reason": "x"}]},
    "a rule without pattern": {"files": "a", "answer_rules": [{"reason": "x"}]},
    "a rule with both patterns": {"files": "a", "answer_rules": [{"matches": "a", "not_matches": "b", "reason": "x"}]},
    "a rule without reason": {"files": "a", "answer_rules": [{"matches": "a", "reason": " "}]},
    "an age below 0": {"files": "a", "closed": {"seconds": -1}},
    "a marker in another folder": {"files": "a", "closed": {"marker": "done/.x"}},
    "a column of another name": {"files": "a", "map": {"prompt": "q", "reply": "a"}},
}


@pytest.mark.parametrize("settings", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_meant_is_refused(settings):
    with pytest.raises(ValidationError):
        IngestSettings.model_validate(settings)


@pytest.mark.parametrize("name", ["auto", *FORMATS])
def test_every_format_of_the_table_can_be_set(name):
    assert IngestSettings(files="a", format=name).format == name


def test_an_unknown_format_is_answered_with_the_4_that_are_known():
    with pytest.raises(ValidationError, match="known are auto, jsonl, json, csv"):
        IngestSettings(files="a", format="xml")


def test_the_schema_describes_all_12_fields_and_both_forms_of_files():
    fields = IngestSettings.model_json_schema()["properties"]
    assert [name for name, field in fields.items() if "description" in field] == [
        "files", "datasets", "traces", "closed", "format", "map", "system", "where", "thumbs_down", "answer_rules",
        "max_rejected", "max_line_bytes",
    ]  # fmt: skip
    assert [form["type"] for form in fields["files"]["anyOf"]] == ["string", "array"]
    assert fields["format"]["enum"] == ["auto", "jsonl", "json", "csv"]
