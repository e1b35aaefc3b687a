"""Chat: ask base and tuned model the same, side by side, through llama.cpp."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.publish import lineage
from tasks.stage import stage
from tunemill.artifacts import BaseGguf, BaseWeights, Tokenizer
from tunemill.errors import ConfigError
from tunemill.exporting import converter, llama
from tunemill.files import link
from tunemill.home import Home
from tunemill.rows import Message
from tunemill.store import Manifest, Store, Work

if TYPE_CHECKING:
    from rich.console import Console

ARMS = ("base", "tuned")


@stage(makes=BaseGguf, version=1, engines=("cyllama", "transformers"))
def base_gguf(work: Work, base: BaseWeights, tokenizer: Tokenizer) -> BaseGguf:
    """Write the untuned base as a GGUF of 8 bits, so that it can be asked as the tuned one is."""
    checkpoint, whole = work.resume / "checkpoint", work.resume / "f16.gguf"
    checkpoint.mkdir(exist_ok=True)
    files = {path.name: path for folder in (work.open(base), work.open(tokenizer)) for path in folder.iterdir()}
    link((path for name, path in files.items() if path.is_file() and not (checkpoint / name).exists()), checkpoint)
    converter.convert(checkpoint, whole, Home.find().root)
    llama.quantize(whole, work.folder / "q8_0.gguf", "q8_0")
    return work.seal(BaseGguf)


class Chat:
    """A conversation with both models at once; each sees its own answers."""

    def __init__(self, key: str, system: str | None, max_new_tokens: int) -> None:
        """Find the files that belong to a key.

        Raises:
            ConfigError: no export, or more than one, belongs to it.
        """
        store = Store(Home.find().store)
        export = exported(store, key)
        chain = lineage(store, "export", export.key)
        gguf = next(iter((store.folder("export", export.key) / "gguf").glob("*.gguf")), None)
        if gguf is None:
            raise ConfigError(f"export {export.key[:12]} holds no GGUF; put `gguf` into export.targets and run again")
        base = base_gguf.run(store, chain["model"].artifact(BaseWeights), chain["tokenizer"].artifact(Tokenizer))
        self.files = {"base": store.open(base) / "q8_0.gguf", "tuned": gguf}
        self.limit = max_new_tokens
        asked = chain["evaluate"].parts["section"]["settings"]["system"] if system is None else system
        opening = [Message("system", asked)] if asked else []
        self.turns = {arm: list(opening) for arm in ARMS}

    def say(self, text: str) -> dict[str, str]:
        """Ask both; give arm → answer."""
        answers = {}
        for arm in ARMS:
            self.turns[arm].append(Message("user", text))
            reply = llama.ask(self.files[arm], [self.turns[arm]], self.limit, self._context(arm), Home.find().root)[0]
            answers[arm] = reply.failure or reply.text
            self.turns[arm].append(Message("assistant", answers[arm]))
        return answers

    def _context(self, arm: str) -> int:
        """Give room for the conversation: no token is shorter than a byte."""
        return sum(len(turn.content.encode()) + 16 for turn in self.turns[arm]) + self.limit + 64


def exported(store: Store, key: str) -> Manifest:
    """Find the one export that a key belongs to: its own, or that of anything that it was made from or decided on.

    Raises:
        ConfigError: there is none, or more than one.
    """
    if len(key) < 6:
        raise ConfigError(f"chat: {key!r} has {len(key)} digits; give 6 or more of a key that `tunemill run` prints")
    exports = store.manifests("export")
    found = [manifest for manifest in exports if manifest.key.startswith(key)]
    found = found or [manifest for manifest in exports if any(k.startswith(key) for k in _keys(store, manifest))]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(manifest.key[:12] for manifest in found)
        raise ConfigError(f"chat: {key!r} belongs to {len(found)} exports; name one: {which}")
    if known := store.find(key):
        why = f"{known[0].stage} {known[0].key[:12]} has led to no export yet; run its configuration to the end"
    else:
        why = f"no key in {store.root} begins with {key!r}; `tunemill plan CONFIG` lists the keys"
    raise ConfigError(f"chat: {why}")


def _keys(store: Store, export: Manifest) -> Iterator[str]:
    """Yield the keys that an export was made from, and those of what was found out about it."""
    yield from (made.key for made in lineage(store, "export", export.key).values())
    for stage_name in ("verify", "gate"):
        for manifest in store.manifests(stage_name):
            if lineage(store, stage_name, manifest.key).get("export") == export:
                yield manifest.key


def talk(chat: Chat, console: "Console", prompts: Sequence[str]) -> list[dict[str, str]]:
    """Ask the given prompts, or what a person types until an empty line; print and give the answers, side by side."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    said = []
    for text in prompts or typed(console):
        with console.status("asking both"):
            answers = chat.say(text)
        said.append({"prompt": text, **answers})
        if prompts:
            console.print(Text(text, "bold"))
        width = max(30, console.width // 2 - 1)
        # As text: what a model says may look like Rich's markup.
        titles = {arm: f"{arm} ({chat.files[arm].stem})" for arm in ARMS}
        console.print(Columns([Panel(Text(answers[arm]), title=titles[arm], width=width) for arm in ARMS]))
    return said


def typed(console: "Console") -> Iterator[str]:
    """Yield what a person types, until an empty line or the end of input."""
    console.print("Ask both; an empty line ends.")
    while True:
        try:
            text = console.input("[bold]> [/bold]").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not text:
            return
        yield text
