"""Turn links into groups."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def components(count: int, left: Ints, right: Ints) -> Ints:
    """Label each of `count` things with the smallest index that the links (left[k], right[k]) connect it to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(count, count))
    _, numbers = connected_components(links, directed=False)
    _, first = np.unique(numbers, return_index=True)
    labels: Ints = first[numbers].astype(np.int64)
    return labels
