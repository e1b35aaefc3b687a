"""What can be set about reading, and what enters a key."""

import pytest
from pydantic import ValidationError

from tunemill.sources import FORMATS
from tunemill.sources.settings import IngestSettings


def test_one_string_is_a_list_of_one_file():
    assert IngestSettings(files="a.jsonl").files == ("a.jsonl",)


def test_renaming_the_files_changes_no_decision():
    assert IngestSettings(files="a.jsonl").decisions() == IngestSettings(files=["b.jsonl", "c"]).decisions()


def test_mapping_another_column_changes_a_decision():
    decided = IngestSettings(files="a", map={"prompt": "q", "answer": "a"}).decisions()
    assert (decided["map"]["prompt"], decided["max_line_bytes"]) == ("q", 8_388_608)


BAD = {
    "no file": {"files": []},
    "an empty name": {"files": ""},
    "no files": {},
    "an unknown format": {"files": "a", "format": "xml"},
    "a share over 1": {"files": "a", "max_rejected": 1.01},
    "a line of 0 bytes": {"files": "a", "max_line_bytes": 0},
    "a blank system prompt": {"files": "a", "system": " \n"},
    "a prompt without answer": {"files": "a", "map": {"prompt": "q"}},
    "an input without prompt": {"files": "a", "map": {"input": "q", "user": "u"}},
    "an empty map": {"files": "a", "map": {}},
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


def test_the_schema_describes_all_6_fields_and_both_forms_of_files():
    fields = IngestSettings.model_json_schema()["properties"]
    assert [name for name, field in fields.items() if "description" in field] == [
        "files", "format", "map", "system", "max_rejected", "max_line_bytes",
    ]  # fmt: skip
    assert [form["type"] for form in fields["files"]["anyOf"]] == ["string", "array"]
    assert fields["format"]["enum"] == ["auto", "jsonl", "json", "csv"]
