"""Tool calls: the forms in which logs write them, which result answers which call, and what is refused."""

import json

import pytest

ASKED = {"role": "user", "content": "Where is 7?"}
DONE = {"role": "assistant", "content": "Here."}
FIND = {"name": "find", "arguments": '{"b": 7, "a": [1.5, null]}'}
KEPT = '[{"id":"call00001","name":"find","arguments":{"b":7,"a":[1.5,null]}}]'
ANSWERED = '{"id":"call00001","name":"find"}'
TOOL = {"name": "find", "description": "Find it.", "parameters": {"type": "object"}}
OFFERED = '[{"type":"function","function":{"name":"find","description":"Find it.","parameters":{"type":"object"}}}]'


@pytest.fixture
def of(reading):
    """Read records, one a line."""
    return lambda *records: reading("a.jsonl", b"\n".join(json.dumps(record).encode() for record in records))


def calling(*functions, content=None, ids="abcdefgh"):
    calls = [{"id": i, "type": "function", "function": one} for i, one in zip(ids, functions, strict=False)]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def found(id_, content="there"):
    return {"role": "tool", "tool_call_id": id_, "content": content}


def calls(row):
    return [turn.call for turn in row.messages if turn.call]


FORMS = {
    "OpenAI": {"messages": [ASKED, calling(FIND), found("a"), DONE], "tools": [{"type": "function", "function": TOOL}]},
    "content that is empty": {"messages": [ASKED, calling(FIND, content=""), found("a"), DONE], "tools": [TOOL]},
    "arguments that are an object": {
        "messages": [ASKED, calling({**FIND, "arguments": json.loads(FIND["arguments"])}), found("a"), DONE],
        "tools": [TOOL],
    },
    "a call without type and function": {
        "messages": [ASKED, {"role": "assistant", "tool_calls": [{"id": "a", **FIND}]}, found("a"), DONE],
        "tools": [{"type": "function", **TOOL}],
    },
    "the older function_call": {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "function_call": FIND},
            {"role": "function", "name": "find", "content": "there"},
            DONE,
        ],
        "functions": [TOOL],
    },
    "ShareGPT": {
        "conversations": [
            {"from": "human", "value": "Where is 7?"},
            {"from": "function_call", "value": '{"name": "find", "arguments": {"b": 7, "a": [1.5, null]}}'},
            {"from": "observation", "value": "there"},
            {"from": "gpt", "value": "Here."},
        ],
        "tools": json.dumps([TOOL]),
    },
    "a list of calls as ShareGPT": {
        "conversations": [
            {"from": "human", "value": "Where is 7?"},
            {"from": "tool_call", "value": json.dumps([FIND])},
            {"from": "tool", "value": "there"},
            {"from": "gpt", "value": "Here."},
        ],
        "tools": [TOOL],
    },
    "prompt and completion": {"prompt": [ASKED, calling(FIND), found("a")], "completion": [DONE], "tools": [TOOL]},
    "a tree": {
        "role": "user",
        "text": "Where is 7?",
        "tools": [TOOL],
        "replies": [
            {
                "role": "function_call",
                "text": json.dumps(FIND),
                "replies": [{"role": "tool", "text": "there", "replies": [{"role": "assistant", "text": "Here."}]}],
            }
        ],
    },
}


@pytest.mark.parametrize("record", FORMS.values(), ids=FORMS.keys())
def test_nine_forms_of_the_same_call_are_the_same_row(of, record):
    (row,) = of(record).rows
    (first,) = of(FORMS["OpenAI"]).rows
    assert [(turn.role, turn.content, turn.call) for turn in row.messages] == [
        ("user", "Where is 7?", None),
        ("assistant", "", KEPT),
        ("tool", "there", ANSWERED),
        ("assistant", "Here.", None),
    ]
    assert (row.tools, row.row_id) == (OFFERED, first.row_id)


def test_a_call_may_be_the_answer_and_may_have_text_beside_it(of):
    (row,) = of({"messages": [ASKED, calling(FIND, content="Let me look.")]}).rows
    assert (row.messages[-1].content, calls(row), row.tools) == ("Let me look.", [KEPT], None)


def test_results_in_another_order_keep_the_call_that_they_answer(of):
    two = calling(FIND, {"name": "count", "arguments": "{}"})
    (row,) = of({"messages": [ASKED, two, found("b"), found("a"), DONE]}).rows
    assert calls(row)[1:] == ['{"id":"call00002","name":"count"}', ANSWERED]


def test_results_without_an_id_answer_the_calls_by_name_and_then_in_order(of):
    count = {"name": "count", "arguments": "{}"}
    bare = {"role": "tool", "content": "x"}
    (row,) = of({"messages": [ASKED, calling(FIND, count, count), {**bare, "name": "count"}, bare, bare, DONE]}).rows
    ids = [json.loads(call)["id"] for call in calls(row)[1:]]
    assert ids == ["call00002", "call00001", "call00003"]


def test_calls_are_numbered_through_and_an_id_used_again_is_that_of_the_newer_call(of):
    (row,) = of({"messages": [ASKED, calling(FIND), found("a"), calling(FIND), found("a"), DONE]}).rows
    ids = [json.loads(call)["id"] for call in calls(row)[1::2]]
    assert ids == ["call00001", "call00002"]


def test_results_in_a_conversation_without_calls_are_texts_as_before(of):
    (row,) = of({"messages": [ASKED, found("a"), DONE]}).rows
    assert calls(row) == []


@pytest.mark.parametrize("nothing", [[], "", "[]", None])
def test_empty_tools_and_calls_are_none(of, nothing):
    (row,) = of({"messages": [ASKED, {**DONE, "tool_calls": [], "function_call": None}], "tools": nothing}).rows
    assert (row.tools, calls(row)) == (None, [])


def test_a_preference_pair_keeps_the_calls_of_both_answers(of):
    count = {"name": "count", "arguments": "{}"}
    prompt = [ASKED, calling(FIND), found("a")]
    (row,) = of({"prompt": prompt, "chosen": [calling(FIND, ids="b")], "rejected": [calling(count, ids="c")]}).rows
    assert json.loads(row.messages[-1].call)[0]["id"] == json.loads(row.rejected[0].call)[0]["id"] == "call00002"
    assert json.loads(row.rejected[0].call)[0]["name"] == "count"


def with_arguments(arguments):
    return {"messages": [ASKED, calling({"name": "find", "arguments": arguments})]}


REFUSED = {
    "arguments that are no JSON": (
        with_arguments("{'a': 1}"),
        "broken call",
        "turn 2, call 1, of `find`: `arguments` is no JSON",
    ),
    "arguments that are empty": (with_arguments(""), "broken call", "no JSON that can be read"),
    "arguments that are a list": (with_arguments("[1]"), "broken call", "`arguments` is a list, not a JSON object"),
    "arguments of null": (with_arguments(None), "broken call", "`arguments` is null, not a JSON object"),
    "a number of 65 bits": (with_arguments('{"a": 18446744073709551616}'), "broken call", "needs more than 64 bits"),
    "a key given twice": (with_arguments('{"a": 1, "a": 2}'), "broken call", "`a` stands twice"),
    "half a letter": (with_arguments('{"a": "\\ud800"}'), "broken call", "lone surrogate"),
    "not a number": (with_arguments('{"a": NaN}'), "broken call", "not a finite number"),
    "300 levels": (with_arguments('{"a":' * 300 + "1" + "}" * 300), "nested too deep", "in a tool call"),
    "a NUL": (with_arguments('{"a": "\\u0000"}'), "NUL character", "in a tool call"),
    "no name": ({"messages": [ASKED, calling({"arguments": "{}"})]}, "broken call", "names no function"),
    "another kind of call": (
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
        "broken call",
        "no function call",
    ),
    "calls that are an object": (
        {"messages": [ASKED, {**DONE, "tool_calls": {"id": "a"}}]},
        "broken call",
        "not a list",
    ),
    "a call that is text": (
        {"messages": [ASKED, {**DONE, "tool_calls": ["find"]}]},
        "broken call",
        "call 1 is a string",
    ),
    "two kinds of calls": (
        {"messages": [ASKED, {**calling(FIND), "function_call": FIND}]},
        "broken call",
        "which of them",
    ),
    "a user who calls": (
        {"messages": [{**ASKED, "tool_calls": [{"id": "a", **FIND}]}, DONE]},
        "broken call",
        "only an assistant can",
    ),
    "a result of no call": ({"messages": [ASKED, calling(FIND), found("z"), DONE]}, "broken call", "answers call `z`"),
    "an id that is a number": (
        {"messages": [ASKED, calling(FIND), found(7), DONE]},
        "wrong type",
        "`tool_call_id` is a number",
    ),
    "ShareGPT text for a call": (
        {"conversations": [ASKED, {"from": "function_call", "value": "find(7)"}]},
        "broken call",
        "`value` is no JSON",
    ),
    "tools that are text": ({"messages": [ASKED, DONE], "tools": "find"}, "broken tools", "no JSON that can be read"),
    "tools that are an object": ({"messages": [ASKED, DONE], "tools": {"find": TOOL}}, "broken tools", "not a list"),
    "a tool without name": (
        {"messages": [ASKED, DONE], "tools": [{"type": "function", "function": {}}]},
        "broken tools",
        "number 1",
    ),
    "a tool of the host": (
        {"messages": [ASKED, DONE], "tools": [{"type": "web_search", "name": "w"}]},
        "broken tools",
        "number 1",
    ),
    "tools under two keys": (
        {"messages": [ASKED, DONE], "tools": [TOOL], "functions": [TOOL]},
        "broken tools",
        "both given",
    ),
}


@pytest.mark.parametrize(("record", "reason", "detail"), REFUSED.values(), ids=REFUSED.keys())
def test_a_call_or_tool_that_cannot_be_kept_whole_is_refused_at_its_line(of, record, reason, detail):
    got = of({"messages": [ASKED, DONE]}, record)
    assert (got.reasons, len(got.rows)) == ([(2, reason)], 1)
    assert detail in got.rejected[0].detail


def test_a_rule_on_answers_sees_the_call(reading):
    record = json.dumps({"messages": [ASKED, calling(FIND)]}).encode()
    rules = [{"matches": '"name":"find"', "reason": "finds"}]
    assert reading("a.jsonl", record, answer_rules=rules).reasons == [(1, "finds")]
