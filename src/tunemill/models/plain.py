"""Make a copy of a tokenizer that reads every text as plain text: no control token can come out of it."""

import json
import secrets
from typing import TYPE_CHECKING, Any

from tunemill.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def plain_tokenizer(full: str, first: bool) -> "Tokenizer":
    """Build the tokenizer of a tokenizer.json without its control tokens; runs of whitespace stay.

    Args:
        full: the text of tokenizer.json.
        first: the text to come stands at the very start; some tokenizers put a space before it there, and only there.

    Raises:
        ModelError: a control token still comes out of its own spelling.
    """
    from tokenizers import Tokenizer

    config = json.loads(full)
    removed = {each["content"]: each["id"] for each in config["added_tokens"] if is_control(each)}
    config["added_tokens"] = [each for each in config["added_tokens"] if each["content"] not in removed]
    config.update(post_processor=None, truncation=None, padding=None)
    _make_unreachable(config["model"], set(removed))
    if not first:
        _never_at_the_start(config["pre_tokenizer"])
    tokenizer = Tokenizer.from_str(json.dumps(config))
    unknown = config["model"].get("unk_id", tokenizer.token_to_id(config["model"].get("unk_token") or ""))
    for content, number in removed.items():
        if number != unknown and number in tokenizer.encode(content, add_special_tokens=False).ids:
            raise ModelError(f"the tokenizer makes the control token {content!r} out of plain text; use another model")
    return tokenizer


def is_control(token: dict[str, Any]) -> bool:
    """Tell an added token that can carry meaning from a mere run of whitespace, which some vocabularies add."""
    return bool(token["special"] or token["content"].strip())


def _make_unreachable(model: dict[str, Any], removed: set[str]) -> None:
    """Give control tokens that also stand in the vocabulary a name that no text spells, and drop merges into them.

    The numbers of all other tokens stay. The name is drawn anew for each copy, so that nobody can write it.
    """
    vocabulary = model["vocab"]
    name = {token: f"{secrets.token_hex(16)} {number}" for number, token in enumerate(sorted(removed))}
    if isinstance(vocabulary, list):
        model["vocab"] = [[name.get(piece, piece), score] for piece, score in vocabulary]
    else:
        model["vocab"] = {name.get(token, token): number for token, number in vocabulary.items()}
    if model.get("unk_token") in name:
        model["unk_token"] = name[model["unk_token"]]
    if "merges" in model:
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if not removed & {*pair, "".join(pair)}]


def _never_at_the_start(step: Any) -> None:
    """Turn `prepend_scheme: first` into `never`, however deep it stands in the pre-tokenizer."""
    if isinstance(step, dict):
        if step.get("prepend_scheme") == "first":
            step["prepend_scheme"] = "never"
        for inner in step.values():
            _never_at_the_start(inner)
    elif isinstance(step, list):
        for inner in step:
            _never_at_the_start(inner)
