"""Whose turn it is: nodes of clusters, and this machine's cores and GPUs behind them, in the order jobs came.

A cluster has nodes, and all clusters share one machine: a job starts when its cluster has a node for it and the machine
has the cores that the cluster's size names. Nobody overtakes a job that waits for cores, or a large one would wait for
ever. Deployments do not count: an endpoint must not keep the next training from starting.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

from core.local.jobs.job import Held, Job, Status
from core.local.machine import Machine


def find_next(machine: Machine, jobs: Sequence[Job], nodes_of: Callable[[str], int]) -> tuple[str, str]:
    """Return the job that may start now, or "" and the one that waits for cores, or "" twice.

    `jobs` are those that are not over, the oldest first; `nodes_of` gives how many nodes a compute has, 0 for none yet.
    """
    working = [job for job in jobs if job.on_a_node]
    free = machine.cores - sum(job.plan.cores for job in working)
    taken = Counter(job.compute for job in working)
    for job in jobs:
        if job.run.status is Status.QUEUED and taken[job.compute] < nodes_of(job.compute):
            return (job.name, "") if job.plan.cores <= free else ("", job.name)
    return "", ""


def assign(machine: Machine, job: Job, others: Sequence[Job]) -> Held:
    """Return the processors and GPUs for a job: none that another job on a node has.

    `cpus` is empty where the job takes the whole machine, and where a container's limit on processor time makes the
    machine smaller than the processors in sight: there any of them will do.
    """
    held = [other.held for other in others if other.on_a_node and other.held]
    cpus, cores = usable_cpus(), job.plan.cores
    free = [cpu for cpu in cpus if not any(cpu in each.cpus for each in held)]
    pinned = free[:cores] if len(cpus) == machine.cores > cores else []
    gpus = [gpu for gpu in range(len(machine.gpus)) if not any(gpu in each.gpus for each in held)]
    return Held(pinned, gpus[: job.plan.gpus])


def usable_cpus() -> list[int]:
    """Return the processors this process may use, [] where the platform does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
