"""OpenAssistant's flat export, one message a line: what becomes a row, and that no message is lost."""

import json
import random

import pytest

from tunemill.rows import Row
from tunemill.sources import FileCounts, read
from tunemill.sources.settings import IngestSettings

HI = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hi", "user_id": "u1"}
HELLO = {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Hello", "rank": 1}
HEY = {"message_id": "3", "parent_id": "1", "role": "assistant", "text": "Hey", "rank": 0}
BYE = {"message_id": "4", "parent_id": "3", "role": "prompter", "text": "Bye"}
SEE_YOU = {"message_id": "5", "parent_id": "4", "role": "assistant", "text": "See you"}
TREE = [HI, HELLO, HEY, BYE, SEE_YOU]
TURNS = [("user", "Hi"), ("assistant", "Hey"), ("user", "Bye"), ("assistant", "See you")]
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hey"}]}


@pytest.fixture
def of(reading):
    """Read records, one a line."""
    return lambda *records, **settings: reading("a.jsonl", "\n".join(map(json.dumps, records)).encode(), **settings)


def nested(messages):
    """Nest the messages of one tree, the root first."""
    nodes = {one["message_id"]: {**one, "replies": []} for one in messages}
    for one in messages[1:]:
        nodes[one["parent_id"]]["replies"].append(nodes[one["message_id"]])
    return nodes[messages[0]["message_id"]]


def test_5_messages_are_one_row_at_the_line_of_the_root_by_the_path_of_the_best_rank(of):
    got = of(*TREE)
    assert (got.turns, [row.line for row in got.rows], got.rejected) == ([TURNS], [1], [])
    assert (got.counts.records, got.counts.joined, got.counts.other_answers) == (1, 4, 1)


def test_the_row_knows_who_wrote_the_root(of):
    assert of(*TREE).rows[0].user == "u1"


def test_a_flat_tree_gives_the_row_and_counts_of_the_nested_one(of):
    flat, deep = of(*TREE), of(nested(TREE))
    assert flat.rows == deep.rows and flat.counts.other_answers == deep.counts.other_answers


def test_300_random_trees_give_the_rows_of_the_nested_ones_in_any_order_of_their_messages(of):
    chance, trees = random.Random(5), []
    for tree in range(300):
        messages = [{**HI, "message_id": f"{tree}.0", "text": f"Hi {tree}"}]
        for number in range(1, chance.randrange(1, 12)):
            parent = chance.choice(messages)
            role = "prompter" if parent["role"] == "assistant" else "assistant"
            more = chance.choice([{}, {"rank": chance.randrange(3)}, {"deleted": True}])
            about = {"message_id": f"{tree}.{number}", "parent_id": parent["message_id"], "role": role}
            messages.append({**about, "text": f"{number} of {tree}", **more})
        trees.append(messages)
    lines = [one for messages in trees for one in messages]
    order = sorted(range(len(lines)), key=lambda number: (lines[number]["message_id"].split(".")[1] != "0", number))
    deep, flat, apart = of(*map(nested, trees)), of(*lines), of(*(lines[number] for number in order))
    ids = [row.row_id for row in deep.rows]
    assert 150 < len(ids) == len(deep.rows) and len(deep.rejected) > 0
    assert [row.row_id for row in flat.rows] == [row.row_id for row in apart.rows] == ids
    assert [one.reason for one in flat.rejected] == [one.reason for one in deep.rejected]
    assert flat.counts.records + flat.counts.joined == len(lines)


def test_a_root_that_names_no_parent_at_all_is_a_root_where_a_message_answers_it(of):
    bare = {key: value for key, value in HI.items() if key != "parent_id"}
    assert of(bare, *TREE[1:]).turns == [TURNS]
    assert of(bare).reasons == [(1, "no known shape")]


def test_ids_may_be_numbers_and_replies_may_stand_before_their_parent(of):
    numbers = [{**one, "message_id": int(one["message_id"])} for one in TREE]
    assert of(*reversed(numbers)).turns == [TURNS]


def test_a_message_whose_parent_is_missing_is_rejected_with_all_below_it(of):
    got = of({"messages": CHAT["messages"]}, HELLO, BYE, SEE_YOU, CHAT)
    assert got.reasons == [(2, "missing parent"), (3, "missing parent"), (4, "missing parent")]
    assert got.rejected[2].detail == "its tree hangs on `parent_id` 3, which is no message of this file"
    assert json.loads(got.rejected[2].text) == SEE_YOU
    assert [row.line for row in got.rows] == [1, 5]


def test_messages_whose_parents_lead_in_a_circle_are_rejected_with_all_below_them(of):
    circle = [{**BYE, "parent_id": "5"}, SEE_YOU, {**HELLO, "message_id": "6", "parent_id": "5"}]
    itself = {**BYE, "message_id": "7", "parent_id": "7"}
    assert of(*circle, itself, CHAT).reasons == [(line, "circular parents") for line in (1, 2, 3, 4)]


def test_a_second_message_of_the_same_id_is_rejected_and_the_first_stays(of):
    got = of(*TREE, {**HEY, "text": "Hey again"})
    assert (got.turns, got.reasons) == ([TURNS], [(6, "duplicate message")])


REFUSED = {
    "an id that is a list": ({**HELLO, "message_id": ["2"]}, "wrong type"),
    "no id": ({**HELLO, "message_id": None}, "wrong type"),
    "a parent that is a list": ({**HELLO, "parent_id": ["1"]}, "wrong type"),
    "no role and no text": ({"message_id": "2", "parent_id": "1"}, "no known shape"),
}


@pytest.mark.parametrize(("message", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_message_is_refused_with_its_reason(of, message, reason):
    assert of(*TREE[:1], *TREE[2:], message).reasons == [(5, reason)]


def test_a_tree_without_an_answer_is_one_rejected_record_with_all_of_its_text(of):
    got = of(HI, {**BYE, "parent_id": "1"}, {**HELLO, "deleted": True}, CHAT)
    assert (got.reasons, len(got.rows), got.counts.joined) == ([(1, "no assistant turn")], 1, 2)
    assert [reply["text"] for reply in json.loads(got.rejected[0].text)["replies"]] == ["Bye", "Hello"]


def test_broken_lines_and_chats_between_messages_keep_their_places(reading):
    lines = [json.dumps(CHAT), json.dumps(HI), "{", "", json.dumps(CHAT), *map(json.dumps, TREE[1:])]
    got = reading("a.jsonl", "\n".join(lines).encode())
    assert [found.line for found in got.all] == [1, 2, 3, 5]
    assert (got.reasons, got.turns[1]) == ([(3, "broken JSON")], TURNS)
    assert got.counts.records + got.counts.joined + got.counts.blank_lines == len(lines)


def test_a_file_that_is_cut_short_gives_its_trees_first(reading):
    got = reading("a.json", b"[" + ",".join(map(json.dumps, TREE)).encode() + b', {"a":')
    assert (got.turns, [reason for _, reason in got.reasons]) == ([TURNS], ["broken JSON array"])
    assert isinstance(got.all[0], Row)


def test_mapped_columns_are_read_by_the_map_whatever_ids_stand_beside_them(of):
    table = [{**one, "q": f"q{n}", "a": f"a{n}"} for n, one in enumerate(TREE)]
    assert len(of(*table, map={"prompt": "q", "answer": "a"}).rows) == 5


def test_a_map_for_other_files_leaves_trees_as_they_are(of):
    assert of(*TREE, map={"prompt": "q", "answer": "a", "time": "created_date"}).turns == [TURNS]


def test_a_chain_of_20000_messages_is_one_row_and_without_its_root_19999_rejected(of):
    roles = ("assistant", "prompter")
    chain = [{"message_id": n, "parent_id": n - 1 or None, "role": roles[n % 2], "text": "x"} for n in range(1, 20_001)]
    assert [len(row.messages) for row in of(*chain).rows] == [20_000]
    assert [one.reason for one in of(*chain[1:]).rejected] == ["missing parent"] * 19_999


def test_the_first_7_records_of_two_trees_are_one_tree_since_the_second_may_go_on(tmp_path):
    path = tmp_path / "a.jsonl"
    second = [{**one, "message_id": f"b{one['message_id']}", "parent_id": one["parent_id"] and f"b{one['parent_id']}"}
              for one in TREE]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, [*TREE, *second])))
    settings = IngestSettings(files="a.jsonl")
    assert [len(list(read(path, "d", settings, FileCounts(), first))) for first in (7, 10, None)] == [1, 2, 2]
