"""What a receipt says is gone, held against the workspace of today: still gone, or who made it anew."""

from __future__ import annotations

from collections.abc import Iterator

from core.azureml import tags
from core.azureml.connection import Connection
from core.errors import TunedeckError
from core.operations import targets
from core.operations.targets import Target
from core.serving.lineage_check import Claim
from core.teardown.receipts import Gone, Receipt

STILL = "still gone"
_API = "2024-10-01"
_PATHS = {
    "endpoint": "onlineEndpoints/{name}",
    "deployment": "onlineEndpoints/{whole}/deployments/{part}",
    "compute": "computes/{name}",
    "model": "models/{name}/versions/{version}",
    "data": "data/{name}/versions/{version}",
    "run": "jobs/{name}",
}


class Absence(Claim):
    """One thing that a receipt says is gone."""

    @property
    def holds(self) -> bool:
        """Whether it is so today."""
        return self.outcome == STILL


def check_receipt(conn: Connection, receipt: Receipt) -> Iterator[Claim]:
    """Yield for each thing whether it is still gone; what cannot be read is no proof of it, and said."""
    for gone in receipt.gone:
        try:
            outcome = _check(conn, gone)
        except TunedeckError as error:
            outcome = f"unknown: {error.message}"
        yield Absence(gone.title, outcome)


def _check(conn: Connection, gone: Gone) -> str:
    if gone.kind not in _PATHS:
        return f"unknown: this Tunedeck knows no {gone.kind}"
    target = Target(gone.kind, gone.name, gone.version, gone.what)
    if targets.find(conn, target) is None:
        return STILL
    if gone.kind == "run":
        return "there again: it has files"
    whole, _, part = gone.name.partition("/")
    path = _PATHS[gone.kind].format(name=gone.name, whole=whole, part=part, version=gone.version)
    found = conn.http("GET", f"{conn.workspace_path}/{path}", params={"api-version": _API}, what=target.words)
    made = found.json().get("systemData") or {}
    at, by, seen = tags.parse_time(made.get("createdAt")), made.get("createdBy") or "somebody", tags.parse_time(gone.at)
    if at is None or seen is None:
        return "there again: nobody says since when"
    when = f"{at:%d %b %Y %H:%M:%S} UTC by {by}"
    anew = tags.format_time(at) != gone.started if gone.started else at >= seen
    return f"there again: {'made anew' if anew else 'the same one, made'} on {when}"
