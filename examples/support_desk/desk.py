"""Think up what customers ask and the desk answers: tickets without a fault, from the sentences in wording.toml."""

import json
import random
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

WORDING = Path(__file__).with_name("wording.toml")
START = datetime(2026, 3, 1, tzinfo=UTC)


class Ticket(NamedTuple):
    """One conversation: (question, answer) pairs, who asked, and when in minutes after `START`."""

    turns: tuple[tuple[str, str], ...]
    user: str
    minute: int
    context: str = ""
    """What the shop's form adds to the question: the order's number."""

    @property
    def time(self) -> str:
        """Give the time in ISO 8601, to the second."""
        return (START + timedelta(minutes=self.minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def grams(text: str) -> frozenset[str]:
    """Split a text, in lower case and without punctuation, into its 5-character substrings."""
    plain = re.sub(r"[\W_]+", " ", text.lower()).strip()
    return frozenset(plain[i : i + 5] for i in range(max(1, len(plain) - 4)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Give the share of common 5-grams, 0 to 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class Desk:
    """Think up tickets from one seed, none of them a near-duplicate of an earlier one."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.words: dict[str, Any] = tomllib.loads(WORDING.read_text(encoding="utf-8"))
        self.intents = sorted(self.words["intents"])
        self.slots = self.rng.sample(range(10_800), 600)
        self.seen: list[frozenset[str]] = []

    def facts(self) -> dict[str, str]:
        """Draw what one conversation is about."""
        drawn = {slot: self.rng.choice(self.words[f"{slot}s"]) for slot in ("product", "name", "town", "day", "street")}
        drawn["street"] = f"{self.rng.randint(2, 98)} {drawn['street']}"
        return drawn | {"order": str(self.rng.randint(2000, 9899))}

    def question(self, intent: str, facts: dict[str, str], opening: str, refer: bool) -> str:
        """Word a question: greeting, wish and details in varied order; the order's number if `refer` and unnamed."""
        said = self.words["intents"][intent]
        body = [self.rng.choice(said["asks"])]
        if self.rng.random() < 0.6:
            body.insert(self.rng.randint(0, 1), self.rng.choice(said["details"]))
        if refer and "{order}" in said["reply"] and "{order}" not in body[0] + body[-1]:
            body.insert(self.rng.randint(0, len(body)), self.rng.choice(self.words["references"]))
        if opening[-1:] in (",", ":") and not re.match(r"I\b", body[0]):
            body[0] = body[0][0].lower() + body[0][1:]
        closing = self.rng.choice(self.words["closings"]) if self.rng.random() < 0.4 else ""
        return " ".join(part for part in (opening, *body, closing) if part).format_map(facts)

    def answer(self, intent: str, facts: dict[str, str]) -> str:
        """Word the one answer that the desk gives to an intent."""
        reply = self.words["intents"][intent]["reply"].format_map(facts)
        return json.dumps({"intent": intent, "reply": reply}, ensure_ascii=False)

    def ticket(self, intent: str, *, exchanges: int = 1, form: bool = False) -> Ticket:
        """Draw a new ticket whose last intent is `intent`; with `form` its order number may stand in the context."""
        for _ in range(1000):
            facts = self.facts()
            form_here = form and self.rng.random() < 0.5 and "{order}" in self.words["intents"][intent]["reply"]
            intents = [*self.rng.sample([i for i in self.intents if i != intent], exchanges - 1), intent]
            turns = []
            for at, each in enumerate(intents):
                openings = self.words["follow_ups" if at else "openings"]
                opening = self.rng.choice(openings) if at or self.rng.random() < 0.6 else ""
                asked = self.question(each, facts, opening, refer=not form_here)
                turns.append((asked, self.answer(each, facts)))
            found = grams(" ".join([*(question for question, _ in turns), turns[-1][1]]))
            if all(jaccard(found, other) < 0.65 for other in self.seen):
                self.seen.append(found)
                minute = 20 * self.slots.pop() + self.rng.randrange(10)
                context = f"Order {facts['order']}" if form_here else ""
                return Ticket(tuple(turns), f"c-{self.rng.randint(1001, 1280)}", minute, context)
        raise RuntimeError(f"1,000 tries gave no new question for {intent}; add wording to {WORDING}")

    def tickets(self, count: int, *, two_exchanges: int = 0, form: bool = False) -> list[Ticket]:
        """Draw tickets, every intent about equally often; in the first `two_exchanges` the customer asks twice."""
        intents = [self.intents[i % len(self.intents)] for i in range(count)]
        self.rng.shuffle(intents)
        return [self.ticket(intent, exchanges=1 + (at < two_exchanges), form=form) for at, intent in enumerate(intents)]
