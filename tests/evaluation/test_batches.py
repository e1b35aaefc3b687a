from collections.abc import Callable

import pytest

from tunemill.evaluation.generation import in_batches, is_out_of_memory


def _squares(limit: int, calls: list[list[int]]) -> Callable[[list[int]], list[int]]:
    """Square indices, with memory for `limit` of them at a time."""

    def run(batch: list[int]) -> list[int]:
        calls.append(batch)
        if len(batch) > limit:
            raise MemoryError
        return [i * i for i in batch]

    return run


def test_results_come_in_the_order_given_although_the_longest_go_first() -> None:
    calls: list[list[int]] = []
    assert in_batches([5, 90, 7, 80, 6], 2, _squares(2, calls), lambda _: -1) == [0, 1, 4, 9, 16]
    assert calls == [[1, 3], [2, 4], [0]]


def test_a_batch_of_8_that_does_not_fit_becomes_4_then_2_and_stays_2() -> None:
    calls: list[list[int]] = []
    assert in_batches([1] * 8, 8, _squares(2, calls), lambda _: -1) == [i * i for i in range(8)]
    assert [len(batch) for batch in calls] == [8, 4, 2, 2, 2, 2]


def test_one_item_that_does_not_fit_alone_fails_and_the_rest_go_on() -> None:
    def run(batch: list[int]) -> list[int]:
        if 2 in batch:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return [i * i for i in batch]

    assert in_batches([1, 1, 50, 1], 4, run, lambda i: -i) == [0, 1, -2, 9]


def test_every_item_is_reported_once() -> None:
    reported: list[int] = []
    in_batches([1] * 7, 4, _squares(3, []), lambda _: -1, reported.append)
    assert sum(reported) == 7


def test_a_bug_is_not_taken_for_a_wrong_answer() -> None:
    def run(_: list[int]) -> list[int]:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        in_batches([1, 1], 2, run, lambda _: -1)


def test_nothing_to_do_gives_nothing() -> None:
    assert in_batches([], 4, _squares(9, []), lambda _: -1) == []


def test_a_runtime_error_about_shapes_is_not_out_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
