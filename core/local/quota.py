"""The cores of this location: how many there are, what uses them, and the refusal of more.

Clusters and online deployments are counted apart: a scorer is idle most of its life, and a run started beside a live
endpoint should wait for nothing. Each of the two may use as many cores as the machine has, or as TUNEDECK_QUOTA_CORES
says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from core.home import LOCATION
from core.local.backend import Backend
from core.local.compute import Compute
from core.local.endpoints.resources import Deployment
from core.local.machine import Machine, Size
from core.local.wire.errors import WireError

# Held from the count to the write, so that two requests at once cannot both have the last core.
lock = threading.Lock()


def check_compute(machine: Machine, computes: Sequence[Compute], wanted: Compute, size: Size) -> WireError | None:
    """Return why a compute may not keep its fewest nodes at all times beside the others, or None."""
    family, taken = wanted.quota_family(size), 0
    for compute in computes:
        own = machine.find_size(compute.size)
        if own is None or compute.name == wanted.name or not compute.state.ready:
            continue
        if machine.quota_pool(compute.quota_family(own)) == machine.quota_pool(family):
            taken += own.cores * compute.min_nodes
    needed, limit = size.cores * wanted.min_nodes, machine.quota_of(family)
    whose = "total" if wanted.low_priority else f"{family.removesuffix('Family')} family"
    if taken + needed <= limit:
        return None
    return WireError(
        400,
        "ClusterMinNodesExceedCoreQuota",
        f"The location '{LOCATION}' has a {whose} vCPU quota of {limit - taken} "
        f"left ({taken} of {limit} are kept by other computes). {wanted.min_nodes} nodes of {size.name} are asked "
        f"for, which maps to {needed} vCPUs.",
    )


def deployed_cores(backend: Backend, but: str = "", pool: str | None = None) -> int:
    """Return the cores of all online deployments, failed ones included.

    but: the key of a deployment that is left out. pool: count only those of sizes that share this quota.
    """
    used = 0
    for deployment in Deployment.list_all(backend.store):
        size = deployment.size_on(backend.machine)
        counts = pool is None or (size is not None and backend.machine.quota_pool(size.family) == pool)
        if counts and deployment.key != but:
            used += (size.cores if size else deployment.cores) * deployment.instances
    return used


def check_deployment(backend: Backend, deployment: Deployment, size: Size) -> None:
    """Refuse a deployment that this location has no cores for; raises 400 in the structure of the service's refusal."""
    pool, limit = backend.machine.quota_pool(size.family), backend.machine.quota_of(size.family)
    used = deployed_cores(backend, deployment.key, pool)
    needed = size.cores * deployment.instances
    if used + needed <= limit:
        return
    reason = (
        f"Not enough quota available for {deployment.instance_type} in the location '{LOCATION}'. "
        f"Current usage/limit: {used}/{limit}. Additional needed: {needed}"
    )
    raise WireError(
        400,
        "BadRequest",
        "The deployment cannot be created. Delete a deployment that is not used, or take a smaller size.",
        [("InferencingClientCreateDeploymentFailed", f'"VmSize":["{reason}"]')],
    )
