"""Render a chat template as transformers does, and see where it puts the content of each message."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tunemill.errors import ModelError
from tunemill.rows import ROLES, Message

DAY = datetime(2024, 7, 26)
"""The day that a template is told when it asks for today, so that the same row has the same tokens tomorrow."""

_SLOT = re.compile(r"TUNEMILLxCONTENTx(\d+)xEND")

_FORMS: tuple[Callable[[str], str], ...] = (
    str,
    str.strip,
    str.lstrip,
    str.rstrip,
    lambda content: content.strip("\n"),
    lambda content: content.lstrip("\n"),
    lambda content: content.rstrip("\n"),
    lambda content: json.dumps(content, ensure_ascii=False)[1:-1],
)
"""What templates are known to do with content: nothing, trim it, or write it as a JSON string."""


class Skeleton(NamedTuple):
    """A rendering cut at the contents: literal, content of message slots[0], literal, …, literal."""

    literals: tuple[str, ...]
    slots: tuple[int, ...]

    def filled(self, contents: Sequence[str]) -> str:
        """Put contents, given by message, back into the rendering."""
        parts = [self.literals[0]]
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            parts += (contents[slot], literal)
        return "".join(parts)


class Template:
    """A model's chat template with the special tokens it may name."""

    def __init__(self, source: str, special: dict[str, str]) -> None:
        from transformers.utils import chat_template_utils

        self._source = source
        self._special = special
        self._render: Callable[..., Any] = chat_template_utils.render_jinja_template
        self._skeletons: dict[tuple[tuple[str, ...], bool], Skeleton] = {}
        # transformers keeps one compiled template per source, so training, generation and this class see the same day.
        compiled = chat_template_utils._compile_jinja_template(source)
        compiled.globals["strftime_now"] = DAY.strftime

    def text(self, messages: Sequence[Message], generation_prompt: bool, tools: str | None = None) -> str:
        """Render the conversation, with the tools that the model is offered as a row holds them.

        Raises:
            ModelError: there is no message, a role is unknown, or the template refuses the conversation.
        """
        offered = None if tools is None else json.loads(tools)
        return self.rendered([message.fields for message in messages], generation_prompt, offered)

    def rendered(
        self, turns: Sequence[dict[str, Any]], generation_prompt: bool, tools: list[dict[str, Any]] | None = None
    ) -> str:
        """Render turns as templates take them; errors as `text`."""
        for turn in turns:
            if turn["role"] not in ROLES:
                raise ModelError(f"{turn['role']!r} is not a role; use one of {', '.join(ROLES)}")
        if not turns:
            raise ModelError("a conversation has no message; leave it out")
        asked: dict[str, Any] = {"chat_template": self._source, "add_generation_prompt": generation_prompt}
        try:
            rendered: Any = self._render([list(turns)], tools=tools, **asked, **self._special)
        except Exception as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise ModelError(f"the chat template refuses a conversation of {roles}: {error}") from error
        return str(rendered[0][0])

    def skeleton(self, roles: tuple[str, ...], generation_prompt: bool) -> Skeleton:
        """Render with a mark in place of each content; depends on the roles alone, so it is made once for them.

        Raises:
            ModelError: the template leaves a message out or writes it twice.
        """
        known = self._skeletons.get((roles, generation_prompt))
        if known is not None:
            return known
        marks = [Message(role, f"TUNEMILLxCONTENTx{number}xEND") for number, role in enumerate(roles)]
        parts = _SLOT.split(self.text(marks, generation_prompt))
        made = Skeleton(tuple(parts[::2]), tuple(int(number) for number in parts[1::2]))
        for number, role in enumerate(roles):
            if (times := made.slots.count(number)) != 1:
                raise ModelError(
                    f"the chat template writes message {number + 1} of {len(roles)} ({role}) {times} times; "
                    "leave such conversations out, or use a model whose template takes them"
                )
        self._skeletons[roles, generation_prompt] = made
        return made

    def contents(self, skeleton: Skeleton, messages: Sequence[Message], rendered: str) -> list[str]:
        """Give the contents as the template writes them (some trim), so that the parts make up the plain rendering.

        Raises:
            ModelError: the template writes something else because of what a content holds.
        """
        contents = [message.content for message in messages]
        if skeleton.filled(contents) == rendered:
            return contents
        place = len(skeleton.literals[0])
        for slot, literal in zip(skeleton.slots, skeleton.literals[1:], strict=True):
            forms = (form(messages[slot].content) for form in _FORMS)
            form = next((form for form in forms if rendered.startswith(form + literal, place)), None)
            if form is None:
                break
            contents[slot] = form
            place += len(form) + len(literal)
        if skeleton.filled(contents) != rendered:
            raise _changed(slot, messages, skeleton.filled(contents), rendered)
        return contents


def special_names(config: dict[str, Any]) -> dict[str, str]:
    """Read the named special tokens (bos_token, eos_token, …) from tokenizer_config.json."""
    names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    values = {name: config.get(name) for name in names}
    given = {name: value["content"] if isinstance(value, dict) else value for name, value in values.items() if value}
    return {name: str(value) for name, value in given.items()}


def _changed(number: int, messages: Sequence[Message], wanted: str, rendered: str) -> ModelError:
    pairs = enumerate(zip(wanted, rendered, strict=False))
    first = next((at for at, (one, other) in pairs if one != other), min(len(wanted), len(rendered)))
    return ModelError(
        f"the chat template changes message {number + 1} of {len(messages)} ({messages[number].role}): at character "
        f"{first} of the conversation it writes {rendered[first : first + 30]!r} for {wanted[first : first + 30]!r}; "
        "take the markup that the template looks for out of the row, or leave the row out"
    )
