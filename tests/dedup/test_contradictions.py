"""What becomes of rows that ask the same and answer otherwise."""

from random import Random

import pytest

from tests.dedup.conftest import Clean, deduplicate
from tunemill.dedup.contradictions import Contradicting
from tunemill.dedup.settings import ContradictionRule, DeduplicateSettings
from tunemill.rows import Message, Row, make_row

RULES: tuple[ContradictionRule, ...] = ("keep", "newest", "majority", "drop")
FAR = "and quite another text that nobody would take for it, number"


def row(asked: str, answer: str, line: int = 1, source: str = "a", **known: str) -> Row:
    return make_row([Message("user", asked), Message("assistant", answer)], source * 64, line, **known)


def resolved(rows: list[Row], rule: ContradictionRule) -> Clean:
    """Resolve, with nothing but equal text counting as a duplicate."""
    return deduplicate(rows, DeduplicateSettings(contradictions=rule, near=False))


def contradicting(rows: list[Row]) -> list[list[int]]:
    """Give the places of the rows of each prompt with more than one answer."""
    found: dict[str, list[int]] = {}
    for one in resolved(rows, "keep").contradictions:
        places = [i for i, row in enumerate(rows) if (row.row_id, row.line) == (one.row_id, one.line)]
        found.setdefault(one.prompt_id, []).extend(places)
    return [sorted(places) for places in found.values()]


def outcomes(found: Clean) -> dict[int, str]:
    return {one.line: one.outcome for one in found.contradictions}


def the(found: Clean, line: int) -> Contradicting:
    [one] = [one for one in found.contradictions if one.line == line]
    return one


YES, NO = row("Is it open?", "Yes.", 1, time="2026-01-01"), row("is it OPEN", "No.", 2, time="2026-02-01")


@pytest.mark.parametrize(
    ("rule", "kept", "dropped"), [("keep", [1, 2], 0), ("newest", [2], 1), ("majority", [2], 1), ("drop", [], 2)]
)
def test_each_rule_keeps_its_own_of_an_older_yes_and_a_newer_no(
    rule: ContradictionRule, kept: list[int], dropped: int
) -> None:
    found = resolved([YES, NO], rule)
    assert ([one.line for one in found.kept], found.dropped) == (kept, dropped)


def test_a_dropped_row_is_listed_with_its_place_time_answer_and_what_stays() -> None:
    assert the(resolved([YES, NO], "newest"), 1) == Contradicting(
        prompt_id=the(resolved([NO, YES], "keep"), 2).prompt_id,
        row_id=YES.row_id,
        source="a" * 64,
        line=1,
        time="2026-01-01",
        prompt="Is it open?",
        answer="Yes.",
        outcome="dropped",
        stays_row_id=NO.row_id,
        stays_source="a" * 64,
        stays_line=2,
        why="not the answer of the newest row (the newest, of 2026-02-01)",
    )


def test_what_most_rows_answer_stays_and_its_copies_are_duplicates() -> None:
    rows = [row("Is it open?", answer, line) for line, answer in enumerate(["No.", "Yes.", "no", "Maybe."], 1)]
    found = resolved(rows, "majority")
    assert outcomes(found) == {1: "kept", 2: "dropped", 3: "duplicate", 4: "dropped"}
    assert the(found, 2).why == "not the answer of 2 of 4 rows"
    assert the(found, 4).stays_line == 1
    assert [duplicate.line for duplicate in found.duplicates] == [3]


def test_of_two_answers_with_two_rows_each_the_one_with_the_newest_row_stays() -> None:
    times = {1: "2026-01-04", 2: "2026-01-02", 3: "2026-01-01", 4: "2026-01-03"}
    rows = [row("Is it open?", "No." if line in (1, 3) else "Yes.", line, time=time) for line, time in times.items()]
    found = resolved(rows, "majority")
    assert outcomes(found) == {1: "duplicate", 2: "dropped", 3: "kept", 4: "dropped"}
    assert the(found, 2).why == "not the answer of 2 of 4 rows; of 2 answers with as many, it has the newest row"


def test_a_row_without_a_time_is_older_than_any_that_has_one() -> None:
    found = resolved([row("Is it open?", "Yes.", 9), row("Is it open?", "No.", 1, time="1999-01-01")], "newest")
    assert outcomes(found) == {1: "kept", 9: "dropped"}


def test_without_any_time_the_file_with_the_larger_digest_and_then_the_later_line_is_the_newer() -> None:
    rows = [row("Is it open?", answer, line, source) for answer, line, source in (("A", 7, "b"), ("B", 9, "a"))]
    assert [one.answer for one in resolved(rows, "newest").kept] == ["A"]
    later = row("Is it open?", "C", 8, "b")
    found = resolved([*rows, later], "newest")
    assert [one.answer for one in found.kept] == ["C"]
    assert the(found, 7).why.endswith("(no row has a time; the last by file digest and line)")


def test_another_system_turn_or_an_earlier_answer_makes_another_question() -> None:
    system = make_row([Message("system", "You are closed."), *NO.messages], "a" * 64, 3)
    talked = [Message("user", "Hello"), Message("assistant", "Which shop?"), *NO.messages]
    assert contradicting([YES, system, make_row(talked, "a" * 64, 4)]) == []


def test_what_a_user_says_after_the_last_answer_asks_nothing() -> None:
    thanks = make_row([*NO.messages, Message("user", "Thanks!")], "a" * 64, 3)
    assert contradicting([YES, thanks]) == [[0, 1]]


def test_answers_that_differ_in_case_and_punctuation_alone_agree() -> None:
    assert contradicting([YES, row("Is it open", "YES!", 2)]) == []


@pytest.mark.parametrize("silent", [[], [Message("user", " \n")], [Message("system", "Say a number.")]])
def test_rows_in_which_no_user_says_a_word_contradict_nothing(silent: list[Message]) -> None:
    assert contradicting([make_row([*silent, Message("assistant", text)], "a" * 64, 1) for text in ("1", "2")]) == []


def test_the_same_question_in_fullwidth_letters_and_with_a_ligature_is_found() -> None:
    assert contradicting([row("Is the office open?", "Yes."), row("\uff29\uff33 the o\ufb03ce open", "No.", 2)]) == [
        [0, 1]
    ]


@pytest.mark.parametrize("rule", RULES)
def test_every_row_is_kept_or_a_duplicate_or_dropped_in_any_order(rule: ContradictionRule) -> None:
    draw = Random(3)
    rows = [
        row(f"{draw.randrange(40)} {FAR}", draw.choice("ABC"), line, time=draw.choice(["2026-01-01", "2026-01-02", ""]))
        for line in range(600)
    ]
    found = deduplicate(rows, DeduplicateSettings(contradictions=rule))
    dropped = [one.line for one in found.contradictions if one.outcome == "dropped"]
    named = [*(one.line for one in found.kept), *(one.line for one in found.duplicates), *dropped]
    assert sorted(named) == list(range(600))
    assert {one.kept_line for one in found.duplicates} <= {one.line for one in found.kept}
    stays = {one.stays_line for one in found.contradictions if one.stays_line is not None}
    assert stays <= {one.line for one in found.kept}
    assert len(found.contradictions) > 500
    assert deduplicate(draw.sample(rows, 600), DeduplicateSettings(contradictions=rule)) == found


def test_a_rule_leaves_one_answer_to_each_prompt() -> None:
    rows = [row(f"{line % 9} {FAR}", f"answer {line % 4}", line) for line in range(100)]
    for rule in ("newest", "majority"):
        assert contradicting(resolved(rows, rule).kept) == []


def test_the_next_oldest_row_of_a_cluster_stays_where_the_oldest_is_dropped() -> None:
    old, new = row(f"Is the shop open {FAR} 1", "No", 1), row(f"Is the shop open {FAR} 1", "Yes", 2)
    twin = row(f"Is the shop open {FAR} l", "No", 3)
    found = deduplicate([old, new, twin], DeduplicateSettings(contradictions="newest"))
    assert ([one.line for one in found.kept], outcomes(found)) == ([2], {1: "dropped", 2: "kept"})
    assert [(one.line, one.kept_line) for one in found.duplicates] == [(3, 2)]


def test_the_contradiction_of_banking77_is_found_though_its_rows_are_near_duplicates(banking: list[Row]) -> None:
    found = deduplicate(banking, DeduplicateSettings())
    assert [(one.line, one.prompt, one.answer) for one in found.contradictions] == [
        (2004, "Has my top up gone through?", "pending_top_up"),
        (3162, "Has my top-up gone through?", "top_up_reverted"),
    ]
    assert outcomes(found) == {2004: "duplicate", 3162: "kept"}


@pytest.mark.parametrize(("rule", "kept"), [("keep", 8837), ("newest", 8837), ("majority", 8837), ("drop", 8836)])
def test_each_rule_leaves_8837_rows_of_banking77_or_one_less(
    banking: list[Row], rule: ContradictionRule, kept: int
) -> None:
    found = deduplicate(banking, DeduplicateSettings(contradictions=rule))
    assert len(found.kept) == kept
    assert len(found.kept) + len(found.duplicates) + found.dropped == 10_003


def calling(number: int, line: int, tools: str | None = None) -> Row:
    call = f'[{{"id":"call00001","name":"sum","arguments":{{"by":{number}}}}}]'
    return make_row([Message("user", "Add."), Message("assistant", "", call)], "a" * 64, line, tools=tools)


def test_calls_with_another_argument_contradict_each_other_and_the_same_calls_do_not() -> None:
    assert contradicting([calling(5, 1), calling(-5, 2)]) == [[0, 1]]
    assert contradicting([calling(5, 1), calling(5, 2)]) == []


def test_the_same_prompt_with_other_tools_asks_something_else() -> None:
    assert contradicting([calling(5, 1, tools='[{"name":"a"}]'), calling(6, 2, tools='[{"name":"b"}]')]) == []
