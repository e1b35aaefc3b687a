"""Render a Go text/template as Ollama does, in Python: the constructs that `ollama_template` writes, and no others.

Strings are bytes, as in Go: `len` and `slice` count bytes. A construct that is not known here is an error, so that a
template that came from elsewhere is refused rather than guessed at.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tunemill.errors import ModelError
from tunemill.rows import Message

_ACTION = re.compile(r'\{\{(-\s)?((?:"(?:\\.|[^"\\\n])*"|[^"}]|\}(?!\}))*?)(\s-)?\}\}')
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|:=|[()=]|[^\s()"=:]+')
_ESCAPE = re.compile(r"\\(u[0-9a-f]{4}|U[0-9a-f]{8}|.)")
_LETTERS = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_SPACE = " \t\r\n"

Words = list[Any]
"""The words of an action; what stands in brackets is a list of its own."""


class _Node(NamedTuple):
    """One piece of a template: literal text, or an action with the pieces inside it."""

    kind: str
    words: Any
    body: "tuple[_Node, ...]" = ()
    otherwise: "tuple[_Node, ...]" = ()


Nodes = tuple[_Node, ...]


class _Call(NamedTuple):
    """A named template that is still to be run; its caller runs it, so that one in last place may call itself."""

    name: str
    value: Any


def render(template: str, messages: Sequence[Message]) -> str:
    """Give the prompt that Ollama makes of `messages`, neighbours of one role merged as it merges them.

    Raises:
        ModelError: the template does not parse, has a construct that is not known here, or refuses the conversation.
    """
    turns = [{"Role": each.role.encode(), "Content": each.content.encode()} for each in collated(messages)]
    reader = _Reader(template)
    run = _Run(reader.templates)
    run.template(reader.whole, {"Messages": turns})
    return b"".join(run.out).decode()


def collated(messages: Sequence[Message]) -> list[Message]:
    """Join neighbours of one role by an empty line; tool results stay apart. Ollama does this before it renders."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role != "tool":
            merged[-1] = Message(message.role, f"{merged[-1].content}\n\n{message.content}")
        else:
            merged.append(message)
    return merged


def quoted(text: str) -> str:
    """Write a Go string constant; what Ollama's reader of Modelfiles drops or misreads is escaped."""
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter == "\n":
        return "\\n"
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


class _Reader:
    """Read a template into its pieces, and into the named templates that it defines."""

    def __init__(self, template: str) -> None:
        self.templates: dict[str, Nodes] = {}
        self._pieces = list(_split(template))
        self.whole = self._block()
        if self._pieces:
            raise ModelError(f"the template has an {{{{ {self._pieces[0][0]} }}}} that closes nothing")

    def _block(self) -> Nodes:
        """Read up to the `end` or `else` that closes the block, and leave that."""
        nodes = []
        while self._pieces and not (isinstance(self._pieces[0], list) and self._pieces[0][0] in ("end", "else")):
            piece = self._pieces.pop(0)
            nodes.append(_Node("text", piece.encode()) if isinstance(piece, str) else self._action(piece))
        return tuple(nodes)

    def _action(self, words: Words) -> _Node:
        match words:
            case ["if", *condition]:
                return self._branch(condition)
            case ["range", *over]:
                return _Node("range", over, self._closed())
            case ["define", str(name)]:
                self.templates[name] = self._closed()
                return _Node("text", b"")
            case ["template", str(name), *value]:
                return _Node("template", (name, value))
            case [str(name), ":=" | "=" as sign, *value]:
                return _Node(sign, (name, value))
        return _Node("value", words)

    def _branch(self, condition: Words) -> _Node:
        body = self._block()
        match self._pieces[:1]:
            case [["else", "if", *another]]:
                self._pieces.pop(0)
                return _Node("if", condition, body, (self._branch(another),))
            case [["else"]]:
                self._pieces.pop(0)
                return _Node("if", condition, body, self._closed())
        self._end()
        return _Node("if", condition, body)

    def _closed(self) -> Nodes:
        nodes = self._block()
        self._end()
        return nodes

    def _end(self) -> None:
        if not self._pieces or self._pieces.pop(0) != ["end"]:
            raise ModelError("the template has a block that no {{ end }} closes")


def _split(template: str) -> Iterator[Any]:
    """Yield text, and actions as words; the dash of an action eats the white space beside it."""
    place, trim = 0, False
    for found in _ACTION.finditer(template):
        text = template[place : found.start()]
        yield from _text(text.rstrip(_SPACE) if found[1] else text, trim)
        yield _nested(iter(_WORD.findall(found[2])))
        place, trim = found.end(), bool(found[3])
    yield from _text(template[place:], trim)


def _text(text: str, trim: bool) -> Iterator[str]:
    if "{{" in text:
        raise ModelError(f"the template opens an action that it does not close: {text[text.index('{{') :][:40]!r}")
    if text := text.lstrip(_SPACE) if trim else text:
        yield text


def _nested(words: Iterator[str]) -> Words:
    nested: Words = []
    for word in words:
        if word == ")":
            break
        nested.append(_nested(words) if word == "(" else word)
    if not nested:
        raise ModelError("the template has an action that says nothing")
    return nested


class _Run:
    """Execute pieces; `out` collects what they write."""

    def __init__(self, templates: dict[str, Nodes]) -> None:
        self.out: list[bytes] = []
        self._templates = templates

    def template(self, nodes: Nodes, dot: Any) -> None:
        """Run a whole template; `$` is what it was given."""
        self._finish(self._nodes(nodes, dot, ChainMap({"$": dot})))

    def _finish(self, call: _Call | None) -> None:
        while call:
            if call.name not in self._templates:
                raise ModelError(f"the template calls {call.name}, which it does not define")
            call = self._nodes(self._templates[call.name], call.value, ChainMap({"$": call.value}))

    def _nodes(self, nodes: Nodes, dot: Any, scope: ChainMap[str, Any]) -> _Call | None:
        for node in nodes[:-1]:
            self._finish(self._node(node, dot, scope))
        return self._node(nodes[-1], dot, scope) if nodes else None

    def _node(self, node: _Node, dot: Any, scope: ChainMap[str, Any]) -> _Call | None:
        match node.kind:
            case "text":
                self.out.append(node.words)
            case "value":
                self.out.append(_printed(_value(node.words, dot, scope)))
            case "if":
                chosen = node.body if _value(node.words, dot, scope) else node.otherwise
                return self._nodes(chosen, dot, scope.new_child())
            case "range":
                for each in _value(node.words, dot, scope):
                    self._finish(self._nodes(node.body, each, scope.new_child()))
            case "template":
                name, words = node.words
                return _Call(name, _value(words, dot, scope))
            case ":=":
                scope[node.words[0]] = _value(node.words[1], dot, scope)
            case "=":
                holder = next((names for names in scope.maps if node.words[0] in names), None)
                if holder is None:
                    raise ModelError(f"the template sets {node.words[0]}, which it does not declare")
                holder[node.words[0]] = _value(node.words[1], dot, scope)
        return None


def _printed(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _value(words: Words, dot: Any, scope: ChainMap[str, Any]) -> Any:
    """Evaluate one word, or a function and its arguments."""
    if len(words) == 1:
        return _operand(words[0], dot, scope)
    name, *rest = words
    if name in ("and", "or"):
        value = None
        for word in rest:
            value = _operand(word, dot, scope)
            if bool(value) == (name == "or"):
                break
        return value
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise ModelError(f"the template uses {name!r}, which is not known here; let `tunemill` write the TEMPLATE")
    return _FUNCTIONS[name](*(_operand(word, dot, scope) for word in rest))


def _operand(word: Any, dot: Any, scope: ChainMap[str, Any]) -> Any:
    if isinstance(word, list):
        return _value(word, dot, scope)
    if word.startswith('"'):
        return _unquoted(word).encode()
    if word.isdecimal():
        return int(word)
    name, *fields = word.split(".")
    if name and name not in scope:
        raise ModelError(f"the template names {word}, which is not known here; let `tunemill` write the TEMPLATE")
    value = scope[name] if name else dot
    for field in filter(None, fields):
        if not isinstance(value, dict) or field not in value:
            raise ModelError(f"the template asks for {word}; messages have a Role and a Content, no more is known here")
        value = value[field]
    return value


def _unquoted(word: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else _LETTERS[m[1]], word[1:-1])


def _slice(text: bytes, start: int, stop: int | None = None) -> bytes:
    if start > len(text) or (stop or 0) > len(text):
        raise ModelError(f"the template cuts at byte {max(start, stop or 0)} of a text of {len(text)} bytes")
    return text[start:stop]


def _refuse(reason: bytes) -> None:
    raise ModelError(f"the template refuses the conversation: {reason.decode()}")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda value, *others: value in others,
    "ge": lambda one, other: one >= other,
    "len": len,
    "slice": _slice,
    "call": _refuse,
}
