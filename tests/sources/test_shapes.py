"""ShareGPT, preference pairs, thumbs and conversation trees: what becomes of each."""

import json

import pytest

TURNS = [("user", "Hi"), ("assistant", "Hello")]
HUMAN = [{"from": "human", "value": "Hi"}]
USER, BETTER, WORSE = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "assistant", "content": "Go away"},
)
CHAT = [USER, BETTER]


@pytest.fixture
def of(reading):
    """Read one record."""
    return lambda record, **settings: reading("a.jsonl", json.dumps(record).encode(), **settings)


def judged(reading):
    (row,) = reading.rows
    return [(m.role, m.content) for m in row.messages], [(m.role, m.content) for m in row.rejected or ()], row.liked


def test_a_sharegpt_chat_has_the_roles_of_its_speakers(of):
    names = ["system", "human", "gpt", "observation", "chatgpt", "user", "assistant"]
    turns = [{"from": name, "value": f"{n}"} for n, name in enumerate(names)]
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert of({"conversations": turns}).turns == [[(role, f"{n}") for n, role in enumerate(roles)]]


def test_conversations_may_also_be_written_with_role_and_content(of):
    assert of({"conversations": CHAT}).turns == of({"messages": CHAT}).turns == [TURNS]


def test_a_sharegpt_system_prompt_may_stand_beside_the_chat(of):
    record = {"system": "Be kind.", "conversations": [*HUMAN, {"from": "gpt", "value": "Hello"}], "tools": "[]"}
    assert of(record).turns == [[("system", "Be kind."), *TURNS]]


SHAREGPT_REFUSED = {
    "an unknown speaker": ([*HUMAN, {"from": "ghost", "value": "Boo"}], "unknown role"),
    "a speaker that is a number": ([{"from": 1, "value": "Boo"}], "wrong type"),
    "a turn without value": ([{"from": "human"}], "missing content"),
    "a function call": ([*HUMAN, {"from": "function_call", "value": "{}"}], "broken call"),
    "no answer": (HUMAN, "no assistant turn"),
    "an empty list": ([], "empty messages"),
    "a string": ("Hi", "wrong type"),
    "an answer of weight 0": ([*HUMAN, {"from": "gpt", "value": "Hello", "weight": 0}], "turn weight"),
}


@pytest.mark.parametrize(("turns", "reason"), SHAREGPT_REFUSED.values(), ids=SHAREGPT_REFUSED.keys())
def test_a_sharegpt_chat_is_refused_with_its_reason(of, turns, reason):
    assert of({"conversations": turns}).reasons == [(1, reason)]


PAIRS = {
    "texts": {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
    "an instruction": {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "Go away"},
    "ShareGPT turns": {
        "conversations": HUMAN,
        "chosen": {"from": "gpt", "value": "Hello"},
        "rejected": {"from": "gpt", "value": "Go away"},
    },
    "lists after a list": {"prompt": [USER], "chosen": [BETTER], "rejected": [WORSE]},
    "lists after messages": {"messages": [USER], "chosen": [BETTER], "rejected": [WORSE]},
    "lists that begin with the prompt": {"chosen": CHAT, "rejected": [USER, WORSE]},
    "lists that repeat the prompt": {"prompt": "Hi", "chosen": CHAT, "rejected": [USER, WORSE]},
}


@pytest.mark.parametrize("record", PAIRS.values(), ids=PAIRS.keys())
def test_a_preference_pair_trains_on_the_chosen_answer_and_keeps_the_other(of, record):
    assert judged(of(record)) == (TURNS, [("assistant", "Go away")], None)


NO_PAIR = {
    "the same answer twice": ({"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"}, "no preference"),
    "an empty answer that lost": ({"prompt": "Hi", "chosen": "Hello", "rejected": " "}, "no preference"),
    "an empty answer that won": ({"prompt": "Hi", "chosen": "", "rejected": "Hello"}, "no preference"),
    "one that goes on where the other ends": ({"chosen": [*CHAT, USER, BETTER], "rejected": CHAT}, "no preference"),
    "one that ends with a question": ({"chosen": [*CHAT, USER], "rejected": CHAT}, "no preference"),
    "no prompt": ({"chosen": "Hello", "rejected": "Go away"}, "missing key"),
    "an answer that is a number": ({"prompt": "Hi", "chosen": 1, "rejected": "Go away"}, "wrong type"),
    "an answer of null": ({"prompt": "Hi", "chosen": None, "rejected": "Go away"}, "wrong type"),
}


@pytest.mark.parametrize(("record", "reason"), NO_PAIR.values(), ids=NO_PAIR.keys())
def test_what_is_no_pair_is_refused_with_its_reason(of, record, reason):
    assert of(record).reasons == [(1, reason)]


@pytest.mark.parametrize("key", ["kto_tag", "thumbs_up", "liked", "feedback", "label"])
@pytest.mark.parametrize("shape", [{"messages": CHAT}, {"prompt": "Hi", "completion": "Hello"}])
def test_a_thumb_down_is_rejected_under_each_of_5_keys_and_a_thumb_up_kept(of, key, shape):
    assert of({**shape, key: False}).reasons == [(1, "thumbs down")]
    assert judged(of({**shape, key: True})) == (TURNS, [], True)


def test_a_thumb_down_that_is_kept_says_so(of):
    assert judged(of({"messages": CHAT, "label": False}, thumbs_down="keep")) == (TURNS, [], False)


@pytest.mark.parametrize("said", ["thumbs_down", "Down", "negative", 0, -1, -1.0, "false", "0", "-1", "👎"])
def test_a_thumb_down_is_known_in_10_spellings(of, said):
    assert of({"messages": CHAT, "feedback": said}).reasons == [(1, "thumbs down")]


@pytest.mark.parametrize("said", [None, ""])
def test_feedback_that_is_empty_is_no_thumb(of, said):
    got = of({"messages": CHAT, "feedback": said})
    assert (got.rows[0].liked, got.counts.feedback_unread) == (None, 0)


@pytest.mark.parametrize("said", ["could be shorter", 5, {"stars": 1}, ["down"]])
def test_feedback_that_is_no_thumb_is_counted(of, said):
    got = of({"messages": CHAT, "feedback": said})
    assert (got.rows[0].liked, got.counts.feedback_unread) == (None, 1)


@pytest.mark.parametrize("label", ["sports", 0, 1, -1, "0", None])
def test_a_label_that_is_a_class_is_no_thumb(of, label):
    got = of({"messages": CHAT, "label": label})
    assert (got.rows[0].liked, got.counts.feedback_unread) == (None, 0)


def test_a_column_that_is_mapped_as_the_answer_is_not_also_taken_as_the_thumb(of):
    got = of({"q": "Is it?", "label": "false"}, map={"prompt": "q", "answer": "label"})
    assert judged(got) == ([("user", "Is it?"), ("assistant", "false")], [], None)


def test_a_mapped_column_of_thumbs_takes_the_place_of_all_guesses(of):
    record = {"prompt": "Hi", "completion": "Hello", "label": False, "rating": "up"}
    assert of(record, map={"feedback": "rating"}).rows[0].liked is True
    assert of({**record, "rating": "5 stars"}, map={"feedback": "rating"}).reasons == [(1, "wrong type")]


def test_a_csv_of_thumbs_is_read(reading):
    got = reading("a.csv", b"prompt,completion,label\nHi,Hello,True\nHi,Go away,False\nHi,Hey,\n")
    assert ([row.liked for row in got.rows], got.reasons) == ([True, None], [(3, "thumbs down")])


def test_lists_of_turns_as_prompt_and_completion_are_one_conversation(of):
    assert of({"prompt": [USER], "completion": [BETTER]}).turns == [TURNS]


def node(role, text, *replies, **more):
    return {"role": role, "text": text, "replies": list(replies), **more}


def test_a_tree_gives_the_path_of_its_best_ranked_replies(of):
    tree = node(
        "prompter", "Hi",
        node("assistant", "Go away", node("prompter", "Why?"), rank=1),
        node("assistant", "Hello", node("prompter", "Bye", node("assistant", "Bye!", rank=0)), rank=0),
        node("assistant", "Hey"),
    )  # fmt: skip
    got = of({"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": tree})
    assert got.turns == [[*TURNS, ("user", "Bye"), ("assistant", "Bye!")]]
    assert got.counts.other_answers == 2


def test_replies_without_a_rank_are_taken_in_the_order_of_the_file(of):
    got = of(node("user", "Hi", node("assistant", "Hello"), node("assistant", "Go away")))
    assert got.turns == [TURNS]


def test_a_deleted_reply_is_passed_over_though_it_ranks_first(of):
    bad = node("assistant", "Go away", rank=0, deleted=True)
    assert of(node("user", "Hi", bad, node("assistant", "Hello", rank=1))).turns == [TURNS]


def test_what_follows_the_last_answer_of_the_path_is_left_off(of):
    assert of(node("user", "Hi", node("assistant", "Hello", node("user", "Thanks")))).turns == [TURNS]


def test_a_tree_of_100_levels_is_one_row_of_100_turns(of):
    tree = node("assistant", "end")
    for level in range(99):
        tree = node("user" if level % 2 == 0 else "assistant", f"{level}", tree)
    assert len(of(tree).turns[0]) == 100


TREES_REFUSED = {
    "no answer": (node("user", "Hi"), "no assistant turn"),
    "a reply that is a string": (node("user", "Hi", "Hello"), "wrong type"),
    "replies that are a number": ({"role": "user", "text": "Hi", "replies": 7}, "wrong type"),
    "a reply without role": (node("user", "Hi", {"text": "Hello"}), "missing role"),
    "a reply without text": (node("user", "Hi", {"role": "assistant"}), "missing content"),
    "a root that is null": ({"message_tree_id": "t", "prompt": None}, "no assistant turn"),
    "a flat message without its tree": (
        {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "x"},
        "missing parent",
    ),
}


@pytest.mark.parametrize(("record", "reason"), TREES_REFUSED.values(), ids=TREES_REFUSED.keys())
def test_a_tree_is_refused_with_its_reason(of, record, reason):
    assert of(record).reasons == [(1, reason)]


def test_5_shapes_in_one_file_are_5_rows_and_a_sixth_is_rejected_at_its_line(reading):
    records = [
        {"messages": CHAT},
        {"conversations": [*HUMAN, {"from": "gpt", "value": "Hello"}]},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
        {"text": "Hi"},
        {"request": {"messages": [USER]}, "response": {"choices": [{"message": BETTER}]}},
        node("user", "Hi", node("assistant", "Hello")),
    ]
    got = reading("a.jsonl", b"\n".join(json.dumps(record).encode() for record in records))
    assert (got.turns, got.reasons) == ([TURNS] * 5, [(4, "no known shape")])
