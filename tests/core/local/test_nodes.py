"""Jobs wait for the nodes of their cluster and for the machine's cores, in the order in which they came."""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.home import Home
from core.local.blobs import CONTAINER
from core.local.jobs import nodes, runs
from core.local.jobs.job import COMMAND_STEP, CommandPlan, Held, Job, JobKind, RunState, Status, Step
from core.local.machine import Machine, probe
from tests.core.local.submitting import command_body, details_of, job_of, pipeline_body, submit, wait_for
from tests.local_server import LocalServer
from tests.waiting import wait_until

TRAIN = "azureml://datastores/workspaceblobstore/paths/train.jsonl"
SHOW = (
    "import json, os; print(json.dumps([os.environ['OMP_NUM_THREADS'], "
    "sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []]), flush=True)"
)
TWO_CORES = pytest.mark.skipif(
    len(nodes.usable_cpus()) < 2 or probe().cores < 2, reason="one core has nothing to share"
)


def job(name: str, compute: str, cores: int, status: Status = Status.QUEUED, attempt: int = 1, gpus: int = 0) -> Job:
    step = Step(name, COMMAND_STEP, "Command", COMMAND_STEP, RunState(name), attempt if status != "Queued" else 0)
    plan = CommandPlan("true", {}, {}, {}, cores, gpus)
    return Job(
        name=name,
        kind=JobKind.COMMAND,
        properties={},
        experiment="Default",
        compute=compute,
        plan=plan,
        run=RunState(name, status=status),
        steps=(step,),
    )


def next_of(jobs: list[Job], cores: int = 4, **limits: int) -> tuple[str, str]:
    return nodes.find_next(Machine(cores, 8.0), jobs, lambda compute: limits.get(compute, 2))


def test_the_oldest_job_whose_cluster_has_a_node_is_next() -> None:
    waiting = [job("a", "x", 1), job("b", "x", 1), job("c", "y", 1)]
    assert next_of(waiting) == ("a", "")
    assert next_of([job("z", "x", 1, Status.RUNNING), *waiting], x=1) == ("c", ""), "x has one node, y another"
    assert next_of(waiting, x=0, y=0) == ("", ""), "neither cluster is ready"


def test_nobody_overtakes_a_job_that_waits_for_cores() -> None:
    working = job("w", "x", 2, Status.RUNNING)
    assert next_of([working, job("large", "y", 4), job("small", "z", 1)]) == ("", "large")
    assert next_of([working, job("small", "z", 2), job("large", "y", 4)]) == ("small", "")


def test_a_job_cancelled_while_it_waited_holds_nothing() -> None:
    assert next_of([job("c", "x", 4, Status.CANCEL_REQUESTED, attempt=0), job("n", "y", 4)]) == ("n", "")
    assert next_of([job("c", "x", 4, Status.CANCEL_REQUESTED, attempt=1), job("n", "y", 4)]) == ("", "n")


@TWO_CORES
def test_jobs_get_processors_and_gpus_that_no_other_has() -> None:
    cpus = nodes.usable_cpus()
    machine = Machine(len(cpus), 8.0, gpus=("A", "B"))
    first = job("first", "x", 1, Status.RUNNING, gpus=1)
    held = nodes.assign(machine, first, [])
    assert held == Held([cpus[0]], [0])
    beside = [replace(first, held=held)]
    assert nodes.assign(machine, job("second", "y", 1, gpus=1), beside) == Held([cpus[1]], [1])
    assert nodes.assign(machine, job("whole", "x", machine.cores), []).cpus == []
    assert nodes.assign(Machine(1, 8.0), job("limited", "x", 1), []).cpus == [], "a container's limit is no set of cpus"


def make_cluster(server: LocalServer, name: str, cores: int, nodes_at_most: int) -> None:
    inner = {"vmSize": f"local.cpu{cores}", "scaleSettings": {"minNodeCount": 0, "maxNodeCount": nodes_at_most}}
    body = {"location": "local", "properties": {"computeType": "AmlCompute", "properties": inner}}
    assert server.finish(server.request("PUT", f"computes/{name}", json=body))["status"] == "Succeeded"


def show(compute: str, seconds: float) -> dict[str, Any]:
    body = command_body(compute=compute)
    body["properties"]["command"] = f'{sys.executable} -c "{SHOW}" && sleep {seconds}'
    return body


def seen_by(server: LocalServer, name: str) -> tuple[int, list[int]]:
    log = server.home.runs / name / COMMAND_STEP / runs.LOG_NAME
    threads, cpus = json.loads(wait_until(lambda: log.exists() and log.read_text(encoding="utf-8").strip()))
    return int(threads), cpus


@TWO_CORES
def test_two_clusters_share_the_cores_and_a_third_job_waits(local_server: LocalServer) -> None:
    """Small jobs work at once, on a core each; one for the whole machine waits for them, and its successor for it."""
    whole = probe().cores
    for name in ("left", "right"):
        make_cluster(local_server, name, 1, nodes_at_most=whole)
    names = [f"small-{number}" for number in range(whole)]
    for number, name in enumerate(names):
        submit(local_server, name, show(("left", "right")[number % 2], 1.5))
    submit(local_server, "large", show("this-machine", 0))
    submit(local_server, "last", show("left", 0))
    seen = [seen_by(local_server, name) for name in names]
    assert [threads for threads, _ in seen] == [1] * whole
    if whole == len(nodes.usable_cpus()):
        assert sorted(cpu for _, cpus in seen for cpu in cpus) == nodes.usable_cpus(), "one each, none twice"
    assert [job_of(local_server, name)["status"] for name in ("large", "last")] == ["Queued", "Queued"]
    for name in (*names, "large", "last"):
        assert wait_for(local_server, name)["status"] == "Completed"
    assert seen_by(local_server, "large") == (whole, nodes.usable_cpus())
    began = {name: details_of(local_server, name)["startTimeUtc"] for name in (*names, "large", "last")}
    ended = {name: details_of(local_server, name)["endTimeUtc"] for name in (*names, "large", "last")}
    assert max(ended[name] for name in names) <= began["large"]
    assert ended["large"] <= began["last"]
    events = (local_server.home.runs / "large" / runs.EVENTS_NAME).read_text(encoding="utf-8")
    assert f"waits for {whole} cores" in events


def test_jobs_on_one_node_run_in_the_order_they_came(local_server: LocalServer, tmp_path: Path) -> None:
    names = [f"queue-{number}" for number in range(5)]
    for name in names:
        body = command_body()
        body["properties"]["command"] = f"echo {name} >> {tmp_path / 'order'}"
        submit(local_server, name, body)
        time.sleep(0.01)
    for name in names:
        assert wait_for(local_server, name)["status"] == "Completed"
    assert (tmp_path / "order").read_text(encoding="utf-8").split() == names


def test_a_pipeline_its_evaluation_and_the_next_pipeline_take_turns_on_one_node(tmp_path: Path) -> None:
    """Programs of a few lines stand for the engine: three jobs of eleven processes, about six seconds."""
    model = tmp_path / "models" / "tiny" / "1"
    model.mkdir(parents=True)
    (model / "tunedeck.json").write_text(json.dumps({"name": "tiny", "version": "1", "tags": {}}), encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"base")
    base_models = {"TUNEDECK_BASE_MODELS": str(tmp_path / "models")}
    server = LocalServer(Home(tmp_path / "home"), base_models, module="tests.core.local.trivial_server")
    names = ["first", "first-evaluation", "second"]
    try:
        server.start()
        (server.home.blobs / CONTAINER / "train.jsonl").write_text("{}\n", encoding="utf-8")
        submit(server, "first", pipeline_body(TRAIN, max_steps="5"))
        submit(server, "first-evaluation", command_body("--steps 3"))
        submit(server, "second", pipeline_body(TRAIN, max_steps="5"))
        ended = [wait_for(server, name) for name in names]
        told = [details_of(server, name) for name in names]
    finally:
        server.stop()
    assert [job["status"] for job in ended] == ["Completed"] * 3
    assert all(before["endTimeUtc"] <= after["startTimeUtc"] for before, after in itertools.pairwise(told))
