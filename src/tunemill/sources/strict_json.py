"""Parse one JSON object, strictly: what two parsers could read in two ways is not read at all."""

import json
import math
from typing import Any

import orjson

from tunemill.sources.reasons import Fault, kind

MAX_DEPTH = 254
"""Levels of nesting; orjson writes no more, and chat logs have fewer than ten."""


def parse(raw: bytes) -> dict[str, Any] | Fault:
    """Give the fields of the object, or what is wrong with it.

    orjson refuses NaN, infinite numbers, lone surrogates, NUL bytes and invalid UTF-8, but keeps the last of two equal
    keys. Nothing was lost where the value is written again as the same bytes. Elsewhere colons tell: there is one for
    each key and each colon inside a string, so as many are written as were read, unless a key was lost (or a colon was
    written as an escape).
    """
    try:
        value = orjson.loads(raw)
        written = orjson.dumps(value)
    except (orjson.JSONDecodeError, TypeError):
        return _fault(raw) or _TOO_DEEP
    if written != raw and _may_have_lost(raw, written) and (fault := _fault(raw)):
        return fault
    return value if isinstance(value, dict) else Fault("not an object", f"the record is {kind(value)}")


def parse_value(text: str) -> Any:
    """Parse a JSON value that a record holds as a string, or give the `Fault`; integers are exact or refused."""
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_not_finite, parse_int=_exact, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as broken:
        return Fault("broken JSON", f"{broken.msg} at character {broken.pos + 1}")
    except UnicodeEncodeError as bad:
        return Fault("lone surrogate", f"\\u{ord(bad.object[bad.start]):04x} without its other half")
    except RecursionError:
        return _TOO_DEEP
    except Fault as fault:
        return fault
    return value


def _may_have_lost(raw: bytes, written: bytes) -> bool:
    escaped = b"\\" in raw and b"\\u003" in raw and b"\\u003a" in raw.lower()
    return escaped or written.count(b":") != raw.count(b":")


def _fault(raw: bytes) -> Fault | None:
    """Find out with the slow parser of the standard library what is wrong; None where it finds nothing but depth."""
    try:
        text = raw.decode()
        if "\0" in text:
            return Fault("NUL character", f"at byte {raw.index(0) + 1}")
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_not_finite, parse_int=_finite, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as bad:
        return Fault("invalid UTF-8", f"0x{raw[bad.start]:02x} at byte {bad.start + 1}")
    except UnicodeEncodeError as bad:
        return Fault("lone surrogate", f"\\u{ord(bad.object[bad.start]):04x} without its other half")
    except json.JSONDecodeError as broken:
        return Fault("broken JSON", f"{broken.msg} at character {broken.pos + 1}")
    except RecursionError:
        return _TOO_DEEP
    except Fault as fault:
        return fault
    return None


_TOO_DEEP = Fault("nested too deep", f"more than {MAX_DEPTH} levels")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise Fault("duplicate key", f"`{key}` stands twice in one object")
        fields[key] = value
    return fields


def _exact(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**64:
        raise Fault("number out of range", f"{digits[:40]} needs more than 64 bits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _not_finite(digits)


def _not_finite(written: str) -> float:
    raise Fault("number out of range", f"{written[:40]} is not a finite number")
