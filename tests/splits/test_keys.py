from hypothesis import given
from hypothesis import strategies as st

from tunemill.splits.columns import ordered, ranked
from tunemill.splits.keys import keys, matched, numbered

Names = st.lists(st.tuples(st.text("ab\x00é", max_size=9), st.none() | st.text("ab", max_size=2)), max_size=30)


@given(Names, Names)
def test_rows_are_found_where_their_names_stand_first(
    mine: list[tuple[str, str | None]], theirs: list[tuple[str, str | None]]
) -> None:
    import pyarrow as pa

    def hashed(names: list[tuple[str, str | None]]):  # type: ignore[no-untyped-def]
        columns = {"a": [one for one, _ in names], "b": [other for _, other in names]}
        return keys(pa.table(columns, schema=pa.schema([("a", pa.string()), ("b", pa.string())])), ("a", "b"))

    known = [(one, other or "") for one, other in theirs]
    expected = [known.index((one, other or "")) if (one, other or "") in known else -1 for one, other in mine]
    assert matched(hashed(mine), hashed(theirs)).tolist() == expected


@given(st.lists(st.none() | st.text("ab", max_size=2), max_size=30))
def test_each_name_has_the_number_of_its_first_row_and_no_name_its_own(names: list[str | None]) -> None:
    import pyarrow as pa

    expected = [names.index(name) if name else i for i, name in enumerate(names)]
    assert numbered(pa.chunked_array([pa.array(names, pa.string())])).tolist() == expected


@given(st.lists(st.text("ab0é", max_size=20), min_size=1, max_size=30))
def test_names_are_ranked_as_python_sorts_them(names: list[str]) -> None:
    assert ranked(names).tolist() == sorted(range(len(names)), key=lambda i: (names[i], i))


@given(st.lists(st.tuples(st.sampled_from(["", "1", "2"]), st.sampled_from("ab"), st.integers(1, 3)), max_size=20))
def test_rows_are_ordered_by_time_source_and_line(rows: list[tuple[str, str, int]]) -> None:
    import pyarrow as pa

    columns = {
        "time": [t or None for t, _, _ in rows],
        "source": [s for _, s, _ in rows],
        "line": [n for _, _, n in rows],
    }
    kinds = pa.schema([("time", pa.string()), ("source", pa.string()), ("line", pa.int64()), ("row_id", pa.string())])
    table = pa.table({**columns, "row_id": ["x"] * len(rows)}, schema=kinds)
    assert [rows[i] for i in ordered(table).tolist()] == sorted(rows)
