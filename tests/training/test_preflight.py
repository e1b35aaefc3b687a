import pytest

from tunemill.errors import DataError
from tunemill.models.chat import Encoded
from tunemill.rows import Message, make_row
from tunemill.training.data import examination, lesson, unit
from tunemill.training.preflight import (
    Preflight,
    TokenizedRow,
    TokenRules,
    count,
    fitting,
    marked_example,
    preflight,
    refuse,
    typical,
)
from tunemill.training.settings import TrainSettings

BOS, END = 1, 2
RULES = TokenRules(bos_id=BOS, end_ids=(END,), max_tokens=20)


def row(
    line: int = 1, prompt: tuple[int, ...] = (BOS, 10, 11), answer: tuple[int, ...] = (20, 21, END)
) -> TokenizedRow:
    made = make_row([Message("user", f"{line}"), Message("assistant", "a")], "abcdef" * 10 + "abcd", line)
    return TokenizedRow(made, Encoded([*prompt, *answer], [False] * len(prompt) + [True] * len(answer)), False)


def looked_at(*rows: TokenizedRow, settings: TrainSettings | None = None) -> Preflight:
    return preflight(rows, [], RULES, settings or TrainSettings(max_tokens=20, epochs=1))


def test_trained_tokens_are_counted_per_row() -> None:
    counts = count([row(1), row(2, answer=(20, END))], RULES)
    assert (counts.trained_tokens, counts.trained_min, counts.trained_mean, counts.trained_max) == (5, 2, 2.5, 3)


def test_every_answer_that_ends_its_turn_is_counted_once() -> None:
    two_turns = row(1, prompt=(BOS, 10), answer=(20, END))
    both = TokenizedRow(
        two_turns.row, Encoded([BOS, 10, 20, END, 11, 21, END], [False, False, True, True, False, True, True]), False
    )
    counts = count([both], RULES)
    assert (counts.answers, counts.ends) == (2, 2)


def test_a_row_that_trains_nothing_stops_the_run_and_is_named() -> None:
    with pytest.raises(DataError, match=r"1 of 2 training rows have no assistant token.*\n.*abcdefabcdef:17"):
        refuse(looked_at(row(1), row(17, answer=())), TrainSettings(max_tokens=20))


def test_an_answer_that_does_not_end_its_turn_stops_the_run() -> None:
    with pytest.raises(DataError, match="teach never to stop"):
        refuse(looked_at(row(1, answer=(20, 21))), TrainSettings(max_tokens=20))


def test_two_bos_tokens_at_the_start_stop_the_run() -> None:
    with pytest.raises(DataError, match="begin with two BOS tokens"):
        refuse(looked_at(row(1, prompt=(BOS, BOS, 10))), TrainSettings(max_tokens=20))


def test_one_bos_at_the_start_is_counted_and_passes() -> None:
    found = looked_at(row(1), row(2))
    refuse(found, TrainSettings(max_tokens=20))
    assert found.train.begin_with_bos == 2


def test_a_tokenizer_without_bos_has_none_to_count() -> None:
    counts = count([row(1)], TokenRules(bos_id=None, end_ids=(END,), max_tokens=20))
    assert (counts.begin_with_bos, counts.doubled_bos) == (0, [])


def test_a_row_too_long_stops_the_run_because_its_answer_would_be_cut() -> None:
    with pytest.raises(
        DataError, match=r"1 of 2 training rows are longer than train.max_tokens=20 \(the longest has 33"
    ):
        refuse(looked_at(row(1), row(2, prompt=(BOS,) + (10,) * 29)), TrainSettings(max_tokens=20))


def test_a_row_too_long_is_left_out_whole_where_its_share_is_allowed() -> None:
    rows = [row(1), row(2, prompt=(BOS,) + (10,) * 29)]
    allowed = TrainSettings(max_tokens=20, max_cut_answers=0.5)
    refuse(looked_at(*rows, settings=allowed), allowed)
    assert [kept.row.line for kept in fitting(rows, RULES)] == [1]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(DataError) as caught:
        refuse(looked_at(row(1, answer=()), row(2, answer=(20,))), TrainSettings(max_tokens=20))
    assert str(caught.value).count("training rows") == 2


def test_a_fault_of_a_validation_row_stops_the_run_as_well() -> None:
    found = preflight([row(1)], [row(3, answer=())], RULES, TrainSettings(max_tokens=20))
    with pytest.raises(DataError, match="1 of 1 validation rows"):
        refuse(found, TrainSettings(max_tokens=20))


def test_ten_places_are_named_and_the_others_counted() -> None:
    with pytest.raises(DataError, match=":9  abcdefabcdef:10  and 2 more"):
        refuse(looked_at(*(row(line, answer=()) for line in range(1, 13))), TrainSettings(max_tokens=20))


def test_nothing_left_to_train_on_is_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"none of 1 training rows fits into train.max_tokens=20; raise it"):
        looked_at(row(1, prompt=(10,) * 30))


def test_rows_that_the_stock_template_reads_otherwise_are_named_and_pass() -> None:
    found = looked_at(TokenizedRow(row(5).row, row(5).encoded, differs_from_stock=True))
    refuse(found, TrainSettings(max_tokens=20))
    assert found.train.differ_from_stock == ["abcdefabcdef:5"]


def test_the_plan_counts_packs_where_rows_are_packed() -> None:
    settings = TrainSettings(max_tokens=20, epochs=1, packing=True, batch_size=1, accumulation=1)
    assert looked_at(*(row(line) for line in range(9)), settings=settings).steps == 3


def test_the_example_marks_what_is_trained_and_nothing_else() -> None:
    assert marked_example(row(1), lambda ids: "".join(f"[{token}]" for token in ids)) == "[1][10][11]«[20][21][2]»"


def test_the_example_is_the_row_of_median_length() -> None:
    rows = [row(1), row(2, prompt=(BOS,)), row(3, prompt=(BOS, 10, 11, 12))]
    assert typical(rows).row.line == 1


def test_labels_are_the_trained_tokens_and_minus_100_elsewhere() -> None:
    assert unit(row(1)) == {"input_ids": [1, 10, 11, 20, 21, 2], "labels": [-100, -100, -100, 20, 21, 2]}


def test_a_pack_keeps_where_each_row_ends() -> None:
    settings = TrainSettings(max_tokens=20, packing=True, epochs=1)
    packed = lesson([row(1), row(2), row(3, prompt=(BOS,))], settings).units
    assert [one["seq_lengths"] for one in packed] == [[6, 6, 4]]


def test_the_tokens_of_each_step_add_up_to_those_of_all_rows() -> None:
    rows = [row(line, prompt=(BOS,) + (10,) * line) for line in range(1, 11)]
    assert sum(lesson(rows, TrainSettings(epochs=2, batch_size=3, accumulation=1)).step_tokens) == 2 * (55 + 10 * 4)


def test_validation_rows_stand_from_long_to_short() -> None:
    rows = [row(1), row(2, prompt=(BOS,) * 5), row(3, prompt=(BOS,))]
    assert [len(one["input_ids"]) for one in examination(rows)] == [8, 6, 4]
