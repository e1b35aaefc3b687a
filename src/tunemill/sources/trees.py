"""Read a conversation tree, as OpenAssistant writes it, as one conversation: the path of the best-ranked replies.

One record stays one row, so that no prompt is trained once for each of its leaves; replies off the path are counted.
"""

from typing import Any

from tunemill.rows import Message
from tunemill.sources.reasons import Fault, kind, listing
from tunemill.sources.turns import Fields, spoken


def best_path(root: Any) -> tuple[list[Message], int]:
    """Follow from the root the reply with the lowest `rank`, then the first in the file; also count those left.

    A reply without a rank stands after those with one, a deleted one is passed over with all below it, and what follows
    the last answer of the path is left off.
    """
    turns: list[Message] = []
    others, node = 0, root
    while node is not None:
        if not isinstance(node, dict):
            raise Fault("wrong type", f"turn {len(turns) + 1} is {kind(node)}, not an object")
        turns.append(_message(node, len(turns) + 1))
        replies = _replies(node, len(turns))
        others += max(len(replies) - 1, 0)
        node = min(replies, key=_rank) if replies else None
    while turns and turns[-1].role != "assistant":
        turns.pop()
    if not turns:
        raise Fault("no assistant turn", "no reply of the tree's best path is an answer")
    return turns, others


def _message(node: Fields, number: int) -> Message:
    role = next((key for key in ("role", "from") if key in node), None)
    if role is None:
        raise Fault("missing role", f"turn {number} has {listing(node)}")
    text = next((node[key] for key in ("text", "content", "value") if key in node), None)
    if not isinstance(text, str):
        raise Fault("missing content" if text is None else "wrong type", f"turn {number}: its text is {kind(text)}")
    return spoken(node[role], text, number, role)


def _replies(node: Fields, number: int) -> list[Any]:
    replies = node.get("replies") or []
    if not isinstance(replies, list):
        raise Fault("wrong type", f"turn {number}: `replies` is {kind(replies)}, not a list")
    return [reply for reply in replies if not (isinstance(reply, dict) and reply.get("deleted"))]


def _rank(reply: Any) -> float:
    rank = reply.get("rank") if isinstance(reply, dict) else None
    return rank if isinstance(rank, int | float) and not isinstance(rank, bool) else float("inf")
