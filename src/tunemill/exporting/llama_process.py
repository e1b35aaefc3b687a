"""Run llama.cpp in a process of its own: `python -m tunemill.exporting.llama_process job.json`.

xllamacpp answers: it is llama.cpp's server, chat templates included. cyllama is llama.cpp's library: it quantizes, and
gives the logits of every position, which the server would give only one request and one JSON a position.
"""

import http.client
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter

from tunemill import child
from tunemill.errors import MissingExtra, ModelError
from tunemill.exporting import gguf
from tunemill.section import Section

Emit = Callable[[dict[str, Any]], None]


class Passage(Section):
    """Token ids, and the positions whose next token is predicted."""

    ids: list[int]
    positions: list[int]


class Quantize(Section):
    """Write a GGUF in another number format."""

    kind: Literal["quantize"]
    model: Path
    out: Path
    file_type: int
    events: Path


class Ask(Section):
    """Answer prompts."""

    kind: Literal["ask"]
    model: Path
    prompts: list[list[dict[str, str]] | list[int]]
    max_new_tokens: int
    context: int
    events: Path


class Score(Section):
    """Give next-token log-probabilities."""

    kind: Literal["score"]
    model: Path
    passages: list[Passage]
    out: Path
    batch: int
    events: Path


Job = Annotated[Quantize | Ask | Score, Field(discriminator="kind")]


def run(job: Quantize | Ask | Score, emit: Emit) -> None:
    """Carry out one job; answers and progress are emitted."""
    if isinstance(job, Quantize):
        quantize(job)
    elif isinstance(job, Ask):
        server = Server(job.model, job.context)
        for prompt in job.prompts:
            emit({"event": "reply", "reply": server.reply(prompt, job.max_new_tokens)})
    else:
        score(job, emit)


class Server:
    """llama.cpp's server on a free port of this machine alone, behind a key that only this process knows."""

    def __init__(self, model: Path, context: int) -> None:
        try:
            import xllamacpp  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtra("xllamacpp", "gguf") from error
        self._key = secrets.token_hex(16)
        asked = xllamacpp.CommonParams()
        asked.model.path = str(model)
        asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = context, 1, 0, -1
        asked.api_keys, asked.ui, asked.endpoint_slots = [self._key], False, False
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads()
        try:
            self._server = xllamacpp.Server(asked)
        except RuntimeError as error:
            raise _unloadable(model) from error
        self._context = context
        self._address = urlsplit(self._server.listening_address).netloc

    def reply(self, prompt: list[dict[str, str]] | list[int], max_new_tokens: int) -> dict[str, Any]:
        """Render, read and answer one prompt, as the server does for a chat; token ids are answered as they are."""
        if not prompt:
            return {"prompt_ids": [], "failure": "it could not be asked of the adapter either"}
        if isinstance(prompt[0], int):
            text, ids = prompt, prompt
        else:
            status, shown = self._post("/apply-template", {"messages": prompt})
            if status != 200:
                return {"prompt_ids": [], "failure": f"the chat template refuses it: {_reason(shown)}"}
            text = shown["prompt"]
            _, read = self._post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
            ids = list(read["tokens"])
        if len(ids) + max_new_tokens > self._context:
            reason = f"too long: {len(ids)} tokens and {max_new_tokens} for the answer, of {self._context}"
            return {"prompt_ids": ids, "failure": reason}
        asked = {"prompt": text, "n_predict": max_new_tokens, "temperature": 0, "n_probs": 1}
        status, said = self._post("/completion", {**asked, "return_tokens": True, "cache_prompt": False})
        if status != 200:
            raise ModelError(f"llama.cpp did not answer (status {status}): {_reason(said)}")
        return {
            "prompt_ids": ids,
            "ids": said["tokens"],
            "text": said["content"],
            "stopped": said["stop_type"] == "eos",
            "logprobs": [token["logprob"] for token in said.get("completion_probabilities", [])],
        }

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        connection = http.client.HTTPConnection(self._address)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def quantize(job: Quantize) -> None:
    """Quantize with as many threads as there are cores; their number does not change the bytes."""
    llama = _library()
    asked = llama.LlamaModelQuantizeParams()
    asked.ftype, asked.nthread = job.file_type, threads()
    try:
        llama.model_quantize(str(job.model), str(job.out), asked)
    except RuntimeError as error:
        raise _unloadable(job.model) from error


def score(job: Score, emit: Emit) -> None:
    """Write log-probabilities of all passages into one file, a passage at a time."""
    import numpy as np

    llama = _library()

    class Model(llama.LlamaModel):  # type: ignore[misc, name-defined]
        # cyllama 0.2.18 asks its model for the size of the vocabulary, which only the vocabulary knows.
        n_vocab = property(lambda self: self.get_vocab().n_vocab)

    try:
        model = Model(str(job.model), llama.LlamaModelParams())
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise _unloadable(job.model) from error
    width = int(model.n_vocab)
    _require_known(job.passages, width)
    asked = llama.LlamaContextParams()
    asked.n_ctx = max((len(passage.ids) for passage in job.passages), default=1)
    asked.n_batch = asked.n_ubatch = job.batch
    asked.n_threads = asked.n_threads_batch = threads()
    context = llama.LlamaContext(model, asked)
    total = sum(len(passage.positions) for passage in job.passages)
    out = np.lib.format.open_memmap(job.out, mode="w+", dtype=np.float32, shape=(total, width))
    row = 0
    for done, passage in enumerate(job.passages, 1):
        for logits in _logits(llama, context, passage, job.batch):
            values = np.asarray(logits, dtype=np.float64)
            values -= values.max()
            out[row] = values - np.log(np.exp(values).sum())
            row += 1
        emit({"event": "progress", "done": done})
    out.flush()
    context.close()
    model.close()


def _logits(llama: Any, context: Any, passage: Passage, size: int) -> Iterator[list[float]]:
    """Yield the logits at every wanted position; what follows the last of them is not computed."""
    wanted = set(passage.positions)
    ids = passage.ids[: max(wanted, default=-1) + 1]
    batch = llama.LlamaBatch(n_tokens=size, embd=0, n_seq_max=1)
    context.kv_cache_clear()
    for start in range(0, len(ids), size):
        batch.clear()
        spots = range(start, min(start + size, len(ids)))
        for spot in spots:
            batch.add(ids[spot], spot, [0], spot in wanted)
        context.decode(batch)
        yield from (context.get_logits_ith(spot - start) for spot in spots if spot in wanted)


def _require_known(passages: Sequence[Passage], width: int) -> None:
    highest = max((number for passage in passages for number in passage.ids), default=0)
    if highest >= width:
        raise ModelError(f"token {highest} is not among the {width:,} that the GGUF knows: its tokenizer is another's")


def _library() -> Any:
    try:
        from cyllama.llama import llama_cpp  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtra("cyllama", "gguf") from error
    llama_cpp.disable_logging()
    llama_cpp.llama_backend_init()
    return llama_cpp


def _unloadable(model: Path) -> ModelError:
    """Say what llama.cpp leaves unsaid; that the file is whole was seen before."""
    pairs = gguf.head(model).pairs
    architecture = pairs["general.architecture"].value if "general.architecture" in pairs else "none"
    size = f"{model.stat().st_size / 1e6:,.0f} MB"
    return ModelError(
        f"llama.cpp cannot load {model.name} (architecture {architecture}, {size}): this version does not know it, or "
        "memory does not suffice; llama.cpp's own llama-cli tells which"
    )


def _reason(body: Any) -> str:
    return str(body.get("error", {}).get("message", body))


def threads() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    asked_for: Any = TypeAdapter(Job).validate_json(Path(sys.argv[1]).read_bytes())
    sys.exit(child.serve(asked_for.events, lambda emit: run(asked_for, emit)))
