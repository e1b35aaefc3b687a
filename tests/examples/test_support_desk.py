"""Hold the example's data to what its generator and its README say of them."""

import csv
import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

DESK = Path(__file__).parents[2] / "examples" / "support_desk"
FILES = ("tickets.csv", "tickets.jsonl", "chats.json")
SYSTEM = "You are the support desk of Fernhill Tools. Answer with JSON: intent and reply."


class Talk(NamedTuple):
    """One readable conversation: where it stands, its turns, its 5-grams and when it was."""

    file: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    grams: frozenset[str]
    time: str


class Log(NamedTuple):
    """What a reader of its own found in a folder: conversations, and (file, reason) of the records it refused."""

    talks: list[Talk]
    refused: Counter[tuple[str, str]]


def plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def grams(text: str) -> frozenset[str]:
    letters = plain(text)
    return frozenset(letters[i : i + 5] for i in range(len(letters) - 4))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def talk(file: str, questions: list[str], answers: list[str], time: str) -> Talk:
    return Talk(file, tuple(questions), tuple(answers), grams(" ".join([*questions, answers[-1]])), time)


def not_finite(written: str) -> NoReturn:
    raise ValueError(f"{written} is no number")


def csv_records(raw: bytes) -> Iterator[Talk | str]:
    table = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
    header = next(table)
    assert header == ["ticket_id", "created_at", "customer_id", "question", "intent", "answer"]
    for row in table:
        if len(row) == 6:
            yield talk("tickets.csv", [row[3]], [row[5]], row[1])
        else:
            yield f"{len(row)} columns"


def jsonl_records(raw: bytes) -> Iterator[Talk | str]:
    for line in raw.removesuffix(b"\n").split(b"\n"):
        try:
            record = json.loads(line.decode(), parse_constant=not_finite) if line else None
        except UnicodeDecodeError:
            yield "not UTF-8"
        except json.JSONDecodeError as error:
            yield "NUL byte" if b"\0" in line else error.msg
        except ValueError as error:
            yield str(error)
        else:
            yield lone_exchange(record) if record else "blank"


def lone_exchange(record: dict[str, str]) -> Talk:
    if "prompt" in record:
        return talk("tickets.jsonl", [record["prompt"]], [record["completion"]], record["time"])
    asked = f"{record['instruction']}\n\n{record['input']}".strip()
    return talk("tickets.jsonl", [asked], [record["output"]], record["time"])


def chat_records(raw: bytes) -> Iterator[Talk | str]:
    for record in json.loads(raw):
        roles = {message["role"] for message in record["messages"]}
        said = {role: [m["content"] for m in record["messages"] if m["role"] == role] for role in roles}
        if not roles:
            yield "no turns"
        elif strange := roles - {"system", "user", "assistant"}:
            yield f"role {strange.pop()}"
        else:
            assert said["system"] == [SYSTEM]
            yield talk("chats.json", said["user"], said["assistant"], record["time"])


def read(folder: Path) -> Log:
    readers = zip(FILES, (csv_records, jsonl_records, chat_records), strict=True)
    found = [(file, record) for file, reader in readers for record in reader((folder / file).read_bytes())]
    refused = Counter((file, record) for file, record in found if isinstance(record, str))
    return Log([record for _, record in found if isinstance(record, Talk)], refused)


def generate(folder: Path, *options: str) -> Path:
    subprocess.run([sys.executable, str(DESK / "generate.py"), "--out", str(folder), *options], check=True)
    return folder


def answered(log: Log) -> list[Talk]:
    """Leave out what has no real answer or is far too long."""
    return [t for t in log.talks if len(t.answers[-1].strip()) >= 50 and len(t.questions[-1]) < 10_000]


def twins(log: Log) -> list[tuple[Talk, Talk]]:
    """Find all pairs with a similarity of 0.7 or more, the older first (of two equal times: the earlier file)."""
    talks = sorted(answered(log), key=lambda t: (t.time, FILES.index(t.file)))
    return [(a, b) for at, b in enumerate(talks) for a in talks[:at] if jaccard(a.grams, b.grams) >= 0.7]


def change(old: Talk, new: Talk) -> str:
    """Name what makes the younger of two twins differ."""
    was, now = old.questions[-1], new.questions[-1]
    if was == now:
        return "same file" if old.file == new.file else f"from {old.file}"
    if was.lower() == now.lower():
        return "case"
    if plain(was) == plain(now):
        return "punctuation"
    words = [(a, b) for a, b in zip(plain(was).split(), plain(now).split(), strict=True) if a != b]
    assert len(words) == 1
    return "typo" if sorted(words[0][0]) == sorted(words[0][1]) else "word"


def good(log: Log) -> list[Talk]:
    """Leave one of every near-duplicate, and neither side of a contradiction."""
    copies = {id(new) for _, new in twins(log)}
    left = [t for t in answered(log) if id(t) not in copies]
    asked = Counter(t.questions for t in left)
    return [t for t in left if asked[t.questions] == 1]


def per_file(talks: list[Talk]) -> tuple[int, ...]:
    counts = Counter(t.file for t in talks)
    return tuple(counts[file] for file in FILES)


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("seed_2"), "--seed", "2")


@pytest.fixture(scope="module", params=["committed", "seed 2"])
def log(request: pytest.FixtureRequest, another: Path) -> Log:
    return read(DESK if request.param == "committed" else another)


def test_the_committed_files_are_byte_for_byte_what_the_generator_writes(tmp_path: Path) -> None:
    made = generate(tmp_path)
    assert {file: (made / file).read_bytes() == (DESK / file).read_bytes() for file in FILES} == dict.fromkeys(
        FILES, True
    )


def test_another_seed_writes_other_tickets(another: Path) -> None:
    shared = {t.questions for t in read(another).talks} & {t.questions for t in read(DESK).talks}
    assert len(shared) < 20  # messages of few words come up again


def test_320_good_rows_remain(log: Log) -> None:
    assert per_file(good(log)) == (136, 104, 80)


def test_every_good_answer_is_json_of_an_intent_and_a_reply_in_50_characters_or_more(log: Log) -> None:
    answers = [answer for t in good(log) for answer in t.answers]
    assert {tuple(json.loads(answer)) for answer in answers} == {("intent", "reply")}
    assert min(map(len, answers)) >= 50
    assert max(answer.count("\n") for answer in answers) == 0


def test_eight_intents_have_40_good_rows_each(log: Log) -> None:
    assert sorted(Counter(json.loads(t.answers[-1])["intent"] for t in good(log)).values()) == [40] * 8


def test_26_good_rows_hold_two_exchanges(log: Log) -> None:
    assert Counter(len(t.questions) for t in good(log)) == {1: 294, 2: 26}


def test_no_group_of_alike_questions_holds_more_than_5_percent_of_the_good_rows(log: Log) -> None:
    rows = [grams(" ".join(t.questions)) for t in good(log)]
    group = list(range(len(rows)))
    for at, row in enumerate(rows):
        joined = {group[other] for other in range(at) if jaccard(row, rows[other]) >= 0.5}
        group = [at if g in joined else g for g in group]
    assert max(Counter(group).values()) <= 16


def test_55_near_duplicates_are_planted_and_no_other_is_there(log: Log) -> None:
    pairs = twins(log)
    assert {id(old) for old, _ in pairs}.isdisjoint({id(new) for _, new in pairs})
    assert Counter((new.file, change(old, new)) for old, new in pairs) == {
        ("tickets.csv", "same file"): 8,
        ("tickets.jsonl", "same file"): 4,
        ("chats.json", "same file"): 3,
        ("tickets.jsonl", "from tickets.csv"): 6,
        ("chats.json", "from tickets.csv"): 6,
        **{("tickets.csv", kind): 3 for kind in ("case", "typo", "punctuation", "word")},
        **{(file, kind): 2 for file in FILES[1:] for kind in ("case", "typo", "punctuation", "word")},
    }


def test_near_duplicates_have_a_similarity_of_0_75_or_more(log: Log) -> None:
    assert min(jaccard(old.grams, new.grams) for old, new in twins(log)) >= 0.75


def test_nine_answers_are_empty(log: Log) -> None:
    assert per_file([t for t in log.talks if not t.answers[-1].strip()]) == (4, 3, 2)


def test_six_answers_are_shorter_than_50_characters(log: Log) -> None:
    assert per_file([t for t in log.talks if 0 < len(t.answers[-1].strip()) < 50]) == (3, 2, 1)


def test_one_question_has_two_intents_in_two_files(log: Log) -> None:
    kept = answered(log)
    pairs = [
        (a, b)
        for at, b in enumerate(kept)
        for a in kept[:at]
        if a.questions == b.questions and json.loads(a.answers[-1])["intent"] != json.loads(b.answers[-1])["intent"]
    ]
    assert [(a.file, b.file) for a, b in pairs] == [("tickets.csv", "tickets.jsonl")]


def test_one_question_is_longer_than_10000_characters(log: Log) -> None:
    assert per_file([t for t in log.talks if len(t.questions[-1]) > 10_000]) == (0, 1, 0)
    assert max(len(question) for t in answered(log) for question in t.questions) < 250


def test_seven_records_cannot_be_read_and_two_lines_are_blank(log: Log) -> None:
    cut = [reason for _, reason in log.refused if reason.startswith(("Unterminated", "Expecting"))]
    assert len(cut) == 1
    assert log.refused == {
        ("tickets.csv", "8 columns"): 1,
        ("tickets.jsonl", cut[0]): 1,
        ("tickets.jsonl", "not UTF-8"): 1,
        ("tickets.jsonl", "NUL byte"): 1,
        ("tickets.jsonl", "NaN is no number"): 1,
        ("tickets.jsonl", "blank"): 2,
        ("chats.json", "role supervisor"): 1,
        ("chats.json", "no turns"): 1,
    }


def test_the_csv_begins_with_a_byte_order_mark_and_ends_its_166_records_with_crlf() -> None:
    raw = (DESK / "tickets.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfticket_id,")
    assert raw.count(b"\r\n") == 166  # one header, 165 tickets
    assert not any(b"\r" in (DESK / file).read_bytes() for file in FILES[1:])


def test_four_questions_of_the_csv_hold_a_line_break() -> None:
    assert sum("\n" in t.questions[0] for t in read(DESK).talks if t.file == "tickets.csv") == 4


def test_five_questions_of_the_csv_and_five_lines_of_the_jsonl_end_in_spaces() -> None:
    assert sum(t.questions[0].endswith(" ") for t in read(DESK).talks if t.file == "tickets.csv") == 5
    assert (DESK / "tickets.jsonl").read_bytes().count(b" \t \n") == 5


def test_the_log_runs_from_old_to_new(log: Log) -> None:
    for file in FILES:
        times = [t.time for t in log.talks if t.file == file]
        assert times == sorted(times)


def planted_tables() -> dict[str, dict[str, tuple[int, ...]]]:
    """Ask the generator for its tables, in a process that runs it as a person would."""
    code = "import generate, json; print(json.dumps({'DIRT': generate.DIRT, 'QUIRKS': generate.QUIRKS}))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=DESK, capture_output=True, check=True).stdout
    tables = json.loads(printed).items()
    return {name: {kind: tuple(counts) for kind, counts in table.items()} for name, table in tables}


@pytest.mark.parametrize("table", ["DIRT", "QUIRKS"])
def test_the_readme_lists_the_counts_that_the_generator_plants(table: str) -> None:
    planted = planted_tables()[table]
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|", (DESK / "README.md").read_text("utf-8"), re.MULTILINE)
    written = {kind: tuple(map(int, counts)) for kind, *counts in rows}
    assert {kind: written.get(kind) for kind in planted} == planted


def test_the_readme_lists_nothing_that_the_generator_does_not_plant() -> None:
    made = planted_tables()
    rows = re.findall(r"^\| (\w+) \| \d+ \| \d+ \| \d+ \|", (DESK / "README.md").read_text("utf-8"), re.MULTILINE)
    assert rows == [*made["DIRT"], *made["QUIRKS"]]
    assert sum(sum(counts) for counts in made["DIRT"].values()) == 80
