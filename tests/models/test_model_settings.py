from typing import Any

import pytest
from pydantic import ValidationError

from tunemill.models.settings import ModelSettings

COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


def faults(**values: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        ModelSettings.model_validate(values)
    return [(fault["loc"], fault["msg"]) for fault in caught.value.errors()]


@pytest.mark.parametrize(
    "values",
    [{"packaged": "smollm2-135m-instruct"}, {"folder": "models/base"}, {"hub": "acme/base", "revision": COMMIT}],
)
def test_each_of_the_three_ways_is_accepted(values: dict[str, Any]) -> None:
    given = ModelSettings.model_validate(values).model_dump(mode="json", exclude_none=True)
    assert given == values


def test_no_name_is_one_error_that_lists_the_three_ways() -> None:
    ((place, message),) = faults()
    assert place == () and "exactly one base model, found none" in message
    assert all(f"`{way}: " in message for way in ("packaged", "folder", "hub"))


def test_two_names_are_named_in_the_error() -> None:
    ((_, message),) = faults(folder="base", packaged="smollm2-135m-instruct")
    assert "found packaged and folder" in message


def test_a_packaged_name_that_is_unknown_is_answered_with_the_known_ones() -> None:
    ((place, message),) = faults(packaged="smollm2")
    assert place == ("packaged",) and "smollm2-135m-instruct" in message


def test_a_hub_model_without_a_commit_is_refused_with_the_reason() -> None:
    ((_, message),) = faults(hub="acme/base")
    assert "acme/base needs `revision:`" in message and "could not be cached" in message


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper(), COMMIT + "0"])
def test_a_branch_a_tag_or_a_short_commit_is_refused_with_the_reason(revision: str) -> None:
    ((place, message),) = faults(hub="acme/base", revision=revision)
    assert place == ("revision",) and "a branch or tag can move" in message


@pytest.mark.parametrize("hub", ["base", "https://example.org/acme/base", "acme/base/x", "../base", "acme/"])
def test_a_hub_name_that_is_no_owner_and_name_is_refused(hub: str) -> None:
    ((place, message),) = faults(hub=hub, revision=COMMIT)
    assert place == ("hub",) and "write owner/name" in message


def test_a_revision_beside_a_folder_is_refused() -> None:
    ((_, message),) = faults(folder="base", revision=COMMIT)
    assert "`revision` belongs to `hub`; take it out beside `folder`" in message


def test_moving_the_folder_changes_no_decision() -> None:
    one, other = (ModelSettings.model_validate({"folder": place}).decisions() for place in ("a/base", "b/base"))
    assert one == other
