"""Ask the real small model, in 32 bits, where a batch changes no token; in bfloat16 the last digits depend on it."""

from pathlib import Path
from typing import Any

import pytest

from tunemill.evaluation import arms
from tunemill.evaluation.arms import Request
from tunemill.evaluation.generation import generate, likelihoods
from tunemill.models.chat import Chat
from tunemill.rows import Message

pytestmark = pytest.mark.model

PAIRS = [
    ("What is the capital of France?", "Paris"),
    ("Say hello.", "Hello! How can I help you today?"),
    ("Which is larger, the moon or the sun? Answer with one word, and do not explain why you chose it.", "Sun"),
    ("Name three colours.", "Red, green and blue."),
]


@pytest.fixture(scope="module")
def chat(checkpoint: Path) -> Chat:
    return Chat(checkpoint / "tokenizer")


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    from tunemill.training.methods import Lora, load_base

    return load_base(checkpoint / "model", Lora(compute_dtype="float32"), "cpu")


@pytest.fixture(scope="module")
def requests(chat: Chat) -> list[Request]:
    return [arms.request(chat, [Message("user", question)], answer, 8192, 24) for question, answer in PAIRS]


def test_a_batch_of_four_gives_the_answers_that_each_prompt_gets_alone(
    model: Any, chat: Chat, requests: list[Request]
) -> None:
    prompts = [request.prompt for request in requests]
    alone = [generate(model, chat, [prompt], 24, 1)[0] for prompt in prompts]
    assert generate(model, chat, prompts, 24, 4) == alone
    assert len({answer.text for answer in alone}) == 4


def test_an_answer_stops_at_its_end_of_turn_and_counts_it(model: Any, chat: Chat, requests: list[Request]) -> None:
    answer = generate(model, chat, [requests[0].prompt], 24, 1)[0]
    assert "Paris" in answer.text
    assert "<|im_end|>" not in answer.text
    assert answer.finished
    assert answer.new_tokens < 24
    cut = generate(model, chat, [requests[0].prompt], answer.new_tokens - 1, 1)[0]
    assert (cut.text, cut.finished, cut.new_tokens) == (answer.text, False, answer.new_tokens - 1)


def test_the_models_own_sampling_settings_are_set_aside(model: Any, chat: Chat, requests: list[Request]) -> None:
    from transformers import GenerationConfig

    plain = generate(model, chat, [requests[3].prompt], 24, 1)
    model.generation_config = GenerationConfig(repetition_penalty=9.0, do_sample=True, temperature=3.0, max_length=7)
    assert generate(model, chat, [requests[3].prompt], 24, 1) == plain


def test_likelihoods_in_a_padded_batch_are_those_of_transformers_own_loss(model: Any, requests: list[Request]) -> None:
    import torch

    found = likelihoods(model, [r.whole for r in requests], [r.answer for r in requests], 2, 4)
    for request, one in zip(requests, found, strict=True):
        ids = torch.tensor([request.whole])
        labels = torch.full_like(ids, -100)
        labels[0, request.answer] = ids[0, request.answer]
        with torch.inference_mode():
            loss = model(input_ids=ids, labels=labels).loss.item()
        assert one.tokens == len(request.answer)
        assert one.nll == pytest.approx(loss * one.tokens, rel=1e-4)


def test_the_end_of_turn_is_scored_with_the_answer(model: Any, requests: list[Request]) -> None:
    paris = requests[0]
    without_end = likelihoods(model, [paris.whole], [paris.answer[:-1]], 2, 1)[0]
    whole = likelihoods(model, [paris.whole], [paris.answer], 2, 1)[0]
    assert whole.tokens == without_end.tokens + 1
    assert whole.nll > without_end.nll


def test_weights_that_are_not_numbers_are_a_failure_and_not_a_score(model: Any, requests: list[Request]) -> None:
    import torch

    weight = model.get_output_embeddings().weight
    kept = weight[0, 0].item()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        found = likelihoods(model, [requests[0].whole], [requests[0].answer], 2, 1)[0]
    finally:
        with torch.no_grad():
            weight[0, 0] = kept
    assert (found.nll, found.failure) == (0.0, "likelihood is not finite")


def test_what_is_scored_is_the_last_answer_as_it_is_trained(chat: Chat, requests: list[Request]) -> None:
    turns = [Message("user", PAIRS[1][0]), Message("assistant", PAIRS[1][1]), Message("user", PAIRS[0][0])]
    request = arms.request(chat, turns, "Paris", 8192, 24)
    encoded = chat.encode([*turns, Message("assistant", "Paris")])
    trained = [place for place, flag in enumerate(encoded.trained) if flag]
    assert request.answer == trained[-len(request.answer) :]
    assert len(request.answer) < len(trained)
    assert [request.whole[place] for place in request.answer] == [
        requests[0].whole[place] for place in requests[0].answer
    ]
    assert chat.decode([request.whole[place] for place in request.answer]) == "Paris"
    assert request.whole[request.answer[-1]] in chat.end_ids


def test_a_prompt_that_leaves_no_room_for_an_answer_cannot_be_asked(chat: Chat) -> None:
    turns = [Message("user", PAIRS[0][0])]
    length = len(chat.prompt(turns))
    assert arms.request(chat, turns, "Paris", length + 24, 24).failure is None
    assert arms.request(chat, turns, "Paris", length + 23, 24).failure == arms.TOO_LONG
