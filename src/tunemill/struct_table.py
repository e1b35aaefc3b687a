"""Turn structs into arrow tables and back, a column at a time: a dict a record would cost five times as much."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

S = TypeVar("S", bound=msgspec.Struct)


def tables(records: Sequence[msgspec.Struct], schema: "pa.Schema", size: int) -> Iterator["pa.Table"]:
    """Yield the records, `size` in a table, fewer where they hold more than the 2 GiB of text that a column can.

    A field of the schema is one of the structs; a list of structs becomes a list of the fields that its type names.
    """
    import pyarrow as pa

    for start in range(0, max(len(records), 1), size):
        part = records[start : start + size]
        columns = [_column(list(map(attrgetter(field.name), part)), field.type) for field in schema]
        if any(isinstance(column, pa.ChunkedArray) for column in columns):
            yield from tables(part, schema, len(part) // 2)
        else:
            yield pa.table(columns, schema=schema)


def structs(batch: "pa.RecordBatch", kind: type[S], inner: type[msgspec.Struct]) -> Iterator[S]:
    """Yield the records of a batch, lists as tuples of `inner`; a field without a column reads as None."""
    import pyarrow as pa

    def values(name: str) -> Iterable[Any]:
        if name not in batch.schema.names:
            return repeat(None)
        column = batch.column(name)
        return _tuples(column, inner) if pa.types.is_list(column.type) else column.to_pylist()

    return map(kind, *map(values, kind.__struct_fields__))


def _column(values: list[Any], kind: "pa.DataType") -> "pa.Array | pa.ChunkedArray":
    import pyarrow as pa

    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    fields = [*kind.value_type]
    flat = [one for several in values if several for one in several]
    columns = [_column(list(map(attrgetter(field.name), flat)), field.type) for field in fields]
    for column in columns:
        if isinstance(column, pa.ChunkedArray):
            return column
    ends = np.cumsum([0, *(len(several or ()) for several in values)], dtype=np.int32)
    absent = pa.array([several is None for several in values]) if None in values else None
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(columns, fields=fields), kind, mask=absent)


def _tuples(column: "pa.ListArray", kind: type[msgspec.Struct]) -> Iterable[tuple[msgspec.Struct, ...] | None]:
    if column.null_count == len(column):
        return repeat(None, len(column))
    flat = column.flatten()
    held = [field.name for field in flat.type]
    fields = (flat.field(name).to_pylist() if name in held else repeat(None) for name in kind.__struct_fields__)
    found = list(map(kind, *fields))
    lengths = column.value_lengths().fill_null(0).to_numpy()
    several = (tuple(found[start:end]) for start, end in pairwise([0, *lengths.cumsum().tolist()]))
    return (one if valid else None for one, valid in zip(several, column.is_valid().to_pylist(), strict=True))
