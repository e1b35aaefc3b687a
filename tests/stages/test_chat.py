"""Base and tuned model side by side: which export a key means, and a conversation with real files."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from tasks.chat import Chat, base_gguf, exported, talk, typed
from tests.exporting import test_export as small
from tests.stages.conftest import EVALUATED, Chain, put
from tunemill.artifacts import Adapter, BaseWeights, Evaluation, Exported, Splits, Tokenizer
from tunemill.errors import ConfigError
from tunemill.exporting import gguf
from tunemill.files import link
from tunemill.home import PROJECT, Home
from tunemill.store import Store


def test_every_key_of_a_run_that_exported_means_its_export(chain: Chain) -> None:
    keys = [chain.splits.key, chain.adapters[0].key, chain.exported.key, chain.verification.key, chain.decision.key]
    for key in [*keys, *(chain.store.manifests(stage)[0].key for stage in ("evaluate", "merge", "quantize", "model"))]:
        assert exported(chain.store, key[:8]).key == chain.exported.key


def test_a_key_without_an_export_says_what_it_is(chain: Chain) -> None:
    key = chain.adapters[1].key
    with pytest.raises(ConfigError, match=rf"chat: train {key[:12]} has led to no export yet; run its configuration"):
        exported(chain.store, key)


@pytest.mark.parametrize(
    ("key", "says"), [("ffffffff", "no key in .*store begins with 'ffffffff'"), ("abc", "'abc' has 3 digits; give 6")]
)
def test_a_key_that_nobody_knows_is_an_error(chain: Chain, key: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        exported(chain.store, key)


def test_a_key_of_two_exports_names_both(chain: Chain, copied: Home) -> None:
    store = Store(copied.store)
    kept = store.manifests("train")
    first = next(m for m in kept if m.key == chain.adapters[0].key).artifact(Adapter)
    other = put(store, Exported, small.text("lineage.json"), {"again": True}, adapter=first)
    with pytest.raises(ConfigError) as refused:
        exported(store, chain.splits.key)
    text = str(refused.value)
    assert f"'{chain.splits.key}' belongs to 2 exports; name one: " in text
    assert other.key[:12] in text and chain.exported.key[:12] in text
    assert exported(store, other.key) == store.manifest("export", other.key)


def test_an_export_without_a_gguf_says_how_to_get_one(chain: Chain, copied: Home) -> None:
    store = Store(copied.store)
    first = next(m for m in store.manifests("train") if m.key == chain.adapters[0].key).artifact(Adapter)
    other = put(store, Exported, small.text("lineage.json"), {"again": True}, adapter=first)
    with pytest.raises(ConfigError, match=rf"export {other.key[:12]} holds no GGUF; put `gguf` into export.targets"):
        Chat(other.key, None, 8)


@pytest.mark.parametrize(("lines", "asked"), [("one\n two \n\nthree\n", ["one", "two"]), ("one", ["one"]), ("", [])])
def test_an_empty_line_or_the_end_of_input_ends(monkeypatch: pytest.MonkeyPatch, lines: str, asked: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    shown = io.StringIO()
    assert list(typed(Console(file=shown))) == asked
    assert shown.getvalue().startswith("Ask both; an empty line ends.\n> ")


@pytest.fixture(scope="module")
def spoken(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    """Seal an export whose GGUF is the base itself in 8 bits: both have to say the same."""
    root, shared = tmp_path_factory.mktemp("spoken"), Home.find().root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEMILL_HOME", str(root))
        (shared / "tools").mkdir(exist_ok=True)
        (root / "tools").symlink_to(shared / "tools")
        store = Store(Home.find().store)
        words: Tokenizer = put(store, Tokenizer, lambda folder: link((checkpoint / "tokenizer").iterdir(), folder))
        base: BaseWeights = put(store, BaseWeights, lambda folder: link((checkpoint / "model").iterdir(), folder))
        whole = store.open(base_gguf.run(store, base, words)) / "q8_0.gguf"

        def fill(folder: Path) -> None:
            (folder / "gguf").mkdir()
            gguf.stamp(whole, folder / "gguf" / "q8_0.gguf", {"run": "none"})

        splits = put(store, Splits, small.text("train.parquet"))
        adapter = put(store, Adapter, small.adapter, base=base, tokenizer=words, splits=splits)
        asked = EVALUATED.model_copy(update={"system": "Answer in one word."}).model_dump(mode="json")
        scored = put(store, Evaluation, small.text("summary.json"), asked, base=base, tokenizer=words, adapter=adapter)
        export: Exported = put(store, Exported, fill, adapter=adapter, evaluation=scored, tokenizer=words)
    return Home(root), export.key


@pytest.mark.model
@pytest.mark.timeout(300)
def test_both_answer_what_they_are_asked_and_what_they_say_is_no_markup(
    spoken: tuple[Home, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, key = spoken
    monkeypatch.setenv("TUNEMILL_HOME", str(home.root))
    shown = io.StringIO()
    chat = Chat(key[:8], None, 6)
    (said,) = talk(chat, Console(file=shown, width=100), ["Repeat this: [/bold] [x]"])
    assert said["prompt"] == "Repeat this: [/bold] [x]"
    assert said["base"] == said["tuned"] != ""
    assert "Repeat this: [/bold] [x]" in shown.getvalue()
    assert "base (q8_0)" in shown.getvalue() and "tuned (q8_0)" in shown.getvalue()
    roles = [turn.role for turn in chat.turns["tuned"]]
    assert (roles, chat.turns["tuned"][0].content) == (["system", "user", "assistant"], "Answer in one word.")


@pytest.mark.model
@pytest.mark.timeout(300)
def test_two_prompts_are_one_conversation_and_one_json_object(spoken: tuple[Home, str]) -> None:
    home, key = spoken
    words = [key, "--prompt", "Say hello.", "--prompt", "And again.", "--max-new-tokens", "6", "--json", "--system", ""]
    done = subprocess.run(
        [sys.executable, "-m", "tunemill.cli", "chat", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TUNEMILL_HOME": str(home.root)},
        cwd=PROJECT,
        check=True,
    )
    found: dict[str, Any] = orjson.loads(done.stdout)
    assert set(found) == {"answers"}
    assert [answer["prompt"] for answer in found["answers"]] == ["Say hello.", "And again."]
    assert all(answer["base"] == answer["tuned"] for answer in found["answers"])
    frame = [line for line in done.stderr.splitlines() if line.strip() and line.strip()[0] not in "╭│╰"]
    assert frame == ["Say hello.", "And again."], "llama.cpp must not be heard"
