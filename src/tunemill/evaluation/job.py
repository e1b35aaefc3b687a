"""Carry out one evaluation in a process of its own: load the model once, ask it three ways, write what it said.

Written to `out`, none of it holding a time or a place, so that the same answers give the same bytes:
    scores.jsonl        one line a row, arm and metric
    generations.jsonl   one line a row and arm, and one a fixed prompt and arm
    summary.json        values, differences, verdict
and report/report.md with report/scores.png, which also say how long it took.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from tunemill import rows as row_files
from tunemill import segments
from tunemill.errors import ModelError
from tunemill.evaluation import arms, figure, generation, report, summary
from tunemill.evaluation.arms import ARMS, Arm, Request
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, Score, Shown, Summary
from tunemill.rows import Message, Row
from tunemill.section import Section
from tunemill.training.methods import Method

if TYPE_CHECKING:
    from tunemill.models.chat import Chat

Emit = Callable[[dict[str, Any]], None]


class Job(Section):
    """Name everything an evaluation reads and where it writes."""

    model: Path
    """Folder of the base model."""
    tokenizer: Path
    """Folder of the tokenizer and its chat template."""
    adapter: Path
    """Folder of the trained adapter."""
    method: Method
    """How the adapter was trained: it decides the form in which the base is loaded."""
    train: Path
    """Parquet of rows; examples come from here."""
    test: Path
    """Parquet of rows; questions come from here."""
    out: Path
    """Folder to write to."""
    events: Path
    """File of JSON lines that tells how far it is."""
    settings: EvaluateSettings


class Questions(msgspec.Struct, frozen=True):
    """What one arm is asked: the test rows first, then the fixed prompts."""

    tested: list[Request]
    asked: list[Request]


def run(job: Job, emit: Emit) -> Summary:
    """Evaluate and write every file; `emit` hears of progress and of the end.

    Raises:
        ConfigError: the few-shot prompt does not fit the model.
        DataError: the rows cannot be tested on.
        ModelError: the model or its template cannot be used.
    """
    from tunemill.models.chat import Chat
    from tunemill.training.methods import find_device, load_trained

    settings = job.settings
    train = segments.read(job.train)
    tested = arms.held_out(segments.read(job.test), train, settings.max_rows)
    examples = arms.choose_examples(train, settings.few_shot)
    context, vocabulary = _sizes(job.model)
    chat = Chat(job.tokenizer)
    questions = {arm: put(chat, tested, examples if arm == "few_shot" else [], context, settings) for arm in ARMS}
    tokens = arms.answer_tokens({arm: questions[arm].tested for arm in ARMS}, tested, context)
    tested = [arms.as_written(chat, row, one) for row, one in zip(tested, questions["base"].tested, strict=True)]
    device = find_device()
    model = load_trained(job.model, job.method, job.adapter, device, dequantize=device == "cpu")
    results: dict[Arm, ArmResult] = {}
    fixed: dict[Arm, list[Answer]] = {}
    seconds: dict[Arm, float] = {}
    for arm in ARMS:
        started = time.perf_counter()
        with nullcontext() if arm == "tuned" else model.disable_adapter():
            results[arm], fixed[arm] = ask(model, chat, questions[arm], tokens, settings, _progress(emit, arm))
        seconds[arm] = time.perf_counter() - started
    scores = [entry for arm in ARMS for entry in summary.score(tested, arm, results[arm], vocabulary, settings)]
    shown = Shown(settings.few_shot.k, settings.few_shot.seed, [row.row_id for row in examples])
    found = summary.summarise(scores, results, shown, settings)
    _write(job.out, tested, scores, results, fixed, found)
    _write_report(job.out / "report", tested, results, fixed, found, job, seconds)
    emit({"event": "done", "verdict": found.verdict, "primary": found.primary, "rows": found.rows})
    return found


def put(
    chat: "Chat", tested: Sequence[Row], examples: Sequence[Row], context: int, settings: EvaluateSettings
) -> Questions:
    """Write every question of one arm as token ids, with `examples` before it."""
    limits = (context, settings.max_new_tokens)

    def request(turns: Sequence[Message], answer: Message | None, tools: str | None) -> Request:
        shown, offered = arms.with_examples(turns, examples), arms.with_tools(tools, examples)
        return arms.request(chat, shown, answer, *limits, offered)

    return Questions(
        [request(row.prompt, row.reply, row.tools) for row in tested],
        [request(turns, None, None) for turns in _fixed(settings)],
    )


def ask(
    model: Any,
    chat: "Chat",
    questions: Questions,
    tokens: Sequence[int],
    settings: EvaluateSettings,
    on_done: Callable[[int, int], None],
) -> tuple[ArmResult, list[Answer]]:
    """Get one arm's answers and likelihoods on the test rows, and its answers to the fixed prompts.

    Args:
        tokens: length of every test row's right answer.
        on_done: hears how many more are done, and how many there are; a row counts once for its answer and once for
            its likelihood.
    """
    every = [*questions.tested, *questions.asked]
    open_ = [request for request in every if request.failure is None]
    scored = [r for r in questions.tested if r.failure is None] if "perplexity" in settings.metrics else []
    of = len(open_) + len(scored)
    nats = generation.likelihoods(
        model,
        [request.whole for request in scored],
        [request.answer for request in scored],
        chat.pad_id,
        settings.batch_size,
        lambda count: on_done(count, of),
    )
    said = generation.generate(
        model,
        chat,
        [request.prompt for request in open_],
        settings.max_new_tokens,
        settings.batch_size,
        lambda count: on_done(count, of),
    )
    saying, knowing = iter(said), iter(nats)
    answers = [next(saying) if r.failure is None else Answer("", len(r.prompt), failure=r.failure) for r in every]
    likelihoods = [
        next(knowing) if r.failure is None else Likelihood(0.0, length, r.failure)
        for r, length in zip(questions.tested, tokens, strict=True)
        if "perplexity" in settings.metrics
    ]
    count = len(questions.tested)
    return ArmResult(answers[:count], likelihoods), answers[count:]


def _fixed(settings: EvaluateSettings) -> list[tuple[Message, ...]]:
    lead = (Message("system", settings.system),) if settings.system else ()
    return [(*lead, Message("user", prompt)) for prompt in settings.prompts]


def _sizes(folder: Path) -> tuple[int, int]:
    """Read how many tokens the model can hold and how many it knows, without loading it."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
        return int(config.max_position_embeddings), int(config.vocab_size)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"evaluate: the base model's config.json does not say its context: {error}") from error


def _progress(emit: Emit, arm: Arm) -> Callable[[int, int], None]:
    done = 0

    def on_done(count: int, of: int) -> None:
        nonlocal done
        done += count
        emit({"event": "progress", "arm": arm, "done": done, "of": of})

    return on_done


def _write(
    out: Path,
    tested: Sequence[Row],
    scores: Sequence[Score],
    results: Mapping[Arm, ArmResult],
    fixed: Mapping[Arm, Sequence[Answer]],
    found: Summary,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    row_files.write_lines(out / "scores.jsonl", scores)
    row_files.write_lines(out / "generations.jsonl", _said(tested, results, fixed))
    whole = orjson.dumps(msgspec.to_builtins(found, str_keys=True), option=orjson.OPT_INDENT_2)
    (out / "summary.json").write_bytes(whole + b"\n")


def _said(
    tested: Sequence[Row], results: Mapping[Arm, ArmResult], fixed: Mapping[Arm, Sequence[Answer]]
) -> Iterator[dict[str, Any]]:
    """Yield every answer; a fixed prompt has its number in place of a row id."""
    for arm in ARMS:
        for row, answer in zip(tested, results[arm].answers, strict=True):
            yield {"row_id": row.row_id, "arm": arm, **msgspec.to_builtins(answer)}
        for number, answer in enumerate(fixed[arm], 1):
            yield {"prompt": number, "arm": arm, **msgspec.to_builtins(answer)}


def _write_report(
    folder: Path,
    tested: Sequence[Row],
    results: Mapping[Arm, ArmResult],
    fixed: Mapping[Arm, Sequence[Answer]],
    found: Summary,
    job: Job,
    seconds: Mapping[Arm, float],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shown = [
        report.Sample(row.prompt, row.answer, {arm: results[arm].answers[place] for arm in ARMS})
        for place, row in enumerate(tested[: report.SAMPLES])
    ]
    asked = [
        report.Sample(turns, None, {arm: fixed[arm][place] for arm in ARMS})
        for place, turns in enumerate(_fixed(job.settings))
    ]
    text = report.write(found, job.settings, shown, asked, seconds, four_bit=job.method.kind == "qlora")
    (folder / "report.md").write_text(text, encoding="utf-8")
    figure.draw(found, folder / "scores.png")
