"""Ship one GGUF for llama.cpp and, with a Modelfile beside it, for Ollama."""

import shlex
from pathlib import Path

import orjson

from tunemill.errors import ModelError
from tunemill.exporting import gguf, ollama
from tunemill.exporting.lineage import PREFIX
from tunemill.exporting.ollama import Modelfile
from tunemill.exporting.ollama_template import ollama_template
from tunemill.exporting.target import Shipment, Target
from tunemill.models.chat import Chat
from tunemill.models.sources import read_json
from tunemill.models.template import special_names
from tunemill.rows import Message

MODELFILE = "Modelfile"


def write(shipment: Shipment, folder: Path) -> None:
    """Stamp the GGUF that `quantize` chose, and write how Ollama has to ask it.

    Raises:
        ModelError: the chat template cannot be said in Go, or the GGUF puts a token before it that it does not write.
    """
    kind = orjson.loads((shipment.quantized / "quantize.json").read_bytes())["kind"]
    name = f"{kind}.gguf"
    facts = {key.removeprefix(PREFIX): value for key, value in shipment.facts.items()}
    gguf.stamp(shipment.quantized / name, folder / name, facts)
    modelfile = Modelfile(
        f"./{name}",
        template(shipment.tokenizer, folder / name),
        shipment.settings.system,
        {"stop": stops(shipment.tokenizer), "temperature": (f"{shipment.settings.temperature:g}",)},
    )
    _takes_its_system_prompt(modelfile)
    note = f"Tunemill run {shipment.facts[f'{PREFIX}run']}; `ollama create NAME -f {MODELFILE}`"
    (folder / MODELFILE).write_text(ollama.write(modelfile, note), encoding="utf-8")


def serve(folder: Path, name: str) -> tuple[str, ...]:
    """Give the commands for Ollama and for llama.cpp's server."""
    file = shlex.quote(str(next(folder.glob("*.gguf"))))
    return (
        f"ollama create {shlex.quote(name)} -f {shlex.quote(str(folder / MODELFILE))}",
        f"llama-server -m {file} --jinja",
    )


def template(tokenizer: Path, file: Path) -> str:
    """Say the model's chat template in Go, without the token that llama.cpp puts before a prompt of this GGUF."""
    begins = special_names(read_json(tokenizer / "tokenizer_config.json")).get("bos_token", "")
    return ollama_template(Chat(tokenizer).text, begins if adds_bos(file) else "")


def adds_bos(file: Path) -> bool:
    """Say whether llama.cpp, and so Ollama, puts the begin-of-text token before every prompt of a GGUF.

    Where the file does not say, llama.cpp does it for SentencePiece vocabularies (`llama`) and for no others; the
    families for which it knows better have the key.
    """
    pairs = gguf.head(file).pairs
    said = pairs.get("tokenizer.ggml.add_bos_token")
    if said is not None:
        return bool(said.value)
    return "tokenizer.ggml.model" in pairs and pairs["tokenizer.ggml.model"].value == "llama"


def stops(tokenizer: Path) -> tuple[str, ...]:
    """Give every token that ends an answer, as text; the one that is trained first.

    Raises:
        ModelError: such a token has no text in tokenizer.json.
    """
    ends = Chat(tokenizer).end_ids
    texts = {token["id"]: token["content"] for token in read_json(tokenizer / "tokenizer.json")["added_tokens"]}
    if missing := [number for number in ends if number not in texts]:
        raise ModelError(
            f"token {missing[0]} ends an answer and is no added token of tokenizer.json; it cannot be a stop"
        )
    return tuple(texts[number] for number in ends)


def _takes_its_system_prompt(modelfile: Modelfile) -> None:
    try:
        modelfile.prompt([Message("user", "?")])
    except ModelError as error:
        raise ModelError(
            f"export.system is given, but the model takes no system message; leave it out ({error})"
        ) from error


TARGET = Target(write, serve)
