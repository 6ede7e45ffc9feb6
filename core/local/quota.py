"""The cores of this location: how many there are, what uses them, and the refusal of more. Knows no route.

Clusters and online deployments are counted apart: a scorer is idle most of its life, and a run started beside a live
endpoint should wait for nothing. Each of the two may use as many cores as the machine has, or as TUNEDECK_QUOTA_CORES
says.
"""

from __future__ import annotations

import threading

from core.home import LOCATION
from core.local.backend import Backend
from core.local.machine import Machine, Size
from core.local.store import Document
from core.local.wire.errors import WireError

# Held from the count to the write, so that two requests at once cannot both have the last core.
lock = threading.Lock()


def kept_cores(machine: Machine, computes: list[Document], family: str, but: str) -> int:
    """Return the cores that computes keep at all times of what a family has; those of `but` are left out."""
    kept, pool = 0, machine.quota_pool(family)
    for document in computes:
        size = machine.find_size(document["size"])
        if size is None or document["name"] == but or document["state"] != "Succeeded":
            continue
        if machine.quota_pool(size.family) == pool:
            kept += size.cores * document["min_nodes"]
    return kept


def check_compute(machine: Machine, computes: list[Document], name: str, size: Size, nodes: int) -> WireError | None:
    """Return why a compute may not keep `nodes` nodes at all times, or None."""
    taken, wanted = kept_cores(machine, computes, size.family, name), size.cores * nodes
    limit = machine.quota_of(size.family)
    if taken + wanted <= limit:
        return None
    family = size.family.removesuffix("Family")
    return WireError(
        400,
        "ClusterMinNodesExceedCoreQuota",
        f"The location '{LOCATION}' has a {family} family vCPU quota of {limit - taken} left "
        f"({taken} of {limit} are kept by other computes). {nodes} nodes of {size.name} are asked for, "
        f"which maps to {wanted} vCPUs.",
    )


def deployed_cores(backend: Backend, but: str = "", pool: str | None = None) -> int:
    """Return the cores of all online deployments, one that failed among them.

    but: a deployment that is left out. pool: count only those of sizes that share this quota.
    """
    used = 0
    for each in backend.store.list("deployment"):
        size = _size_of(backend, each)
        counts = pool is None or (size is not None and backend.machine.quota_pool(size.family) == pool)
        if counts and f"{each['endpoint']}/{each['name']}" != but:
            used += (size.cores if size else each["cores"]) * instances_of(each["sku"])
    return used


def _size_of(backend: Backend, deployment: Document) -> Size | None:
    return backend.machine.find_size(str(deployment["asked"].get("instanceType") or ""))


def instances_of(sku: Document) -> int:
    """Return the instance count of a deployment's `sku`."""
    return int(sku.get("capacity") or 1)


def check_deployment(backend: Backend, deployment: Document) -> None:
    """Refuse a deployment that this location has no cores for; raises 400 in the structure of the service's refusal."""
    size = _size_of(backend, deployment)
    assert size is not None  # refused before
    pool, limit = backend.machine.quota_pool(size.family), backend.machine.quota_of(size.family)
    used = deployed_cores(backend, f"{deployment['endpoint']}/{deployment['name']}", pool)
    needed = size.cores * instances_of(deployment["sku"])
    if used + needed <= limit:
        return
    reason = (
        f"Not enough quota available for {deployment['asked'].get('instanceType')} in the location '{LOCATION}'. "
        f"Current usage/limit: {used}/{limit}. Additional needed: {needed}"
    )
    raise WireError(
        400,
        "BadRequest",
        "The deployment cannot be created. Delete a deployment that is not used, or take a smaller size.",
        [("InferencingClientCreateDeploymentFailed", f'"VmSize":["{reason}"]')],
    )
