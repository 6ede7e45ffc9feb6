"""Quota: how many cores a workspace may still use, and which of several limits binds. Quota is not capacity."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.azureml.connection import Connection
from core.catalog.compute import Size
from core.catalog.families import find_family, letters_of

Of = Literal["family", "workspace", "region", "endpoints"]


@dataclass(frozen=True)
class Quota:
    """One limit on cores. limit: None where the region enforces none; of: whose it is.

    The local workspace alone counts the cores of its endpoints apart from those of its clusters.
    """

    family: str
    """The family's name, or the region's total's."""
    limit: int | None
    used: int
    low_priority: bool = False
    of: Of = "family"

    @property
    def free(self) -> int | None:
        """Return the cores left, None where no limit is enforced."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def title(self) -> str:
        """Return what the limit counts: "standardNCADSA100v4Family", "all low-priority cores of the region"."""
        if self.of == "endpoints":
            return "all endpoints"
        if self.of == "region":
            return f"all {'low-priority' if self.low_priority else 'dedicated'} cores of the region"
        return f"{self.family} in this workspace" if self.of == "workspace" else self.family


@dataclass(frozen=True)
class Claim:
    """The cores that something needs, and the limit that binds; None where the region names none for the family."""

    family: str
    needed: int
    reserve: int
    """How many of them stand by for upgrades, unbilled."""
    quota: Quota | None

    @property
    def free(self) -> int | None:
        """Return the cores left, None where nobody counts them."""
        return self.quota.free if self.quota else None

    @property
    def fits(self) -> bool | None:
        """Tell whether the quota suffices; None where it is not known."""
        if self.quota is None:
            return None
        return self.quota.free is None or self.needed <= self.quota.free

    @property
    def words(self) -> str:
        """Return "standardNCADSA100v4Family: needs 24 cores, 8 free." or why there is no number."""
        if self.quota is None:
            return f"{self.family}: the region names none, which often means that there is none."
        if self.quota.free is None:
            return f"{self.quota.title}: not enforced here."
        reserve = f" ({self.reserve} of them for upgrades, unbilled)" if self.reserve else ""
        return f"{self.quota.title}: needs {_cores(self.needed)}{reserve}, {self.quota.free} free."


def list_quota(conn: Connection) -> list[Quota]:
    """Return the limits that count for this workspace: of families, its own, and of the whole region."""
    found = conn.call("read", "the quota of the region", lambda: list(conn.workspace.compute.list_usage()))
    rows = (to_quota(vars(usage), conn.settings.workspace_name) for usage in found)
    return [row for row in rows if row]


def request_url(conn: Connection) -> str:
    """Return where more quota is asked for: the studio's page."""
    return f"{conn.cloud.studio}/quota"


def claim_nodes(quotas: Sequence[Quota], size: Size, nodes: int, *, low_priority: bool = False) -> Claim:
    """Return what nodes of a cluster need."""
    return Claim(size.family, size.cores * nodes, 0, find_quota(quotas, size, low_priority=low_priority))


def claim_deployment(quotas: Sequence[Quota], size: Size, instances: int = 1, *, reserved: bool = True) -> Claim:
    """Return what a deployment needs: a fifth more instances stand by for upgrades, rounded up, but for some families.

    reserved: False on the local workspace, which has no upgrades.
    """
    reserves = reserved and find_family(size.family).reserves
    spare = -(-instances // 5) * size.cores if reserves else 0
    apart = next((row for row in quotas if row.of == "endpoints"), None)
    return Claim(size.family, instances * size.cores + spare, spare, apart or find_quota(quotas, size))


def find_quota(quotas: Sequence[Quota], size: Size, *, low_priority: bool = False) -> Quota | None:
    """Return the limit that binds a size: the least of its family's, the workspace's and the region's.

    Low priority is drawn from one pool of the region; most families have no limit of their own there. None where the
    region names neither the family nor, for low priority, the pool.
    """
    family = letters_of(size.family)
    rows = [row for row in quotas if row.low_priority == low_priority]
    own = [row for row in rows if row.of in ("family", "workspace") and _is_family(letters_of(row.family), family)]
    total = [row for row in rows if row.of == "region"]
    if not own and not (low_priority and total):
        return None
    return min((*own, *total), key=lambda row: (row.free is None, row.free))


def _is_family(name: str, family: str) -> bool:
    """A row is named as the family, or as "Standard NCADSA100v4 Family Cluster Dedicated vCPUs"."""
    return bool(family) and bool(re.fullmatch(rf"{family}(cluster(dedicated|lowpriority)vcpus)?", name))


def to_quota(wire: Mapping[str, Any], workspace: str) -> Quota | None:
    """Return a row of the usages, None for what counts no cores or those of another workspace.

    The service gives a family's dedicated and low-priority row one name: only their types tell them apart.
    """
    name = wire.get("name") or {}
    value = str((name.get("value") if isinstance(name, Mapping) else getattr(name, "value", name)) or "")
    said = letters_of(f"{value} {str(wire.get('type') or '').partition('/')[2]}")
    where = re.search(r"/workspaces/([^/]+)/(?:([^/]+)/)?", str(wire.get("id") or "") + "/", re.IGNORECASE)
    if where and (where[1].lower() != workspace.lower() or where[2] == "computes"):
        return None
    total, endpoints = letters_of(value).startswith("total"), "onlineendpoint" in said
    low_priority = "lowpriority" in said
    if not ("family" in said or endpoints or (total and (low_priority or "dedicated" in said))):
        return None
    limit = wire.get("limit")
    # -1 is answered for low-priority families: not enforced here, which is not the same as unlimited.
    least = None if limit is None or int(limit) < 0 else int(limit)
    of: Of = "endpoints" if endpoints else "region" if total else "workspace" if where else "family"
    return Quota(value, least, int(wire.get("currentValue") or 0), low_priority, of)


def _cores(count: int) -> str:
    return f"{count} core{'' if count == 1 else 's'}"
