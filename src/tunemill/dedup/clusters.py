"""Group the texts that are the same, or nearly."""

from collections.abc import Sequence

import numpy as np

from tunemill.dedup.components import Ints, components
from tunemill.dedup.pairs import linking_pairs


def clusters(texts: Sequence[str], threshold: float, shingle: int = 5, *, near: bool = True) -> Ints:
    """Label each text with the smallest index of its cluster; texts are normalised already.

    Clusters are the connected components of identical texts and of pairs that reach the threshold, so two texts of one
    cluster may be less alike than that, and two of different clusters never reach it (but for the chance that
    `bands_for` bounds). The order of the texts changes no cluster. Empty texts stand alone.
    """
    places: dict[str, int] = {}
    first = np.array([places.setdefault(text, i) if text else i for i, text in enumerate(texts)], np.int64)
    if not near or not places:
        return first
    # In order of their content: which candidates are looked at must not depend on the order of the rows.
    distinct = sorted(places)
    origin = np.array([places[text] for text in distinct], np.int64)
    links = linking_pairs(distinct, threshold, shingle)
    component = components(len(distinct), links.left, links.right)
    smallest = np.full(len(distinct), len(texts))
    np.minimum.at(smallest, component, origin)
    label = np.arange(len(texts))
    label[origin] = smallest[component]
    return label[first]
