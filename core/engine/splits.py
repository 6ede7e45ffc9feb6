"""The service's rule for the rows that a job was not given: which of the training rows become them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

TRAINED_SHARE = 0.8  # of the training rows; the others are split off where validation or test rows are missing


def deal(rows: int, seed: int, missing: Collection[str]) -> dict[str, NDArray[np.int64]]:
    """Return which of `rows` training rows, from 0, train, and which are taken for each of the `missing` splits.

    missing: of "validation" and "test" those that were not given. Both: 80 / 10 / 10 per cent. One: 80 / 20. What does
    not divide is not trained on.
    """
    order = np.random.default_rng(seed).permutation(rows)
    spare = rows - int(rows * TRAINED_SHARE) if missing else 0
    names = [name for name in ("validation", "test") if name in missing]
    parts = np.array_split(order[:spare], max(1, len(names)))
    return {"train": np.sort(order[spare:]), **dict(zip(names, parts, strict=False))}
