"""Ask and check the files of an export, each by what it is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tunemill.exporting import gguf, gguf_target, llama, ollama, proof, safetensors_header
from tunemill.exporting.checks import Asked
from tunemill.exporting.llama import Passage, Reply
from tunemill.exporting.proof import Check, Places
from tunemill.exporting.reference import Questions
from tunemill.models.chat import Chat
from tunemill.models.sources import read_json
from tunemill.models.template import special_names
from tunemill.rows import Message

DIGESTS = {".safetensors": safetensors_header.tensor_digest, ".gguf": gguf.tensor_digest}


def same_tensors(name: str, made: Path, ships: Path) -> Check:
    """Check that the tensors of every file that ships have the bytes of the stage that made them; heads may differ."""
    files = sorted(path for path in made.iterdir() if path.suffix in DIGESTS and (ships / path.name).is_file())
    pairs = [(f.name, DIGESTS[f.suffix](f)[:12], DIGESTS[f.suffix](ships / f.name)[:12]) for f in files]
    return proof.same_check(name, "files with the same tensors", pairs, 1.0, None)


def modelfile_checks(folder: Path, tokenizer: Path, asked: Asked) -> Iterator[Check]:
    """Check that Ollama is told to render what training rendered, and to stop where an answer ends."""
    chat, modelfile = Chat(tokenizer), ollama.parse((folder / gguf_target.MODELFILE).read_text(encoding="utf-8"))
    file = folder / modelfile.gguf
    special = special_names(read_json(tokenizer / "tokenizer_config.json"))
    begins = special.get("bos_token", "") if gguf_target.adds_bos(file) else ""
    pairs: list[tuple[str, object, object]] = []
    for row in asked.rows:
        if asked.prompts[row.row_id] and row.row_id not in asked.tooled:
            opens = row.prompt[0].role == "system" or not modelfile.system
            turns = row.prompt if opens else (Message("system", modelfile.system or ""), *row.prompt)
            pairs.append((row.row_id, chat.text(turns, True), begins + modelfile.prompt(row.prompt)))
    if pairs or not asked.tooled:
        yield proof.same_check("Modelfile", "prompts with the same text", pairs, 1.0, None)
    stops, wanted = modelfile.parameters.get("stop", ()), gguf_target.stops(tokenizer)
    lacking = [(text, text, "no stop") for text in wanted if text not in stops]
    told = [*lacking, *((text, text, text) for text in wanted if text in stops)]
    yield proof.same_check("Modelfile", "end tokens that are a stop", told, 1.0, None)
    ends = gguf.end_tokens(file)
    known = [(str(chat.end_ids[0]), True, chat.end_ids[0] in ends)]
    yield proof.same_check(file.stem, "trained end token named by the file", known, 1.0, None)


def ask(
    file: Path, asked: Asked, questions: Questions, scratch: Path, on_done: Callable[[int], None]
) -> dict[str, Reply]:
    """Let llama.cpp answer every row: row id → reply. Prompts with tools are given as training's token ids."""
    limit = asked.settings.max_new_tokens
    context = max(len(prompt) for prompt in questions.prompts) + limit + 1
    prompts = [asked.prompts[r.row_id] if r.row_id in asked.tooled else r.prompt for r in asked.rows]
    replies = llama.ask(file, prompts, limit, context, scratch, on_done)
    return {row.row_id: reply for row, reply in zip(asked.rows, replies, strict=True)}


def first(questions: Questions, count: int) -> Questions:
    """Keep the first conversations whose positions are compared."""
    where = Places(questions.places.row_ids[:count], questions.places.counts[:count])
    return msgspec.structs.replace(questions, wholes=questions.wholes[:count], places=where)


def distributions(file: Path, questions: Questions, out: Path, batch: int = llama.BATCH) -> Path:
    """Write llama.cpp's log-probabilities at the positions compared, in the order of the reference's; give `out`."""
    where = questions.places
    passages = [
        Passage(whole, list(range(len(whole) - 1 - count, len(whole) - 1)))
        for whole, count in zip(questions.wholes, where.counts, strict=True)
    ]
    llama.score(file, passages, out, batch=batch)
    return out
