import pytest

from tests.models.conftest import Build
from tests.models.conftest import tokenizer_folder as tokenizer_folder
from tests.models.tool_templates import HERMES
from tunemill.errors import ConfigError, DataError, ModelError
from tunemill.evaluation.arms import (
    REFUSED,
    TOO_LONG,
    Arm,
    Request,
    answer_tokens,
    as_written,
    choose_examples,
    held_out,
    request,
    with_examples,
    with_tools,
)
from tunemill.evaluation.settings import FewShotSettings
from tunemill.models.chat import Chat
from tunemill.rows import Message, Row, make_row


def _row(question: str, answer: str, *lead: Message) -> Row:
    return make_row([*lead, Message("user", question), Message("assistant", answer)], "0" * 64, 1)


TRAIN = [_row(f"question {i}", f"answer {i % 5}") for i in range(40)]


def test_four_examples_show_four_different_answers() -> None:
    assert len({row.answer for row in choose_examples(TRAIN, FewShotSettings(k=4))}) == 4


def test_seven_examples_of_five_answers_show_all_five_first_and_no_row_twice() -> None:
    chosen = choose_examples(TRAIN, FewShotSettings(k=7))
    assert len({row.answer for row in chosen[:5]}) == 5
    assert len({row.row_id for row in chosen}) == 7


def test_the_order_of_the_training_rows_does_not_change_the_examples() -> None:
    settings = FewShotSettings(k=6, seed=3)
    assert choose_examples(TRAIN, settings) == choose_examples(TRAIN[::-1], settings)


def test_another_seed_chooses_other_examples() -> None:
    assert choose_examples(TRAIN, FewShotSettings(seed=0)) != choose_examples(TRAIN, FewShotSettings(seed=1))


def test_three_training_rows_give_three_examples_where_four_are_asked_for() -> None:
    assert len(choose_examples(TRAIN[:3], FewShotSettings(k=4))) == 3


def test_no_training_row_is_an_error() -> None:
    with pytest.raises(DataError, match="no row with an answer"):
        choose_examples([], FewShotSettings())


def test_examples_stand_between_the_rows_own_system_prompt_and_its_question() -> None:
    example = _row("old question", "old answer", Message("system", "another system prompt"))
    prompt = (Message("system", "be brief"), Message("user", "new question"))
    assert with_examples(prompt, [example]) == (
        Message("system", "be brief"),
        Message("user", "old question"),
        Message("assistant", "old answer"),
        Message("user", "new question"),
    )


def test_a_prompt_without_a_system_message_begins_with_the_examples() -> None:
    turns = with_examples((Message("user", "new question"),), [_row("old question", "old answer")])
    assert [turn.content for turn in turns] == ["old question", "old answer", "new question"]


def test_test_rows_are_taken_by_content_hash_whatever_their_order() -> None:
    rows = [_row(f"test {i}", "yes") for i in range(9)]
    taken = held_out(rows, TRAIN, 4)
    assert taken == held_out(rows[::-1], TRAIN, 4)
    assert [row.row_id for row in taken] == sorted(row.row_id for row in rows)[:4]


def test_a_test_row_that_was_trained_on_stops_the_evaluation() -> None:
    with pytest.raises(DataError, match="1 of 3 test rows stand in the training rows too"):
        held_out([_row("a", "b"), _row("c", "d"), TRAIN[7]], TRAIN, None)


def test_an_empty_test_set_stops_the_evaluation() -> None:
    with pytest.raises(DataError, match="holds 0 rows"):
        held_out([], TRAIN, None)


def test_a_test_row_without_an_answer_is_named() -> None:
    silent = make_row([Message("user", "hello?")], "ab" * 32, 7)
    with pytest.raises(DataError, match=rf"1 of 2 test rows .* {silent.row_id} \(source abababababab, line 7\)"):
        held_out([_row("a", "b"), silent], TRAIN, None)


def _request(failure: str | None = None, answer: tuple[int, ...] = (8, 9)) -> Request:
    if failure == REFUSED:
        return Request([], [], [], REFUSED)
    return Request([1, 2], [1, 2, *answer], list(range(2, 2 + len(answer))), failure)


def test_answers_are_counted_even_where_few_shot_cannot_be_asked() -> None:
    arms: dict[Arm, list[Request]] = {"base": [_request()] * 3, "few_shot": [_request(), _request(), _request(REFUSED)]}
    assert answer_tokens(arms, TRAIN[:3], 100) == [2, 2, 2]


def test_a_few_shot_prompt_that_fits_fewer_than_half_of_the_rows_is_no_opponent() -> None:
    arms: dict[Arm, list[Request]] = {
        "base": [_request()] * 3,
        "few_shot": [_request(), _request(TOO_LONG), _request(TOO_LONG)],
    }
    with pytest.raises(ConfigError, match=r"evaluate.few_shot.k: 2 of 3 prompts .* 2,048 tokens.* lower k"):
        answer_tokens(arms, TRAIN[:3], 2048)


def test_rows_that_are_too_long_for_the_base_as_well_do_not_count_against_few_shot() -> None:
    long = _request(TOO_LONG)
    assert (
        answer_tokens({"base": [_request(), long, long], "few_shot": [_request(), long, long]}, TRAIN[:3], 9) == [2] * 3
    )


def test_an_answer_with_other_tokens_after_examples_stops_the_evaluation() -> None:
    arms: dict[Arm, list[Request]] = {"base": [_request()], "few_shot": [_request(answer=(8, 7))]}
    with pytest.raises(ModelError, match="2 tokens after examples and 2 without"):
        answer_tokens(arms, TRAIN[:1], 100)


def test_a_test_row_that_the_template_refuses_stops_the_evaluation() -> None:
    with pytest.raises(DataError, match="the chat template refuses test row"):
        answer_tokens({"base": [_request(REFUSED)], "few_shot": [_request(REFUSED)]}, TRAIN[:1], 100)


CALL = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"number":7}}]')
TOOLS = '[{"type":"function","function":{"name":"find"}}]'
CALLING = make_row([Message("user", "Where is 7?"), CALL], "0" * 64, 1, tools=TOOLS)


def test_an_example_that_calls_a_tool_is_shown_with_its_call() -> None:
    assert with_examples((Message("user", "new question"),), [CALLING])[1] == CALL


def test_the_tools_of_examples_are_offered_once_after_those_of_the_question() -> None:
    own = '[{"type":"function","function":{"name":"count"}}]'
    assert with_tools(own, [CALLING, TRAIN[0], CALLING]) == f"{own[:-1]},{TOOLS[1:]}"
    assert with_tools(None, TRAIN[:2]) is None


@pytest.fixture
def chat(tokenizer_folder: Build) -> Chat:
    return Chat(tokenizer_folder(HERMES))


def test_a_call_is_scored_by_the_text_that_the_model_would_write(chat: Chat) -> None:
    asked = request(chat, CALLING.prompt, CALLING.reply, 8192, 24, CALLING.tools)
    written = as_written(chat, CALLING, asked)
    assert written.row_id == CALLING.row_id
    assert written.answer == '<tool_call>\n{"name": "find", "arguments": {"number": 7}}\n</tool_call>'
    assert as_written(chat, TRAIN[0], request(chat, TRAIN[0].prompt, TRAIN[0].reply, 8192, 24)) == TRAIN[0]


def test_a_call_has_the_same_tokens_after_examples_with_other_tools(chat: Chat) -> None:
    other = make_row([Message("user", "How many?"), CALL], "0" * 64, 2, tools=TOOLS.replace("find", "count"))
    alone = request(chat, CALLING.prompt, CALLING.reply, 8192, 24, CALLING.tools)
    shown = with_examples(CALLING.prompt, [other])
    after = request(chat, shown, CALLING.reply, 8192, 24, with_tools(CALLING.tools, [other]))
    assert len(after.prompt) > len(alone.prompt)
    assert answer_tokens({"base": [alone], "few_shot": [after]}, [CALLING], 8192) == [len(alone.answer)]


def test_a_template_without_a_place_for_tools_refuses_the_question(tokenizer_folder: Build) -> None:
    asked = request(Chat(tokenizer_folder()), CALLING.prompt, CALLING.reply, 8192, 24, CALLING.tools)
    assert asked.failure == REFUSED
