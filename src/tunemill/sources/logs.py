"""Read a production log of a chat model: the request as it was sent and the response as it came back.

Both stand in one record, under `request` and `response` or side by side; the record may name a workload, a time and
what a person thought of the answer.
"""

from typing import Any

from tunemill.rows import Message
from tunemill.sources.reasons import Fault, kind, listing
from tunemill.sources.turns import Fields, chat, text_of, turn

CUT_OFF = "length"
"""`finish_reason` of an answer that ran into the limit of tokens."""
FILTERED = "content_filter"


def exchange(record: Fields) -> tuple[Fields, Fields]:
    """Give request and response, which are the record itself where they stand side by side."""
    if "choices" in record and "messages" in record:
        return record, record
    request, response = record["request"], record["response"]
    if not isinstance(request, dict):
        raise Fault("wrong type", f"`request` is {kind(request)}, not an object")
    if not isinstance(response, dict):
        if failed := failure(record, request, {}):
            raise Fault("failed request", failed)
        raise Fault("wrong type", f"`response` is {kind(response)}, not an object")
    return request, response


def turns(record: Fields, request: Fields, response: Fields) -> tuple[list[Message], int]:
    """Put the answer after what was asked; also count the choices beside the first.

    Raises:
        Fault: the request failed, or the answer was cut off or filtered: it is not what the model would have said.
    """
    if failed := failure(record, request, response):
        raise Fault("failed request", failed)
    choice, others = _choice(response)
    if choice.get("finish_reason") == CUT_OFF:
        raise Fault("answer cut off", "`finish_reason` is length: the answer ran into its limit of tokens")
    if choice.get("finish_reason") == FILTERED:
        raise Fault("answer filtered", "`finish_reason` is content_filter: the answer is not whole")
    asked = _asked(request)
    if "message" not in choice and "text" in choice:  # the older completions API
        return [*asked, Message("assistant", text_of(choice, "text"))], others
    if "message" not in choice:
        raise Fault("missing key", f"`message` is not among {listing(choice)} of `choices`")
    return [*asked, turn(choice["message"], len(asked) + 1, "assistant")], others


def failure(*places: Fields) -> str:
    """Say which of the objects names an error, or a status of 400 or above; "" where none does."""
    for fields in places:
        if error := fields.get("error"):
            message = error.get("message", error) if isinstance(error, dict) else error
            return f"`error` is {message}"
        for key in ("status", "status_code"):
            status = fields.get(key)
            if isinstance(status, int) and status >= 400:
                return f"`{key}` is {status}"
    return ""


def origin(record: Fields) -> Fields:
    """Give what a log says of a record beside its turns, as far as it says it: model, finish_reason, time, user."""
    request, response = (part if isinstance(part, dict) else {} for part in map(record.get, ("request", "response")))
    if "choices" in record:
        response = record
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    found = {
        "model": response.get("model") or request.get("model") or record.get("model"),
        "finish_reason": first.get("finish_reason") or record.get("finish_reason"),
        "time": response.get("created"),
        "user": request.get("user"),
        "error": failure(record, request, response),
    }
    return {key: value for key, value in found.items() if value is not None}


def _asked(request: Fields) -> list[Message]:
    if "messages" not in request and isinstance(request.get("prompt"), str):
        return [Message("user", request["prompt"])]
    if "messages" not in request:
        raise Fault("missing key", f"`messages` is not among {listing(request)} of the request")
    return chat(request["messages"])


def _choice(response: Fields) -> tuple[Fields, int]:
    choices: Any = response.get("choices")
    if not isinstance(choices, list):
        raise Fault("wrong type", f"`choices` is {kind(choices)}, not a list")
    if not choices:
        raise Fault("no assistant turn", "`choices` is empty")
    if not isinstance(choices[0], dict):
        raise Fault("wrong type", f"the first of `choices` is {kind(choices[0])}, not an object")
    return choices[0], len(choices) - 1
