"""llama.cpp itself loads the files: it reads prompts as training did, stops at the end of turn, and predicts alike."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tunemill.errors import MissingExtra, ModelError
from tunemill.exporting import gguf, llama, llama_process, proof
from tunemill.exporting.llama import Passage
from tunemill.models.chat import Chat
from tunemill.rows import Message

PARIS = [Message("user", "What is the capital of France?")]
PROMPTS = [
    PARIS,
    [Message("system", "Answer in one word."), Message("user", "Is 2 + 2 = 5? It cost 1,234.50 €.")],
    [
        Message("user", "My order 9131 isn't here.\n\n  Where is it?\t"),
        Message("assistant", '{"intent": "track_order"}'),
        Message("user", "Straße 東京 🚲"),
    ],
]
LETTER = """The parcel with order 5174 was sent on Monday and came on Thursday, but the box was wet and the saw inside
had rust on its blade. Please tell me whether I can send it back, who pays for the parcel, and how long it takes until I
have my money again. I have thrown the box away. Yours sincerely, Jo Hazel, 12 Mill Lane, Kestrel Bay."""


def conversations(chat: Chat) -> list[list[int]]:
    """Give two conversations as token ids, the second longer than two batches of positions."""
    turns = [*PARIS, Message("assistant", "The capital of France is Paris.")]
    letter = [Message("user", LETTER * 3), Message("assistant", "Yes: within 14 days, and we pay for it.")]
    return [chat.encode(messages).ids for messages in (turns, letter)]


def passages(chat: Chat) -> list[Passage]:
    """Ask for every position of those."""
    return [Passage(ids, list(range(len(ids) - 1))) for ids in conversations(chat)]


@pytest.fixture(scope="module")
def reference(checkpoint: Path, chat: Chat) -> np.ndarray:
    """Give what transformers predicts at the same positions, in 32 bits."""
    import torch
    from transformers import AutoModelForCausalLM

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other are slower where others use the cores
    model = AutoModelForCausalLM.from_pretrained(checkpoint / "model", dtype=torch.float32)
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([ids])).logits[0, :-1] for ids in conversations(chat)]
    torch.set_num_threads(threads)
    return torch.cat(logits).log_softmax(-1).numpy()


def distance(reference: np.ndarray, model: Path, chat: Chat, out: Path) -> proof.Agreement:
    """Score the same positions with llama.cpp and compare."""
    llama.score(model, passages(chat), out)
    return proof.compare(reference, np.load(out, mmap_mode="r"))


@pytest.mark.model
def test_llama_cpp_reads_prompts_as_training_does(q8_0: Path, chat: Chat, tmp_path: Path) -> None:
    replies = llama.ask(q8_0, PROMPTS, 1, 512, tmp_path)
    assert [reply.prompt_ids for reply in replies] == [chat.prompt(prompt) for prompt in PROMPTS]


@pytest.mark.model
def test_a_control_token_typed_by_a_user_is_text_for_training_and_a_turn_for_llama_cpp(
    q8_0: Path, chat: Chat, tmp_path: Path
) -> None:
    prompt = [Message("user", "Hello<|im_end|>")]
    (reply,) = llama.ask(q8_0, [prompt], 1, 512, tmp_path)
    assert reply.prompt_ids.count(2) == chat.prompt(prompt).count(2) + 1


@pytest.mark.model
def test_an_answer_stops_at_the_end_of_turn(f16: Path, chat: Chat, tmp_path: Path) -> None:
    (reply,) = llama.ask(f16, [PARIS], 40, 512, tmp_path)
    assert reply.text == "The capital of France is Paris."
    assert reply.stopped
    assert reply.ids[-1] in chat.end_ids
    assert chat.decode(reply.ids) == reply.text
    assert (reply.answer.new_tokens, reply.answer.finished) == (8, True)


@pytest.mark.model
def test_an_answer_that_is_cut_off_did_not_stop(q8_0: Path, tmp_path: Path) -> None:
    (reply,) = llama.ask(q8_0, [PARIS], 3, 512, tmp_path)
    assert (reply.stopped, len(reply.ids), reply.failure) == (False, 3, None)


@pytest.mark.model
def test_a_reply_does_not_depend_on_the_prompts_before_it(
    q4_k_m: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = llama.ask(q4_k_m, PROMPTS, 12, 512, tmp_path)
    back = llama.ask(q4_k_m, PROMPTS[::-1], 12, 512, tmp_path)
    assert there == back[::-1]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.model
def test_a_prompt_that_does_not_fit_is_a_failure_in_its_place(q8_0: Path, tmp_path: Path) -> None:
    heard: list[int] = []
    long = [Message("user", LETTER * 4)]
    replies = llama.ask(q8_0, [PARIS, long, PARIS], 8, 256, tmp_path, heard.append)
    assert [reply.failure is None for reply in replies] == [True, False, True]
    assert str(replies[1].failure).startswith("too long: ")
    assert heard == [1, 2, 3]


@pytest.mark.model
def test_a_wrong_template_shows_in_the_prompts_ids(q4_k_m: Path, chat: Chat, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    data = q4_k_m.read_bytes()
    assert data.count(b"<|im_end|>' + '\n'") == 1
    wrong.write_bytes(data.replace(b"<|im_end|>' + '\n'", b"<|im_end|>' + ' '"))
    (reply,) = llama.ask(wrong, [PARIS], 1, 512, tmp_path)
    assert reply.prompt_ids != chat.prompt(PARIS)


@pytest.mark.model
def test_a_stamped_file_answers_as_before(q4_k_m: Path, tmp_path: Path) -> None:
    stamped = tmp_path / "stamped.gguf"
    gguf.stamp(q4_k_m, stamped, {"run": "7", "dataset": "a" * 64}, name="support desk")
    assert gguf.tensor_digest(stamped) == gguf.tensor_digest(q4_k_m)
    assert llama.ask(stamped, [PARIS], 8, 512, tmp_path) == llama.ask(q4_k_m, [PARIS], 8, 512, tmp_path)


@pytest.mark.model
def test_sixteen_bits_predict_as_transformers_in_32(
    reference: np.ndarray, f16: Path, chat: Chat, tmp_path: Path
) -> None:
    found = distance(reference, f16, chat, tmp_path / "f16.npy")
    assert len(found.same) > 300
    assert found.kl < 5e-5
    assert found.top1 > 0.99


@pytest.mark.model
def test_fewer_bits_lie_farther_away(
    reference: np.ndarray, q8_0: Path, q4_k_m: Path, chat: Chat, tmp_path: Path
) -> None:
    eight = distance(reference, q8_0, chat, tmp_path / "q8_0.npy")
    four = distance(reference, q4_k_m, chat, tmp_path / "q4_k_m.npy")
    assert 1e-4 < eight.kl < 0.02 < four.kl < 0.3


@pytest.mark.model
def test_a_position_alone_is_scored_as_among_all(f16: Path, chat: Chat, tmp_path: Path) -> None:
    ids = conversations(chat)[1]
    llama.score(f16, [Passage(ids, list(range(len(ids))))], tmp_path / "all.npy")
    llama.score(f16, [Passage(ids, [3, 150])], tmp_path / "two.npy")
    every, two = np.load(tmp_path / "all.npy"), np.load(tmp_path / "two.npy")
    assert (every.shape, two.shape) == ((len(ids), 49152), (2, 49152))
    assert np.exp(two).sum(-1) == pytest.approx([1, 1], abs=1e-4)
    assert proof.compare(every[[3, 150]], two).kl < 5e-5


@pytest.mark.model
def test_a_prompt_of_token_ids_is_answered_as_it_stands(q8_0: Path, chat: Chat, tmp_path: Path) -> None:
    ids = chat.prompt(PARIS)
    spoken, given, nothing = llama.ask(q8_0, [PARIS, ids, []], 8, 512, tmp_path)
    assert (given.prompt_ids, given.text, given.ids) == (ids, spoken.text, spoken.ids)
    assert (nothing.prompt_ids, nothing.failure) == ([], "it could not be asked of the adapter either")


def test_the_engine_that_answers_and_the_one_that_scores_agree(q8_0: Path, tmp_path: Path) -> None:
    (reply,) = llama.ask(q8_0, [PARIS], 16, 512, tmp_path)
    whole, start = [*reply.prompt_ids, *reply.ids], len(reply.prompt_ids) - 1
    llama.score(q8_0, [Passage(whole, list(range(start, len(whole) - 1)))], tmp_path / "said.npy")
    scored = np.load(tmp_path / "said.npy")
    assert scored.argmax(-1).tolist() == reply.ids
    assert scored.max(-1).tolist() == pytest.approx(reply.logprobs, abs=0.1)


@pytest.mark.model
def test_quantizing_tells_which_tensors_fell_back_and_gives_the_same_bytes_again(
    f16: Path, q4_k_m: Path, tmp_path: Path
) -> None:
    counted = llama.quantize(f16, tmp_path / "again.gguf", "q4_k_m")
    assert counted == {"Q5_0": 166, "F32": 61, "Q4_K": 16, "Q8_0": 15, "Q6_K": 14}
    assert (tmp_path / "again.gguf").read_bytes() == q4_k_m.read_bytes()
    assert gguf.bits_per_weight(q4_k_m) == pytest.approx(6.165, abs=0.001)


@pytest.mark.model
def test_a_truncated_file_is_recognised_before_llama_cpp_sees_it(q4_k_m: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(q4_k_m.read_bytes()[:-1000])
    for attempt in (
        lambda: llama.ask(cut, [PARIS], 1, 64, tmp_path),
        lambda: llama.score(cut, [Passage([1, 2], [0])], tmp_path / "cut.npy"),
        lambda: llama.quantize(cut, tmp_path / "out.gguf", "q8_0"),
    ):
        with pytest.raises(ModelError, match=r"cut\.gguf is not whole: it has 105,\d+,\d+ bytes"):
            attempt()


@pytest.mark.model
def test_a_file_that_llama_cpp_cannot_load_is_named_with_its_architecture(q4_k_m: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.gguf"
    gguf.stamp(q4_k_m, strange, {})
    data = bytearray(strange.read_bytes())
    place = data.index(b"llama", data.index(b"general.architecture"))
    data[place : place + 5] = b"larch"
    strange.write_bytes(data)
    for attempt in (
        lambda: llama.ask(strange, [PARIS], 1, 64, tmp_path),
        lambda: llama.score(strange, [Passage([1, 2], [0])], tmp_path / "strange.npy"),
        lambda: llama.quantize(strange, tmp_path / "out.gguf", "q8_0"),
    ):
        with pytest.raises(ModelError, match=r"cannot load strange\.gguf \(architecture larch, 105 MB\)"):
            attempt()


@pytest.mark.model
def test_ids_beyond_the_vocabulary_are_those_of_another_tokenizer(q8_0: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="token 49152 is not among the 49,152"):
        llama.score(q8_0, [Passage([1, 49152], [0])], tmp_path / "out.npy")


@pytest.mark.parametrize("package", ["cyllama", "xllamacpp"])
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.llama", None)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed; run: pip install -e '\.\[gguf\]'"):
        if package == "cyllama":
            llama_process._library()
        else:
            llama_process.Server(tmp_path / "any.gguf", 64)
