"""What the page says of the split's certificate."""

from typing import Any

from tunemill.quality.page_certificate import certificate

FACTS: dict[str, Any] = {
    "cross_split_near_duplicates": 0,
    "threshold": 0.5,
    "highest_similarity": 0.481,
    "method": "every pair",
    "shared_conversations": 0,
    "shared_users": 1,
    "shared_rows": 0,
    "groups": {"train": 257, "validation": 31, "test": 31},
    "largest_group": 2,
    "ledger": {
        "nights": 3,
        "rows": {"train": 258, "validation": 32, "test": 32},
        "got": {"train": 0.8012, "validation": 0.0994, "test": 0.0994},
        "asked": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "off_by": 0.4,
        "largest_group": 7,
    },
}


def said(**facts: Any) -> str:
    return "\n".join(certificate({**FACTS, **facts}))


def test_an_exact_search_says_that_it_shares_no_hash_with_the_grouping() -> None:
    assert "by a search that shares no hash with the grouping (every pair):" in said()


def test_a_search_by_minhash_says_what_it_can_miss() -> None:
    told = said(method="MinHash, another seed")
    assert "a chance of at most 1 in 1,000" in told
    assert "shares no hash with the grouping" not in told


def test_the_shares_are_told_over_all_nights() -> None:
    assert (
        "- Over 3 nights: 258 train (80.1%, asked 80%), 32 validation (9.9%, asked 10%), 32 test (9.9%, asked 10%); "
        "the worst side misses its share by 0.4 rows, the largest group has 7 rows."
    ) in said()


def test_what_no_side_could_take_is_told_with_the_file_that_names_it() -> None:
    told = said(bridges=3, contaminated=1, by_time={"recent_train_rows": 4, "rows_without_time": 1})
    assert "- 3 rows would tie two sides together and stayed out: bridges.jsonl." in told
    assert "- 1 row of train would hold an item of a benchmark and stayed out: contaminated.jsonl." in told
    assert "4 rows of those days train, in groups that trained before; 1 row without a time count as old." in told


def test_what_did_not_happen_is_not_told() -> None:
    assert "bridges" not in said(bridges=0) and "benchmark" not in said() and "held out" not in said()
