"""What a repair changes first, to look at before it is made: reads the rows that it shows and no others."""

from __future__ import annotations

from collections.abc import Collection

import numpy

from core.dataset import look, repair, table
from core.dataset.chat_dataset import ChatDataset
from core.dataset.findings import flag
from core.dataset.repair import Repairer, RowDiff


def list_changes(dataset: ChatDataset, codes: Collection[str], file: str = "train", first: int = 20) -> list[RowDiff]:
    """Return the first rows that a repair changes, before and after; reads these rows and no others."""
    path = dataset.test_path if file == "test" and dataset.test_path else dataset.train_path
    flags, rows = table.read_flags(path, look.LAYERS), table.read(path)
    wanted = numpy.flatnonzero(flags & numpy.uint64(flag(*codes))) if codes else numpy.zeros(0, numpy.int64)
    chosen = wanted[: 4 * first]
    copies, leaked = (
        {int(rows["line"][at]) for at in chosen if int(flags[at]) & flag(code)} for code in ("duplicate", "leakage")
    )
    lines = ((int(rows["line"][at]), table.read_line_at(path, int(rows["offset"][at]))) for at in chosen)
    return list(repair.plan(lines, Repairer(codes, copies, leaked), len(rows), first).diffs)
