"""Read what a person thought of an answer: thumbs up, thumbs down, or nothing."""

from typing import Any

KEYS = ("kto_tag", "thumbs_up", "liked", "feedback", "label")
"""Keys at the top of a record that are taken without a map, the first that holds a thumb."""

_UP = frozenset({"true", "yes", "up", "thumbs_up", "thumbs up", "positive", "like", "liked", "good", "1", "👍"})
_DOWN = frozenset(
    {"false", "no", "down", "thumbs_down", "thumbs down", "negative", "dislike", "disliked", "bad", "0", "-1", "👎"}
)


def thumb(value: Any) -> bool | None:
    """Give True for up, False for down (0 and -1 among them), None for what is neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        return None
    said = str(value).strip().lower()
    return True if said in _UP else False if said in _DOWN else None


def guessed(record: dict[str, Any], keys: tuple[str, ...]) -> tuple[bool | None, bool]:
    """Give the thumb of a record, and whether one of its keys holds something that is no thumb.

    `label` is more often the name of a class: there only true and false are a thumb, and nothing else is missed.
    """
    unread = False
    for key in keys:
        value = record.get(key)
        if key == "label":
            known = isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false"))
            value = value if known else None
        if value is None or value == "":
            continue
        found = thumb(value)
        if found is not None:
            return found, unread
        unread = True
    return None, unread
