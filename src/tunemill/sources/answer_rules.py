"""Reject answers that break the format their own prompt asks for, by rules that stand in the YAML."""

import re
from collections.abc import Sequence
from typing import Annotated, cast

from pydantic import AfterValidator, StringConstraints, model_validator

from tunemill.rows import Message
from tunemill.section import Section
from tunemill.sources.reasons import Fault, Reason


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}; in YAML write it in single quotes") from None
    return pattern


Pattern = Annotated[str, StringConstraints(min_length=1), AfterValidator(_compiles)]


class AnswerRule(Section):
    r"""Reject rows by their last answer: `{not_matches: '^\[\[[^\[\]]+\]\]$', reason: not one [[class]]}`.

    Patterns are Python's regular expressions and are searched for; `^` and `$` tie them to the whole text.
    """

    matches: Pattern | None = None
    """The row is rejected where this stands in the answer."""
    not_matches: Pattern | None = None
    """The row is rejected where this does not stand in the answer."""
    prompt_matches: Pattern | None = None
    """The rule holds only where this stands in one of the turns before the answer."""
    reason: Annotated[str, StringConstraints(pattern=r"\S", max_length=80)]
    """What is counted and shown for a row that is rejected."""

    @model_validator(mode="after")
    def _one_pattern(self) -> "AnswerRule":
        if (self.matches is None) == (self.not_matches is None):
            raise ValueError("names one of `matches` and `not_matches`")
        return self


class AnswerRules:
    """Apply rules in their order, each pattern compiled once."""

    def __init__(self, rules: Sequence[AnswerRule]) -> None:
        self._rules = [
            (rule, re.compile(rule.matches or rule.not_matches or ""), re.compile(rule.prompt_matches or ""))
            for rule in rules
        ]

    def check(self, turns: Sequence[Message]) -> None:
        """Let a conversation through.

        Raises:
            Fault: its last answer breaks a rule; the reason is the rule's.
        """
        if not self._rules:
            return
        last = max(i for i, one in enumerate(turns) if one.role == "assistant")
        answer = turns[last].said
        for rule, pattern, asked in self._rules:
            found = pattern.search(answer) is not None
            broken = found if rule.matches else not found
            if broken and (not rule.prompt_matches or any(asked.search(one.said) for one in turns[:last])):
                raise Fault(cast(Reason, rule.reason), f"the answer is {answer[:200]!r}")
