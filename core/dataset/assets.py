"""The data assets of a workspace that can be trained on: files, each version by itself, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.azureml.connection import Connection

_NAMES, _VERSIONS = 100, 10  # one request for each name


@dataclass(frozen=True)
class DataAsset:
    """One version of a data asset. rows: as Tunedeck registered it, 0 where another hand did."""

    name: str
    version: str
    rows: int
    source: str
    created_at: str

    @property
    def words(self) -> str:
        """Return "support-train 3 · 450 rows · uploaded file x.jsonl"."""
        rows = f"{self.rows:,} rows" if self.rows else ""
        return " · ".join(part for part in (f"{self.name} {self.version}", rows, self.source) if part)


def list_assets(conn: Connection) -> list[DataAsset]:
    """Return the newest versions of up to 100 data assets that are single files."""
    data = conn.workspace.data
    names = conn.call("read", "data assets", lambda: [str(one.name) for one in islice(data.list(), _NAMES)])
    found: list[DataAsset] = []
    for name in names:
        versions = conn.call("read", f"data '{name}'", lambda name=name: list(islice(data.list(name), _VERSIONS)))
        found += [_read(one) for one in versions if str(one.type).lower().endswith("uri_file")]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def _read(asset: Any) -> DataAsset:
    tags = dict(asset.tags or {})
    rows = str(tags.get("rows", ""))
    made = asset.creation_context.created_at if asset.creation_context else None
    return DataAsset(
        str(asset.name),
        str(asset.version),
        int(rows) if rows.isdigit() else 0,
        str(tags.get("source", ""))[:60],
        made.isoformat() if made else "",
    )
