"""Production logs: requests with their responses, what is refused of them, and what filters pass over."""

import json

import pytest

ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
TURNS = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")]


def choice(text="Hello", **more):
    return {"index": 0, "message": {"role": "assistant", "content": text, "refusal": None}, **more}


def call(*choices, request=None, **more):
    """Write one exchange in an envelope."""
    asked = {"model": "gpt-x", "messages": ASKED, "temperature": 0.2, **(request or {})}
    response = {"id": "r", "model": "gpt-x-2026", "choices": [*(choices or [choice()])], "usage": {"total_tokens": 9}}
    return {"request": asked, "response": {**response, "created": 1760831008}, **more}


@pytest.fixture
def of(reading):
    """Read records, one a line."""
    return lambda *records, **settings: reading(
        "a.jsonl", b"\n".join(json.dumps(record).encode() for record in records), **settings
    )


def test_an_exchange_is_the_request_and_the_answer_at_the_time_of_the_response(of):
    got = of(call(choice(finish_reason="stop")))
    assert (got.turns, got.rows[0].time) == ([TURNS], "2025-10-18T23:43:28.000000+00:00")


def test_the_time_and_the_user_of_the_envelope_go_before_those_of_the_call(of):
    (row,) = of(call(request={"user": "inner"}, timestamp="2026-01-01", customer_id="outer")).rows
    assert (row.time, row.user) == ("2026-01-01", "outer")
    assert of(call(request={"user": "inner"})).rows[0].user == "inner"


def test_messages_and_choices_side_by_side_are_an_exchange(of):
    assert of({"messages": ASKED, "choices": [choice()], "model": "m"}).turns == [TURNS]


def test_a_completion_of_the_older_api_is_read(of):
    assert of({"request": {"prompt": "Hi"}, "response": {"choices": [{"text": "Hello"}]}}).turns == [TURNS[1:]]


def test_the_first_of_3_choices_is_taken_and_the_others_are_counted(of):
    got = of(call(choice(), choice("Hey"), choice("Good day")))
    assert (got.turns, got.counts.other_answers) == ([TURNS], 2)


REFUSED = {
    "an answer cut off": (call(choice(finish_reason="length")), "answer cut off"),
    "an answer filtered": (call(choice(finish_reason="content_filter")), "answer filtered"),
    "a tool call that is not there": (call(choice(None, finish_reason="tool_calls")), "wrong type"),
    "an error of the envelope": (call(error={"message": "rate limit", "code": 429}), "failed request"),
    "an error for a response": ({"request": {}, "response": {"error": "boom"}}, "failed request"),
    "a status of 500": (call(status_code=500), "failed request"),
    "an error and no response": ({"request": {}, "response": None, "error": "time out"}, "failed request"),
    "no response": ({"request": {"messages": ASKED}, "response": None}, "wrong type"),
    "a request that is text": ({"request": "Hi", "response": {"choices": [choice()]}}, "wrong type"),
    "no choices": ({"request": {"messages": ASKED}, "response": {}}, "wrong type"),
    "no choice": ({"request": {"messages": ASKED}, "response": {"choices": []}}, "no assistant turn"),
    "a choice that is text": (call("Hello"), "wrong type"),
    "a piece of a stream": (call({"delta": {"content": "He"}}), "missing key"),
    "no messages": ({"request": {"input": "Hi"}, "response": {"choices": [choice()]}}, "missing key"),
    "a tool without a name": (call(request={"tools": [{"type": "function"}]}), "broken tools"),
    "an empty answer": (call(choice("")), "empty answer"),
}


@pytest.mark.parametrize(("record", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_an_exchange_is_refused_with_its_reason(of, record, reason):
    got = of(record)
    assert (got.reasons, got.rows) == ([(1, reason)], [])


def test_tools_of_the_request_and_calls_of_the_answer_and_of_earlier_turns_are_kept(of):
    asked = {"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"order": 7}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [asked]}
    found = {"role": "tool", "tool_call_id": "a", "content": "[]"}
    request = {"messages": [*ASKED, said, found], "tools": [{"type": "function", "function": {"name": "find"}}]}
    answer = {"message": {**said, "tool_calls": [{**asked, "id": "b"}]}, "finish_reason": "tool_calls"}
    (row,) = of(call(answer, request=request)).rows
    assert row.tools == '[{"type":"function","function":{"name":"find"}}]'
    assert [(turn.role, turn.call) for turn in row.messages[2:]] == [
        ("assistant", '[{"id":"call00001","name":"find","arguments":{"order":7}}]'),
        ("tool", '{"id":"call00001","name":"find"}'),
        ("assistant", '[{"id":"call00002","name":"find","arguments":{"order":7}}]'),
    ]


def test_a_refusal_says_that_the_model_refused(of):
    refused = {"message": {"role": "assistant", "content": None, "refusal": "I cannot."}}
    got = of(call(refused))
    assert (got.reasons, "refused: I cannot." in got.rejected[0].detail) == ([(1, "empty answer")], True)


WHERE = [
    ({"since": "2026-01-02"}, {"timestamp": "2026-01-01T23:59:59.999Z"}, "too early"),
    ({"since": "2026-01-02"}, {"timestamp": "2026-01-02"}, None),
    ({"since": "2026-01-02"}, {"timestamp": "2026-01-02T01:30:00+02:00"}, "too early"),
    ({"before": "2026-01-02"}, {"timestamp": "2026-01-02T00:00:00Z"}, "too late"),
    ({"before": "2026-01-02"}, {"timestamp": 1767225600}, None),
    ({"before": "2026-01-02"}, {"timestamp": "last night"}, "no time"),
    ({"model": "gpt-x-2026"}, {}, None),
    ({"model": ["a", "gpt-*"]}, {}, None),
    ({"model": "gpt"}, {}, "other model"),
    ({"workload": "a*"}, {"workload_id": "abc"}, None),
    ({"workload": "a*"}, {"workload": "bc"}, "other workload"),
    ({"workload": "a*"}, {}, "no workload"),
    ({"feedback": "up"}, {"feedback": "thumbs_up"}, None),
    ({"feedback": ["up", "none"]}, {"feedback": "thumbs_down"}, "other feedback"),
    ({"feedback": "none"}, {"feedback": "thumbs_up"}, "other feedback"),
    ({"feedback": "none"}, {}, None),
    ({"error": "pass_over"}, {"error": "boom"}, "failed request"),
    ({"error": "pass_over"}, {"status_code": 503}, "failed request"),
    ({"error": "pass_over"}, {"status_code": 200, "error": None}, None),
    ({"finish_reason": "stop"}, {}, "no finish reason"),
]


@pytest.mark.parametrize(("where", "more", "reason"), WHERE)
def test_a_record_is_read_or_passed_over_with_its_reason(of, where, more, reason):
    got = of(call(**more), where=where)
    assert (len(got.rows), got.passed, got.rejected) == ((0, [(1, reason)], []) if reason else (1, [], []))


def test_an_answer_cut_off_is_passed_over_where_only_whole_ones_are_asked_for(of):
    got = of(call(choice(finish_reason="length")), call(choice(finish_reason="stop")), where={"finish_reason": "stop"})
    assert (got.passed, len(got.rows), got.rejected) == ([(1, "other finish reason")], 1, [])


def test_a_chat_without_a_model_is_passed_over_where_one_is_asked_for(of):
    got = of({"messages": [*ASKED, {"role": "assistant", "content": "Hello"}]}, where={"model": "*"})
    assert got.passed == [(1, "no model")]


def test_a_record_that_is_passed_over_is_never_also_rejected(of):
    got = of({"request": 7, "response": 7}, {"timestamp": "2026-01-05", "odd": 1}, where={"since": "2026-01-02"})
    assert (got.passed, got.reasons) == ([(1, "no time")], [(2, "no known shape")])


def test_broken_json_is_rejected_whatever_the_filter(reading):
    got = reading("a.jsonl", b'{"a":\n{"timestamp":"2025-01-01"}', where={"since": "2026-01-02"})
    assert (got.reasons, got.passed) == ([(1, "broken JSON")], [(2, "too early")])
