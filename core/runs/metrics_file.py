"""What a run measured, all of it, as a file to take away: CSV in long form, or JSON in columns."""

from __future__ import annotations

import orjson
import pandas as pd

from core.runs.comparison import to_cell
from core.runs.metrics import RunMetrics


def to_csv(measures: RunMetrics) -> bytes:
    """Return a row for each point: metric, step, time (ISO 8601, UTC), value; "nan" or "inf" where it is no number."""
    columns = []
    for key, series in measures.series.items():
        steps, values, times = series.to_arrays()
        at = pd.to_datetime(times, unit="ms", utc=True).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        columns.append(pd.DataFrame({"metric": to_cell(key), "step": steps, "time": at, "value": values}))
    found = pd.concat(columns) if columns else pd.DataFrame(columns=["metric", "step", "time", "value"])
    return found.to_csv(index=False, na_rep="nan").encode()


def to_json(measures: RunMetrics) -> bytes:
    """Return the columns step, time_ms (since 1970) and value of each metric; null where a value is no number."""
    metrics = {
        key: dict(zip(("step", "value", "time_ms"), series.to_arrays(), strict=True))
        for key, series in measures.series.items()
    }
    return orjson.dumps({"run": measures.run, "metrics": metrics}, option=orjson.OPT_SERIALIZE_NUMPY)
