"""What `tunemill preview` says of files before the first run."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from tasks.located import located_model
from tasks.model import tokenizer
from tasks.preview import Preview, preview
from tasks.preview_text import tell
from tasks.suggest_map import line, suggest
from tests.models.conftest import CHATML, Build
from tests.models.conftest import tokenizer_folder as tokenizer_folder
from tests.models.tool_templates import HERMES
from tunemill.artifacts import Tokenizer
from tunemill.config import PipelineConfig, load
from tunemill.home import PROJECT, Home
from tunemill.models.chat import Chat
from tunemill.rows import Message
from tunemill.store import Store

ANSWER = "Send us a photo of the box, and we pay within 14 days."
DESK = str(PROJECT / "examples" / "support_desk")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty home, and stand in the folder beside it."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    Home.find().enter()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.fixture
def held(tokenizer_folder: Build, home: Path) -> Callable[..., Chat]:
    """Put a small tokenizer into the store as that of the quickstart's model."""

    def put(**about: object) -> Chat:
        folder = tokenizer_folder(**about)
        seal(folder)
        return Chat(folder)

    return put


def seal(folder: Path) -> None:
    source = located_model(quickstart().model)
    store, parts = Store(Home.find().store), tokenizer.parts({"source": source})
    with store.work(tokenizer.name, tokenizer.key({"source": source})) as work:
        for path in folder.iterdir():
            (work.folder / path.name).write_bytes(path.read_bytes())
        work.seal(Tokenizer)
        store.commit(work, Tokenizer, parts, {})


def quickstart(*overrides: str) -> PipelineConfig:
    return load(PROJECT / "pipeline_configs" / "quickstart.yaml", overrides)


def put(name: str, *records: object) -> str:
    lines = [each if isinstance(each, bytes) else orjson.dumps(each) for each in records]
    Path(name).write_bytes(b"".join(line + b"\n" for line in lines))
    return name


def chat(question: str, answer: str = ANSWER, **more: object) -> dict[str, object]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


def printed(found: Preview, **about: object) -> str:
    out = StringIO()
    tell(found, Console(file=out, highlight=False, markup=False, **{"width": 80, **about}))  # type: ignore[arg-type]
    return out.getvalue()


def test_the_first_records_tell_encoding_shapes_keys_and_ids() -> None:
    data = b"\xef\xbb\xbf" + b"".join(
        orjson.dumps(record) + b"\r\n"
        for record in (chat("Where is it?", session_id="s-7"), {"prompt": "a", "completion": "b", "time": 0})
    )
    Path("log.jsonl.gz").write_bytes(gzip.compress(data))
    (facts,) = preview("log.jsonl.gz").files
    assert (facts.file, facts.format, facts.packed, facts.line_ends) == ("log.jsonl.gz", "jsonl", "gzip", "CRLF")
    assert facts.encoding == "UTF-8 with byte order mark"
    assert facts.shapes == {"messages": 1, "prompt + completion": 1}
    assert facts.keys == {"messages": 1, "session_id": 1, "prompt": 1, "completion": 1, "time": 1}
    assert (facts.known["conversation"].key, facts.known["conversation"].example) == ("session_id", "s-7")
    assert set(facts.known) == {"conversation", "time"}


def flat_tree(number: int) -> list[dict[str, object]]:
    """Give the 3 messages of a tree as OpenAssistant's flat export writes them; that of the root has no parent_id."""
    root = {"message_id": f"{number}", "role": "prompter", "text": f"Where is parcel {number}?", "user_id": "u1"}
    reply = {"parent_id": f"{number}", "role": "assistant", "text": ANSWER}
    return [root, *({**reply, "message_id": f"{number}.{rank}", "rank": rank} for rank in (1, 0))]


def test_the_first_200_messages_of_100_flat_trees_are_66_whole_trees_and_no_map_is_suggested() -> None:
    found = preview(put("log.jsonl", *(message for number in range(100) for message in flat_tree(number))))
    (facts,) = found.files
    assert (facts.read, facts.shapes, facts.suggested) == (200, {"messages of a flat tree": 200}, {})
    assert (found.read, found.rejected, found.size.exact) == (66, [], False)
    assert 95 <= found.size.rows == found.size.records <= 105
    assert [row.line for row in found.shown] == [1, 4, 7, 10, 13]


def test_a_file_without_mapped_columns_shows_the_ids_that_are_guessed() -> None:
    put("log.jsonl", chat("Where is it?", user="u1", time="2026-01-31"))
    (facts,) = preview("log.jsonl", quickstart()).files  # its map names customer_id and created_at
    assert {field: known.key for field, known in facts.known.items()} == {"user": "user", "time": "time"}


def test_trained_tokens_are_the_answers_and_what_ends_them(held: Callable[..., Chat]) -> None:
    model = held()
    put("log.jsonl", chat("Where is it? <|im_end|>"))
    (row,) = preview("log.jsonl").shown
    turns = [Message("user", "Where is it? <|im_end|>"), Message("assistant", ANSWER)]
    assert "".join(part.text for part in row.parts) == model.text(turns)
    assert [part.text for part in row.parts if part.trained] == [f"{ANSWER}<|im_end|>"]
    assert (row.tokens, row.trained_tokens) == (len(model.encode(turns).ids), sum(model.encode(turns).trained))


def test_in_a_pipe_trained_tokens_stand_between_marks_and_on_a_terminal_in_colour(held: Callable[..., Chat]) -> None:
    held()
    found = preview(put("log.jsonl", chat("Where is it?")))
    assert f"\n    ⟦{ANSWER}<|im_end|>⟧\n" in printed(found)
    shown = printed(found, force_terminal=True, color_system="standard", width=120)
    assert f"\x1b[1;32m{ANSWER}<|im_end|>\x1b[0m" in shown
    assert "⟦" not in shown


def test_without_a_tokenizer_the_turns_are_shown_and_how_to_get_it(home: Path) -> None:
    found = preview(put("log.jsonl", chat("Where is it?")))
    text = printed(found)
    assert f"\n    user: Where is it?\n    assistant: {ANSWER}\n" in text
    assert "the tokenizer of smollm2-135m-instruct is not held; --fetch gets it" in text
    assert not (home / "store" / "tokenizer").exists()
    assert not (home / "downloads").exists()


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ("question,answer", "map: {prompt: question, answer: answer}"),
        ("query,response,thread_id", "map: {prompt: query, answer: response, conversation: thread_id}"),
        ("id,Customer Question,Our Reply", "map: {prompt: Customer Question, answer: Our Reply}"),
        ("qestion,anwser", "map: {prompt: qestion, answer: anwser}"),
        ("flags,utterance,category,intent", "map: {prompt: utterance, answer: intent}"),
        ("instruction,input,response", "map: {prompt: instruction, answer: response, input: input}"),
        ("headline,label,user_id", "map: {prompt: headline, answer: label}"),
        ("x,reply,client", "map: {prompt: COLUMN, answer: reply, user: client}"),
    ],
)
def test_columns_that_are_not_known_get_the_map_to_write(columns: str, lines: str) -> None:
    assert line(suggest(columns.split(","))) == lines


def test_without_a_configuration_rows_are_read_with_the_suggested_map() -> None:
    Path("tickets.csv").write_text("query;label\nWhere is it?;track_order\n")
    found = preview("tickets.csv")
    assert [message.content for message in found.shown[0].messages] == ["Where is it?", "track_order"]
    assert "for tickets.csv (as the rows above were read):\n  map: {prompt: query, answer: label}\n" in printed(found)


def test_a_map_that_names_other_columns_is_what_would_stop_a_run() -> None:
    Path("tickets.csv").write_text("query,label\nWhere is it?,track_order\n")
    text = printed(preview("tickets.csv", quickstart()))
    assert "A run would stop: " in text
    assert "tickets.csv:1  4 of 4 columns that ingest.map names are not in the file: prompt: question" in text
    assert "no row can be read without it):\n  map: {prompt: query, answer: label}\n" in text


def test_what_would_be_rejected_is_counted_by_reason_with_the_first_place() -> None:
    put("a.jsonl", chat("Where?"), b"{broken", chat("Who?", "short"), b"{broken too", chat("When?"))
    found = preview("*.jsonl", quickstart())
    told = [(r.stage, r.reason, r.records, r.file, r.line) for r in found.rejected]
    assert told == [
        ("ingest", "broken JSON", 2, "a.jsonl", 2),
        ("validate", "`answer` shorter than 50 characters", 1, "a.jsonl", 3),
    ]
    assert (found.size.records, found.size.rows, found.size.kept, found.size.exact) == (5, 3, 2, True)
    text = printed(found)
    assert "ingest would reject 2 of 5 records (40.0%; ingest.max_rejected allows 10%, so a run would stop)" in text
    assert "     1  `answer` shorter than 50 characters  e.g. a.jsonl:3  (answer_characters: 5)\n" in text


def test_a_rule_on_tokens_is_asked_where_the_tokenizer_is_held(held: Callable[..., Chat]) -> None:
    put("a.jsonl", chat("Where?"), chat("Where is it? " * 200))
    assert preview("a.jsonl", quickstart()).rejected == []
    held()
    (reason,) = preview("a.jsonl", quickstart()).rejected
    assert (reason.reason, reason.line) == ("longer than 256 tokens", 2)


def test_the_sample_desk_is_previewed_as_ingest_reads_it() -> None:
    found = preview(DESK, quickstart())
    reasons = {r.reason: r.records for r in found.rejected if r.stage == "ingest"}
    assert (found.size.records, found.size.rows, sum(reasons.values())) == (400, 384, 16)
    assert reasons["empty answer"] == 9


def test_only_the_first_records_of_a_file_of_10_gb_are_read() -> None:
    put("big.jsonl", *(chat(f"Where is parcel {number}?") for number in range(300)))
    os.truncate("big.jsonl", 10 << 30)
    found = preview("big.jsonl")
    assert (found.read, found.rejected, found.size.exact) == (200, [], False)
    assert 50_000_000 < found.size.records < 120_000_000
    assert "about " in printed(found)


def test_of_records_of_megabytes_only_a_few_are_held() -> None:
    put("fat.jsonl", *(chat("x" * 7_000_000) for _ in range(12)))
    assert preview("fat.jsonl").read == 5


def test_rows_are_shown_by_turns_from_each_file() -> None:
    put("a.jsonl", *(chat(f"a {number}") for number in range(9)))
    put("b.jsonl", *(chat(f"b {number}") for number in range(9)))
    assert [f"{row.file}:{row.line}" for row in preview(".", rows=3).shown] == ["a.jsonl:1", "b.jsonl:1", "a.jsonl:2"]


def test_many_files_are_looked_into_here_and_there() -> None:
    for number in range(120):
        put(f"{number:03}.jsonl", *(chat(f"{number} {each}") for each in range(100)))
    found = preview(".")
    assert (len(found.files), found.files_in_all, found.read) == (50, 120, 2_000)
    assert found.files[-1].file == "117.jsonl"
    assert 11_000 < found.size.records < 13_000
    assert "and 110 more files; 50 of all were looked into" in printed(found)


def test_a_log_cannot_steer_the_terminal() -> None:
    text = printed(preview(put("log.jsonl", chat("\x1b]0;owned\x07[bold]red", user="\x1b[2J"))))
    assert "\x1b" not in text
    assert "␛]0;owned␇[bold]red" in text


def test_a_long_text_is_shown_from_both_its_ends() -> None:
    text = printed(preview(put("log.jsonl", chat("begin " + "x" * 50_000 + " end"))))
    assert "begin xxx" in text
    assert "x end\n" in text
    assert " characters left out " in text
    assert len(text) < 3_000


def test_a_conversation_that_the_template_refuses_is_told_with_its_reason(held: Callable[..., Chat]) -> None:
    held(template="{% if messages|length > 2 %}{{ raise_exception('only one turn') }}{% endif %}" + CHATML)
    turns = [Message("user", "a"), Message("assistant", "b")] * 2
    put("log.jsonl", {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]})
    (row,) = preview("log.jsonl").shown
    assert "only one turn" in row.refused
    assert any("only one turn" in stop for stop in preview("log.jsonl", quickstart()).stops)


def test_utf_16_is_named_with_the_way_out() -> None:
    Path("excel.csv").write_bytes("question,answer\nWhere?,There\n".encode("utf-16"))
    assert "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW" in printed(preview("excel.csv"))


def loaded(home: Path, *words: str) -> str:
    """Run the command and give the heavy libraries that it loaded."""
    names = "torch transformers prefect mlflow datasets great_expectations"
    code = (
        "import sys\nfrom tunemill.cli import main\n"
        f"try: main()\nfinally: print([m for m in '{names}'.split() if m in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "preview", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TUNEMILL_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert "--json" not in words or orjson.loads(done.stdout)["size"]["rows"] == 1
    return done.stderr.strip()


def test_no_heavy_library_is_loaded_but_what_renders_the_template(held: Callable[..., Chat], home: Path) -> None:
    put("log.jsonl", chat("Where is it?"))
    assert loaded(home, "log.jsonl") == "[]"
    held()
    assert loaded(home, "log.jsonl", "--json") == "['transformers']"


@pytest.mark.model
def test_the_quickstarts_model_sees_what_transformers_gives_it(checkpoint: Path) -> None:
    seal(checkpoint / "tokenizer")
    model = Chat(checkpoint / "tokenizer")
    for row in preview(DESK, quickstart(), rows=20).shown:
        assert row.tokens == len(model.stock_ids(row.messages))
        assert "".join(part.text for part in row.parts) == model.text(row.messages)
        answers = [message.content for message in row.messages if message.role == "assistant"]
        assert [part.text for part in row.parts if part.trained] == [f"{answer}<|im_end|>" for answer in answers]


def calling() -> dict[str, object]:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"number": 7}'}}
    return {
        "messages": [
            {"role": "user", "content": "Where is order 7, please?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "behind the shed"},
            {"role": "assistant", "content": ANSWER},
        ],
        "tools": [{"type": "function", "function": {"name": "find"}}],
    }


def test_a_call_is_shown_as_the_model_will_see_it_with_its_trained_tokens(held: Callable[..., Chat]) -> None:
    held(template=HERMES)
    (row,) = preview(put("log.jsonl", calling())).shown
    trained = [part.text for part in row.parts if part.trained]
    assert trained == [
        '<tool_call>\n{"name": "find", "arguments": {"number": 7}}\n</tool_call><|im_end|>',
        f"{ANSWER}<|im_end|>",
    ]


def test_a_row_with_calls_would_be_rejected_where_the_template_has_no_place_for_them(
    held: Callable[..., Chat],
) -> None:
    held()
    found = preview(put("log.jsonl", calling(), chat("Where is it, please?")), quickstart())
    assert [(one.stage, one.reason, one.line) for one in found.rejected] == [
        ("validate", "the model's chat template has no place for tool calls", 1)
    ]
    assert (len(found.shown), found.stops) == (1, [])


def test_without_a_tokenizer_a_call_is_shown_as_text() -> None:
    assert 'assistant: {"name":"find","arguments":{"number":7}}' in printed(preview(put("log.jsonl", calling())))
