"""One dataset that breaks every built-in rule, validated once."""

import pytest

from tunemill.quality.expectations import validate
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Message, make_row

SOURCE = "ab" * 32
LONG_ENOUGH = "The parcel left the depot on Monday and arrives tomorrow."


def row(line, question="Where is my parcel?", answer=LONG_ENOUGH, roles="user assistant"):
    """Build a conversation of two turns, or of more with the same question in the turns before the answer."""
    names = roles.split()
    turns = [Message(role, question) for role in names[:-1]] + [Message(names[-1], answer)]
    return make_row(turns, SOURCE, line)


def words(messages, tools=None):
    return sum(len(message.content.split()) for message in messages)


EMPTY = [
    row(21, answer=" \n "),
    row(22, question=""),
    make_row(
        [Message("user", "a"), Message("assistant", ""), Message("user", "b"), Message("assistant", LONG_ENOUGH)],
        SOURCE,
        23,
    ),
]
WRONG = [
    *EMPTY,
    row(24, roles="user user assistant"),
    row(25, answer="yes"),
    row(26, answer="z" * 400),
    row(27, question="Eh?"),
    row(28, answer="a b " * 60 + "end"),
    row(29, answer="Call 555-0199 and ask for the parcel, they know it well."),
    row(30, question="Eh?", answer="yes"),
]
SETTINGS = ValidateSettings.model_validate(
    {
        "max_answer_characters": 300,
        "min_prompt_characters": 5,
        "max_tokens": 100,
        "max_rejected": 0.5,
        "expectations": [
            {
                "type": "expect_column_values_to_not_match_regex",
                "column": "answer",
                "regex": r"\d{3}-\d{4}",
                "reason": "`answer` holds a phone number",
            },
            {"type": "expect_column_mean_to_be_between", "column": "tokens", "max_value": 50},
        ],
    }
)


@pytest.fixture(scope="session")
def rows():
    """Give 20 good rows (one with white space to clean) and 10 wrong ones, newest first."""
    good = [row(line, question=f"Where is parcel {line}?") for line in range(1, 20)] + [row(20, question="Where?  ")]
    return [*WRONG[::-1], *good[::-1]]


@pytest.fixture(scope="session")
def docs(tmp_path_factory):
    return tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="session")
def validated(rows, docs):
    return validate(rows, SETTINGS, words, docs)
