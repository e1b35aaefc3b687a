"""How the fields of a record become turns, and which records are refused."""

import json

import pytest

from tunemill.rows import Message, content_id

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
TURNS = [("user", "Hi"), ("assistant", "Hello")]


@pytest.fixture
def of(reading):
    """Read one record."""
    return lambda record, **settings: reading("a.jsonl", json.dumps(record).encode(), **settings)


def test_messages_keep_their_roles_and_order(of):
    chat = [{"role": "system", "content": "Be kind."}, *CHAT, {"role": "tool", "content": "42"}, CHAT[1]]
    assert of({"messages": chat}).turns == [[("system", "Be kind."), *TURNS, ("tool", "42"), TURNS[1]]]


def test_the_id_of_a_row_is_the_hash_of_its_messages(of):
    (row,) = of({"messages": CHAT}).rows
    assert row.row_id == content_id([Message("user", "Hi"), Message("assistant", "Hello")])


def test_instruction_and_input_are_one_prompt_with_an_empty_line_between(of):
    assert of({"instruction": "Add", "input": "1 2", "output": "3"}).turns == [
        [("user", "Add\n\n1 2"), ("assistant", "3")]
    ]


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"input": None}, {"input": "  "}])
def test_an_instruction_without_input_stands_alone(of, more):
    assert of({"instruction": "Hi", "output": "Hello", **more}).turns == [TURNS]


def test_prompt_and_completion_are_2_turns(of):
    assert of({"prompt": "Hi", "completion": "Hello", "id": 7}).turns == [TURNS]


def test_mapped_columns_win_over_a_known_shape(of):
    record = {"messages": CHAT, "q": "1", "more": "2", "a": "3", "s": "4"}
    got = of(record, map={"prompt": "q", "input": "more", "answer": "a", "system": "s"})
    assert got.turns == [[("system", "4"), ("user", "1\n\n2"), ("assistant", "3")]]


def test_a_map_of_ids_alone_leaves_the_shape(of):
    (row,) = of({"messages": CHAT, "who": "u1"}, map={"user": "who"}).rows
    assert (row.user, len(row.messages)) == ("u1", 2)


MAP = {"prompt": "q", "answer": "a", "user": "who", "time": "at", "conversation": "talk", "feedback": "thumb"}


def test_a_record_of_another_file_keeps_the_guessed_keys_beside_a_map(of):
    chat = {"messages": CHAT, "user_id": "u1", "timestamp": "2026-01-31", "session_id": 7, "liked": True}
    (row,) = of(chat, map=MAP).rows
    assert (row.user, row.time, row.conversation, row.liked) == ("u1", "2026-01-31", "7", True)


def test_a_record_of_another_file_that_has_one_mapped_column_takes_that_and_guesses_the_rest(of):
    (row,) = of({"messages": CHAT, "who": "u2", "user": "u1", "time": "2026-01-31"}, map=MAP).rows
    assert (row.user, row.time) == ("u2", "2026-01-31")


def test_a_record_read_by_the_map_is_not_searched_for_the_keys_that_the_map_names_otherwise(of):
    (row,) = of({"q": "Hi", "a": "Hello", "user": "an agent", "timestamp": "x", "liked": True}, map=MAP).rows
    assert (row.user, row.time, row.liked) == (None, None, None)


def test_a_system_key_becomes_the_first_turn(of):
    assert of({"system": "Be kind.", "messages": CHAT}).turns == [[("system", "Be kind."), *TURNS]]


def test_the_fixed_system_prompt_goes_to_a_row_that_has_none(of):
    assert of({"messages": CHAT}, system="Be brief.").turns == [[("system", "Be brief."), *TURNS]]


def test_the_fixed_system_prompt_never_replaces_one(of):
    assert of({"system": "Be kind.", "messages": CHAT}, system="Be brief.").turns[0][0] == ("system", "Be kind.")


def test_text_parts_are_put_together_without_a_space(of):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "value": "lo"}]
    assert of({"messages": [CHAT[0], {"role": "assistant", "content": parts}]}).turns == [TURNS]


REFUSED = {
    "no known key": ({"question": "x"}, "no known shape"),
    "an empty object": ({}, "no known shape"),
    "a prompt without completion": ({"prompt": "x"}, "no known shape"),
    "messages as a string": ({"messages": "Hi"}, "wrong type"),
    "messages of null": ({"messages": None}, "wrong type"),
    "no message": ({"messages": []}, "empty messages"),
    "a turn that is a string": ({"messages": ["Hi"]}, "wrong type"),
    "a turn without role": ({"messages": [{"content": "Hi"}]}, "missing role"),
    "a turn that is only a name": ({"messages": [{"name": "Jo", "content": "Hi"}]}, "missing role"),
    "a role that is a number": ({"messages": [{"role": 1, "content": "Hi"}]}, "wrong type"),
    "a role that is not known": ({"messages": [{"role": "human", "content": "Hi"}]}, "unknown role"),
    "a role in capitals": ({"messages": [{"role": "User", "content": "Hi"}]}, "unknown role"),
    "a turn without content": ({"messages": [{"role": "user"}]}, "missing content"),
    "content of null": ({"messages": [{"role": "user", "content": None}]}, "wrong type"),
    "content that is a number": ({"messages": [{"role": "user", "content": 7}]}, "wrong type"),
    "content with a picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "wrong type"),
    "content of no parts": ({"messages": [{"role": "user", "content": []}]}, "empty turn"),
    "an empty user turn": ({"messages": [{"role": "user", "content": ""}, CHAT[1]]}, "empty turn"),
    "an empty answer": ({"messages": [CHAT[0], {"role": "assistant", "content": ""}]}, "empty answer"),
    "an answer of white space": ({"prompt": "Hi", "completion": " \n\t\u2003"}, "empty answer"),
    "an earlier answer empty": ({"messages": [CHAT[0], {"role": "assistant", "content": ""}, *CHAT]}, "empty answer"),
    "an empty instruction": ({"instruction": "", "input": "", "output": "x"}, "empty turn"),
    "no assistant turn": ({"messages": [CHAT[0]]}, "no assistant turn"),
    "an answer that is a number": ({"prompt": "Hi", "completion": 7}, "wrong type"),
    "an instruction that is a list": ({"instruction": ["Hi"], "output": "x"}, "wrong type"),
    "an input that is a number": ({"instruction": "Hi", "input": 7, "output": "x"}, "wrong type"),
    "a system key that is a list": ({"system": [], "messages": CHAT}, "wrong type"),
    "two system prompts": ({"system": "a", "messages": [{"role": "system", "content": "b"}, *CHAT]}, "unsupported key"),
    "an earlier history": ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "unsupported key"),
    "an answer of weight 0": ({"messages": [CHAT[0], {**CHAT[1], "weight": 0}]}, "turn weight"),
    "an answer of weight 0.5": ({"messages": [CHAT[0], {**CHAT[1], "loss_weight": 0.5}]}, "turn weight"),
}


@pytest.mark.parametrize(("record", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_record_is_refused_with_its_reason(of, record, reason):
    got = of(record)
    assert (got.reasons, got.rows) == ([(1, reason)], [])
    assert got.rejected[0].detail


def test_the_developer_of_newer_apis_is_the_system(of):
    assert of({"messages": [{"role": "developer", "content": "Be kind."}, *CHAT]}).turns[0][0] == ("system", "Be kind.")


def test_an_empty_history_and_a_user_turn_of_weight_0_are_no_reason_to_refuse(of):
    assert of({"history": [], "messages": [{**CHAT[0], "weight": 0}, {**CHAT[1], "weight": 1}]}).turns == [TURNS]


def test_the_keys_that_were_found_and_those_that_are_known_are_named(of):
    detail = of({"question": "x", "reply": "y"}).rejected[0].detail
    assert detail == (
        "found question, reply; known are chosen + rejected; request + response; messages + choices; messages; "
        "conversations; instruction + output; prompt + completion; message_tree_id + prompt; replies, "
        "or name the columns in ingest.map"
    )


def test_a_mapped_key_that_a_record_lacks_is_missing_there_and_no_error_for_the_file(reading):
    got = reading("a.jsonl", b'{"q":"1","a":"2"}\n{"q":"1"}\n{"a":"2"}', map={"prompt": "q", "answer": "a"})
    assert (len(got.rows), got.reasons) == (1, [(2, "missing key"), (3, "missing key")])


def test_a_detail_with_a_key_of_10000_characters_is_cut_at_2000(of):
    assert len(of({"k" * 10_000: 1}).rejected[0].detail) == 2_000


@pytest.mark.parametrize("key", ["conversation", "conversation_id", "session_id"])
def test_a_conversation_is_known_by_3_keys(of, key):
    assert of({"messages": CHAT, key: "c1"}).rows[0].conversation == "c1"


@pytest.mark.parametrize("key", ["user", "user_id", "customer_id"])
def test_a_user_is_known_by_3_keys_and_an_integer_becomes_digits(of, key):
    assert of({"messages": CHAT, key: 17}).rows[0].user == "17"


@pytest.mark.parametrize("key", ["time", "timestamp", "created_at"])
def test_a_time_is_known_by_3_keys_and_kept_as_it_was_written(of, key):
    assert of({"messages": CHAT, key: "2026-01-02T03:04:05+02:00"}).rows[0].time == "2026-01-02T03:04:05+02:00"


def test_the_first_key_that_has_a_value_is_taken(of):
    (row,) = of({"messages": CHAT, "user_id": "b", "customer_id": "c", "user": None}).rows
    assert row.user == "b"


@pytest.mark.parametrize("stamp", [1760831008, 1760831008000, 1760831008000000, 1760831008000000000, 1760831008.0])
def test_seconds_milli_micro_and_nanoseconds_become_the_same_iso_time(of, stamp):
    assert of({"messages": CHAT, "timestamp": stamp}).rows[0].time == "2025-10-18T23:43:28.000000+00:00"


@pytest.mark.parametrize("value", [{"id": 5}, ["a"], True, 1.5, 123456789012345678901234])
def test_an_id_of_another_type_is_passed_over_and_counted(of, value):
    got = of({"messages": CHAT, "user": value})
    assert (got.rows[0].user, got.counts.ids_passed_over) == (None, 1)


@pytest.mark.parametrize("value", [{"id": 5}, True, -1])
def test_a_time_that_is_none_is_passed_over_and_counted(of, value):
    got = of({"messages": CHAT, "time": value})
    assert (got.rows[0].time, got.counts.ids_passed_over) == (None, 1)


def test_a_mapped_id_of_another_type_is_refused(of):
    assert of({"messages": CHAT, "who": {"id": 5}}, map={"user": "who"}).reasons == [(1, "wrong type")]


def test_a_column_that_is_mapped_as_the_prompt_is_not_also_taken_as_the_user(of):
    (row,) = of({"user": "Hi", "bot": "Hello"}, map={"prompt": "user", "answer": "bot"}).rows
    assert (row.user, row.messages[0].content) == (None, "Hi")


def test_records_with_other_keys_than_the_one_before_are_known_by_their_own(reading):
    asked = {"prompt": "Hi", "completion": "Hello"}
    records = [{**asked, **ids} for ids in ({"user": "a"}, {"user_id": "b", "time": 3_599}, {}, {"user": "c"})]
    got = reading("a.jsonl", "\n".join(map(json.dumps, records)).encode())
    assert [row.user for row in got.rows] == ["a", "b", None, "c"]
    assert got.rows[1].time == "1970-01-01T00:59:59.000000+00:00"
