"""Templates of the kinds that are met on the hub, each reduced to the trait that matters."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunemill.errors import ModelError
from tunemill.models.chat import Chat
from tunemill.rows import Message

END, THINK = 2, 3
TURN = "{{ '<|im_start|>' + m['role'] + '\n' + %s + '<|im_end|>\n' }}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def each(turn: str) -> str:
    """Write a template that writes every message the same way."""
    return "{% for m in messages %}" + turn + "{% endfor %}" + ASK


TRIMS = each(TURN % "m['content'] | trim")
THINKS = each(
    "{% if m['role'] == 'assistant' and '</think>' in m['content'] %}{% set c = m['content'].split('</think>')[1] %}"
    "{% else %}{% set c = m['content'] %}{% endif %}" + TURN % "c"
)
EMPTY_THOUGHT = each(
    "{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<|im_start|>assistant\n<think>\n\n' + m['content'] + '<|im_end|>\n' }}"
    "{% else %}" + TURN % "m['content']" + "{% endif %}"
)
REPEATS = each(TURN % "m['content'] + m['content']")
DROPS = each("{% if m['role'] != 'tool' %}" + TURN % "m['content']" + "{% endif %}")
REFUSES = each(
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURN % "m['content']"
)
DATED = each(TURN % "strftime_now('%d %b %Y') + '\n' + m['content']")
TOOL_JSON = each(
    "{% if m['role'] == 'tool' %}"
    + TURN % "m['content'] | tojson"
    + "{% else %}"
    + TURN % "m['content']"
    + "{% endif %}"
)
BRACKETS = (
    "{{ '<|im_start|>' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' <|im_end|>' }}{% endif %}{% endfor %}"
)
ENDLESS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
STATES_THE_END = "{{ 'done' if messages[-1]['role'] == 'assistant' else 'open' }}" + each(TURN % "m['content']")
OPENS_OTHERWISE = each(TURN % "m['content']").replace("assistant\n", "assistant\n<think>\n")


def answered(content: str, answer: str) -> list[Message]:
    return [Message("user", content), Message("assistant", answer)]


def written(chat: Chat, messages: list[Message]) -> str:
    encoded = chat.encode(messages)
    ids = [number for number, trained in zip(encoded.ids, encoded.trained, strict=True) if trained]
    return str(chat._full.decode(ids, skip_special_tokens=False))


TRIMMING = ["strip()", "lstrip()", "rstrip()", "strip('\n')", "lstrip('\n')", "rstrip('\n')"]


@pytest.mark.parametrize("trim", TRIMMING)
def test_a_template_that_trims_content_is_followed(
    trim: str, tokenizer_folder: Callable[..., Path], stock: Callable[..., list[int]]
) -> None:
    folder = tokenizer_folder(each(TURN % f"m['content'].{trim}"))
    messages = answered("\n Where?  \n", "Here. \n")
    assert Chat(folder).encode(messages).ids == stock(folder, messages)


def test_what_a_template_trims_is_not_trained(tokenizer_folder: Callable[..., Path]) -> None:
    assert written(Chat(tokenizer_folder(TRIMS)), answered("Where?", "  Here.\n")) == "Here.<|im_end|>"


def test_a_template_that_cuts_content_is_stopped_with_the_message_and_the_place(
    tokenizer_folder: Callable[..., Path],
) -> None:
    chat = Chat(tokenizer_folder(THINKS))
    with pytest.raises(ModelError, match=r"changes message 2 of 2 \(assistant\): at character 56 .* writes 'Here\."):
        chat.encode(answered("Where?", "Behind it.</think>Here."))


def test_a_template_that_tests_content_passes_content_that_it_leaves_alone(
    tokenizer_folder: Callable[..., Path],
) -> None:
    assert written(Chat(tokenizer_folder(THINKS)), answered("a</think>b", "Here.")) == "Here.<|im_end|>"


def test_an_empty_thought_that_the_model_has_to_write_is_trained(tokenizer_folder: Callable[..., Path]) -> None:
    assert written(Chat(tokenizer_folder(EMPTY_THOUGHT)), answered("Where?", "Here.")) == "<think>\n\nHere.<|im_end|>"


def test_an_empty_thought_is_no_part_of_the_prompt(tokenizer_folder: Callable[..., Path]) -> None:
    chat = Chat(tokenizer_folder(EMPTY_THOUGHT))
    prompt = chat.prompt([Message("user", "Where?")])
    whole = chat.encode(answered("Where?", "\nHere.")).ids
    assert whole[: len(prompt) + 1] == [*prompt, THINK]


def test_a_template_that_writes_content_twice_is_refused(tokenizer_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"writes message 1 of 2 \(user\) 2 times"):
        Chat(tokenizer_folder(REPEATS))


def test_a_message_that_the_template_leaves_out_is_named(tokenizer_folder: Callable[..., Path]) -> None:
    chat = Chat(tokenizer_folder(DROPS))
    with pytest.raises(ModelError, match=r"writes message 2 of 3 \(tool\) 0 times"):
        chat.encode([Message("user", "Where?"), Message("tool", "shed"), Message("assistant", "There.")])


def test_what_the_template_says_when_it_refuses_is_passed_on(tokenizer_folder: Callable[..., Path]) -> None:
    chat = Chat(tokenizer_folder(REFUSES))
    with pytest.raises(ModelError, match="a conversation of system, user, assistant: System role not supported"):
        chat.encode([Message("system", "Be kind."), *answered("Where?", "Here.")])


def test_a_template_that_asks_for_the_day_is_told_the_same_day_always(tokenizer_folder: Callable[..., Path]) -> None:
    assert "26 Jul 2024\nWhere?" in Chat(tokenizer_folder(DATED)).text([Message("user", "Where?")])


def test_transformers_is_told_the_same_day_in_the_same_process(
    tokenizer_folder: Callable[..., Path], stock: Callable[..., list[int]]
) -> None:
    folder = tokenizer_folder(DATED)
    assert Chat(folder).encode(answered("Where?", "Here.")).ids == stock(folder, answered("Where?", "Here."))


def test_a_tool_result_that_the_template_writes_as_json_is_followed(
    tokenizer_folder: Callable[..., Path], stock: Callable[..., list[int]]
) -> None:
    folder = tokenizer_folder(TOOL_JSON)
    messages = [Message("user", "Where?"), Message("tool", '{"at": "shed"}\n'), Message("assistant", "There.")]
    assert Chat(folder).encode(messages).ids == stock(folder, messages)


def test_an_answer_without_a_generation_prompt_begins_with_its_space(
    tokenizer_folder: Callable[..., Path], stock: Callable[..., list[int]]
) -> None:
    folder = tokenizer_folder(BRACKETS)
    messages = answered("Where?", "Here.")
    chat = Chat(folder)
    assert chat.encode(messages).ids == stock(folder, messages)
    assert written(chat, messages) == " Here. <|im_end|>"


def test_a_template_without_an_end_of_turn_is_refused(tokenizer_folder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="the end of turn is never trained; the model would not stop"):
        Chat(tokenizer_folder(ENDLESS))


@pytest.mark.parametrize("template", [OPENS_OTHERWISE, STATES_THE_END], ids=["at the answer", "before it"])
def test_a_template_that_asks_otherwise_than_it_writes_is_refused(
    template: str, tokenizer_folder: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match="what is trained would not be what is asked"):
        Chat(tokenizer_folder(template))


def test_a_prompt_that_ends_in_two_spaces_keeps_both(tokenizer_folder: Callable[..., Path]) -> None:
    template = each(TURN % "m['content']").replace("assistant\n", "assistant  ").replace("+ '\n' +", "+ '  ' +")
    chat = Chat(tokenizer_folder(template))
    prompt = chat.prompt([Message("user", "Where?")])
    assert chat.encode(answered("Where?", "Here.")).ids[: len(prompt)] == prompt
    assert written(chat, answered("Where?", "Here.")) == "Here.<|im_end|>"


def test_content_that_looks_like_a_mark_of_ours_is_ordinary_text(tokenizer_folder: Callable[..., Path]) -> None:
    chat = Chat(tokenizer_folder())
    assert (
        written(chat, answered("TUNEMILLxCONTENTx1xEND", "TUNEMILLxCONTENTx0xEND"))
        == "TUNEMILLxCONTENTx0xEND<|im_end|>"
    )
