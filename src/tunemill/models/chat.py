"""Turn conversations into tokens: the one way for training, evaluation and few-shot prompts alike.

Only the chat template can write control tokens. They cut the rendered text into runs, and each run, content included,
is read by a tokenizer that knows no control tokens. Where content holds none, this gives what `apply_chat_template`
gives. The one exception: an answer is always cut from its prompt, as it is when the model is asked; an answer that
begins with white space would otherwise share a token with the line break before it.

Tool calls, their results and the tools offered are content like any other: their strings write no control token.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunemill.errors import ModelError
from tunemill.models.calls import plan_calls
from tunemill.models.plain import is_control, plain_tokenizer
from tunemill.models.plan import Control, Found, Plan, Run, plan
from tunemill.models.sources import read_json
from tunemill.models.template import Skeleton, Template, special_names
from tunemill.rows import Message


class Encoded(msgspec.Struct, frozen=True):
    """Token ids of a conversation and, for each, whether the model is trained to write it."""

    ids: list[int]
    trained: list[bool]


class Chat:
    """Read and write the tokens of one model; made from a folder that `write_tokenizer` wrote, without torch."""

    template_digest: str
    """sha256 of the chat template's text, 64 hex digits."""
    end_ids: tuple[int, ...]
    """Ids that end an assistant turn; the first is the one that is trained."""
    pad_id: int
    """Id to fill batches with; it may be one of `end_ids`, so take masks from `Encoded.trained`, never from it."""

    def __init__(self, folder: Path) -> None:
        """Load tokenizer and template.

        Raises:
            ModelError: the template never ends an answer with a control token, so the model would not learn to stop.
        """
        from tokenizers import Tokenizer

        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        special = special_names(read_json(folder / "tokenizer_config.json"))
        self._folder = folder
        self._full = Tokenizer.from_str(text)
        self._full.no_truncation()
        self._full.no_padding()
        self._plain = plain_tokenizer(text, first=False)
        self._first = plain_tokenizer(text, first=True) if '"prepend_scheme"' in text else self._plain
        self._template = Template(template, special)
        self._plans: dict[tuple[tuple[str, ...], bool], Plan] = {}
        self._stock: Any = None
        self._controls = {each["id"]: each for each in json.loads(text)["added_tokens"] if is_control(each)}
        self.template_digest = hashlib.sha256(template.encode()).hexdigest()
        self.end_ids, self.pad_id = self._ends(special)

    def encode(self, messages: Sequence[Message], tools: str | None = None) -> Encoded:
        """Give the whole conversation; trained are the answers and calls, each turn with the token that ends it.

        Where the template writes something of its own between generation prompt and answer (an empty thought, say),
        that is trained too: the model has to write it before it answers.

        Args:
            tools: the functions that the model is offered, as a row holds them; they are never trained.

        Raises:
            ModelError: the template refuses the conversation, changes what is in it, or has no place for tool calls.
        """
        ids: list[int] = []
        trained: list[bool] = []
        for part, flag in self._parts(messages, tools, generation_prompt=False):
            ids += part
            trained += [flag] * len(part)
        return Encoded(ids, trained)

    def prompt(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """Give what the model is shown before it answers: a strict prefix of the conversation with any answer.

        Raises:
            ModelError: as `encode`.
        """
        if not _has_calls(messages, tools):
            self._plan((*(message.role for message in messages), "assistant"), False)
        return [number for part, _ in self._parts(messages, tools, generation_prompt=True) for number in part]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, special tokens left out."""
        return str(self._full.decode(list(ids), skip_special_tokens=True))

    def text(self, messages: Sequence[Message], generation_prompt: bool = False, tools: str | None = None) -> str:
        """Give the conversation as the template writes it; control tokens in content look like the real ones here."""
        return self._template.text(messages, generation_prompt, tools)

    def stock_ids(self, messages: Sequence[Message], tools: str | None = None) -> list[int]:
        """Give what `apply_chat_template` of transformers gives, to compare with; it can be forged by content."""
        if self._stock is None:
            from transformers import AutoTokenizer

            self._stock = AutoTokenizer.from_pretrained(str(self._folder), local_files_only=True)
        turns = [message.fields for message in messages]
        offered = None if tools is None else json.loads(tools)
        return list(self._stock.apply_chat_template(turns, tools=offered, tokenize=True, return_dict=False))

    def _parts(
        self, messages: Sequence[Message], tools: str | None, generation_prompt: bool
    ) -> Iterator[tuple[list[int], bool]]:
        if _has_calls(messages, tools):
            made = plan_calls(self._template, messages, tools, generation_prompt, self._find, self.end_ids[0])
            yield from self._tokens(made, [])
            return
        roles = tuple(message.role for message in messages)
        skeleton = self._template.skeleton(roles, generation_prompt)
        rendered = self._template.text(messages, generation_prompt)
        contents = self._template.contents(skeleton, messages, rendered)
        yield from self._tokens(self._plan(roles, generation_prompt), contents)

    def _tokens(self, parts: Plan, contents: list[str]) -> Iterator[tuple[list[int], bool]]:
        for part in parts:
            if isinstance(part, Control):
                yield [part.id], part.trained
            else:
                lead, answer = self._run(part, contents)
                yield lead, False
                yield answer, True

    def _run(self, run: Run, contents: list[str]) -> tuple[list[int], list[int]]:
        """Give the ids of one run, cut where the answer begins; the spaces that a control token swallows are left out.

        The answer is read behind its lead, since many tokenizers read a word otherwise at the start of a text.
        """
        lead = "".join(piece if isinstance(piece, str) else contents[piece] for piece in run.lead)
        answer = "".join(piece if isinstance(piece, str) else contents[piece] for piece in run.answer)
        if run.lstrip:
            lead, answer = lead.lstrip(), answer if lead.strip() else answer.lstrip()
        if run.rstrip:
            lead, answer = lead if run.answer else lead.rstrip(), answer.rstrip()
        tokenizer = self._first if run.at_start else self._plain
        head: list[int] = tokenizer.encode(lead, add_special_tokens=False).ids
        if not answer:
            return head, []
        both = tokenizer.encode(lead + answer, add_special_tokens=False)
        if both.ids[: len(head)] == head and all(end <= len(lead) for _, end in both.offsets[: len(head)][-1:]):
            return head, both.ids[len(head) :]
        return head, self._plain.encode(answer, add_special_tokens=False).ids

    def _plan(self, roles: tuple[str, ...], generation_prompt: bool) -> Plan:
        known = self._plans.get((roles, generation_prompt))
        if known is None:
            skeleton = self._template.skeleton(roles, generation_prompt)
            known = plan(skeleton, roles, lambda number: self._asked(roles[:number]), self._find)
            self._plans[roles, generation_prompt] = known
        return known

    def _asked(self, roles: tuple[str, ...]) -> Skeleton:
        if not roles:
            raise ModelError("a conversation opens with the assistant, so there is no prompt to answer; leave it out")
        return self._template.skeleton(roles, True)

    def _find(self, literal: str) -> Iterator[Found]:
        """Yield the control tokens of a piece of the template, as the full tokenizer sees them.

        An unknown word has the id of a control token too, without being spelled like one: it is text.
        """
        encoding = self._full.encode(literal, add_special_tokens=False)
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            token = self._controls.get(number)
            if token is not None and token["content"] in literal[start:end]:
                yield Found(start, end, number, token["lstrip"], token["rstrip"])

    def _ends(self, special: dict[str, str]) -> tuple[tuple[int, ...], int]:
        parts = self._plan(("user", "assistant"), False)
        trained = [part.id for part in parts if isinstance(part, Control) and part.trained]
        eos, pad = (self._full.token_to_id(special.get(name, "")) for name in ("eos_token", "pad_token"))
        ends = tuple(dict.fromkeys([trained[-1], *([] if eos is None else [eos])]))
        return ends, ends[-1] if pad is None else pad


def _has_calls(messages: Sequence[Message], tools: str | None) -> bool:
    return tools is not None or any(message.call is not None for message in messages)
