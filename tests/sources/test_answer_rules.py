"""Rules of the YAML on what an answer must look like."""

import json

import pytest

ONE_CLASS = {"not_matches": r"^\[\[[^\[\]]+\]\]$", "reason": "not one [[class]]"}


@pytest.fixture
def of(reading):
    """Read questions and answers, one a line, under some rules."""

    def read(*pairs, rules):
        lines = (json.dumps({"prompt": asked, "completion": said}).encode() for asked, said in pairs)
        return reading("a.jsonl", b"\n".join(lines), answer_rules=rules)

    return read


def test_an_answer_that_does_not_match_is_rejected_with_the_reason_of_the_rule(of):
    got = of(("a", "[[guidance]]"), ("b", "[[[[guidance]]]]"), ("c", "guidance"), rules=[ONE_CLASS])
    assert (got.reasons, len(got.rows)) == ([(2, "not one [[class]]"), (3, "not one [[class]]")], 1)
    assert got.rejected[0].detail == "the answer is '[[[[guidance]]]]'"


def test_an_answer_that_matches_what_it_must_not_is_rejected(of):
    got = of(("a", "As an AI model, I"), ("b", "Yes"), rules=[{"matches": "(?i)as an ai", "reason": "talks of itself"}])
    assert got.reasons == [(1, "talks of itself")]


def test_the_first_of_2_broken_rules_is_the_reason(of):
    rules = [{"matches": "x", "reason": "first"}, {"matches": "y", "reason": "second"}]
    assert of(("a", "xy"), ("b", "y"), rules=rules).reasons == [(1, "first"), (2, "second")]


def test_a_rule_holds_only_where_the_prompt_asks_for_the_format(of):
    rule = {**ONE_CLASS, "prompt_matches": "double square brackets"}
    got = of(("Classify, in double square brackets", "guidance"), ("Classify", "guidance"), rules=[rule])
    assert got.reasons == [(1, "not one [[class]]")]


def test_the_answer_is_the_last_one_and_the_prompt_all_that_stands_before_it(reading):
    turns = [("user", "Use brackets"), ("assistant", "no"), ("user", "Once more"), ("assistant", "[[yes]]")]
    data = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}).encode()
    rule = {**ONE_CLASS, "prompt_matches": "brackets"}
    assert len(reading("a.jsonl", data, answer_rules=[rule]).rows) == 1
    assert reading("a.jsonl", data.replace(b"[[yes]]", b"yes"), answer_rules=[rule]).reasons == [
        (1, "not one [[class]]")
    ]
