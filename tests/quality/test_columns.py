"""Cleaning, and the columns that rules are written on."""

import pytest

from tunemill.quality.columns import COLUMNS, clean, frame
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Message, make_row

SOURCE = "ab" * 32
CODE = "def f(x):\n    if x:\n\treturn 1\n\n    return 0"
COLLAPSED = ValidateSettings.model_validate({"whitespace": {"collapse": True}})
UNTOUCHED = ValidateSettings.model_validate({"whitespace": {"strip": False}})


def row(*contents, roles=("user", "assistant")):
    return make_row([Message(*turn) for turn in zip(roles, contents, strict=True)], SOURCE, 7, user="u1")


def words(messages, tools=None):
    return sum(len(message.content.split()) for message in messages)


def derived(one, order="alternating"):
    return frame([one], words, order).iloc[0]


def test_indentation_of_code_is_kept_by_default():
    dirty = CODE.replace("\n", "   \r\n") + " \n\n"
    assert clean(row("hi", dirty), ValidateSettings()).answer == CODE


def test_collapse_destroys_code():
    assert clean(row("hi", CODE), COLLAPSED).answer == "def f(x): if x: return 1 return 0"


def test_lone_carriage_returns_become_line_feeds():
    assert clean(row("a\rb", "c"), ValidateSettings()).messages[0].content == "a\nb"


def test_white_space_stays_as_it_is_when_strip_is_off():
    assert clean(row("hi \r\n", "x  "), UNTOUCHED) == row("hi \r\n", "x  ")


def test_a_cleaned_row_has_the_id_of_its_new_content_and_its_old_origin():
    cleaned = clean(row("hi", "yes  "), ValidateSettings())
    assert cleaned == row("hi", "yes")
    assert cleaned.row_id != row("hi", "yes  ").row_id


def test_the_frame_has_exactly_the_documented_columns():
    assert list(frame([row("hi", "yes")], words).columns) == list(COLUMNS)
    assert list(frame([], words).columns) == list(COLUMNS)


def test_lengths_and_texts_are_derived_from_the_turns():
    line = derived(row("sys", "one two", "yes!", roles=("system", "user", "assistant")))
    assert (line["system"], line["prompt"], line["answer"], line["roles"]) == (
        "sys",
        "one two",
        "yes!",
        "system user assistant",
    )
    assert (line["turns"], line["prompt_characters"], line["answer_characters"], line["tokens"]) == (3, 7, 4, 4)
    assert (line["source"], line["line"], line["user"]) == (SOURCE, 7, "u1")


def test_empty_text_is_null_and_has_no_characters():
    line = derived(row(" ", " \n"))
    assert line[["system", "prompt", "answer", "answer_json", "time"]].isna().all()
    assert (line["prompt_characters"], line["answer_characters"], line["empty_turns"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("roles", "in_order"),
    [
        ("user assistant", True),
        ("system user assistant user assistant", True),
        ("user assistant tool tool assistant user assistant", True),
        ("user", False),
        ("assistant user", False),
        ("user user assistant", False),
        ("user system assistant", False),
        ("user tool assistant", False),
        ("user assistant tool", False),
        ("system assistant", False),
        ("user critic assistant", False),
    ],
)
def test_alternating_roles(roles, in_order):
    names = roles.split()
    assert derived(row(*["x"] * len(names), roles=names))["roles_in_order"] == in_order


def test_free_roles_need_only_an_answer_at_the_end():
    twice = row("a", "b", "c", roles=("user", "user", "assistant"))
    assert derived(twice, "free")["roles_in_order"]
    assert not derived(row("a", "b", roles=("assistant", "user")), "free")["roles_in_order"]


def test_a_conversation_out_of_order_is_not_tokenised():
    asked = []
    frame([row("a", "b", roles=("user", "user")), row("a", "b")], lambda messages, _: asked.append(messages) or 1)
    assert asked == [row("a", "b").messages]


@pytest.mark.parametrize(
    ("answer", "is_json"), [('{"a": 1}', True), ("[1]", True), ("7", False), ('{"a": NaN}', False), ("{not}", False)]
)
def test_an_answer_is_json_when_it_is_an_object_or_an_array(answer, is_json):
    line = derived(row("q", answer))
    assert line["answer_is_json"] == is_json
    assert (line["answer_json"] == answer) == is_json


CALL = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"text":"a  "}}]')


def test_a_call_without_text_is_no_empty_answer_and_no_empty_turn():
    line = derived(make_row([Message("user", "Where?"), CALL], SOURCE, 1))
    assert (line["answer"], line["empty_turns"], line["answer_is_json"], line["roles_in_order"]) == (
        '{"name":"find","arguments":{"text":"a  "}}',
        0,
        True,
        True,
    )


def test_tidying_white_space_leaves_calls_and_tools_as_they_are():
    turns = (Message("user", "Where?  "), CALL, Message("tool", "x", '{"id":"call00001","name":"find"}'), CALL)
    tools = '[{"function":{"description":"a  "}}]'
    tidied = clean(make_row(turns, SOURCE, 1, tools=tools), ValidateSettings())
    assert tidied == make_row((Message("user", "Where?"), *turns[1:]), SOURCE, 1, tools=tools)
