"""An operator who has connected to the stand-in, and waits there for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.azureml.connection import Connection, connect
from core.azureml.settings import save_settings
from core.catalog.compute import get_compute
from core.errors import NotFound
from core.launch.drafts import create_draft
from core.launch.plan import LaunchPlan
from core.operations import Operation, start_create_compute, start_runner
from core.teardown.due import find_timed
from tests.azure.stand_in import SIZE, StandIn
from tests.chat_data import from_upload
from tests.launching import plan_launch
from tests.tiny_model import NAME, make_conversations, to_jsonl
from tests.waiting import finish, wait_until

COMPUTE = "gpu"


@dataclass(frozen=True)
class Walk:
    """One operator, the stand-in around, and the runner that carries out what the operator starts."""

    azure: StandIn
    conn: Connection

    def finish(self, operation: Operation, state: str = "done") -> Operation:
        """Wait for the end of an operation while the workspace's minutes hurry by; return it as it ended."""
        with self.azure.hurried():
            return finish(operation, state)

    def ensure_compute(self) -> None:
        """Create the compute, unless an earlier test of the module did."""
        try:
            get_compute(self.conn, COMPUTE)
        except NotFound:
            self.finish(start_create_compute(self.conn.alias, COMPUTE, SIZE))

    def put_cluster(self, name: str, nodes: int = 0) -> None:
        """Create a cluster that keeps so many nodes as somebody without this home would, and wait until it is there."""
        put_cluster(self.conn, name, nodes)
        with self.azure.hurried():
            wait_until(lambda: (now := find_timed(self.conn, "compute", name)) and now.state == "Succeeded")

    def plan(self, title: str = "", **parameters: Any) -> LaunchPlan:
        """Return a launch of the tiny model on a dozen conversations, as its page checks it."""
        data = from_upload("kettle", to_jsonl(make_conversations(12)).encode())
        draft = create_draft(
            self.conn.alias,
            model=NAME,
            model_version="1",
            compute=COMPUTE,
            dataset=data.key,
            title=title,
            parameters={"max_steps": 4, **parameters},
        )
        return plan_launch(self.conn, draft)


def put_cluster(conn: Connection, name: str, nodes: int = 0, **more: object) -> None:
    """Ask for a cluster that keeps so many nodes. more: of the body, as its tags."""
    scale = {"minNodeCount": nodes, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT15M"}
    inner = {"vmSize": SIZE, "vmPriority": "Dedicated", "scaleSettings": scale}
    body = {"location": "eastus", "properties": {"computeType": "AmlCompute", "properties": inner}, **more}
    conn.http("PUT", f"{conn.workspace_path}/computes/{name}", params={"api-version": "2024-10-01"}, json=body)


@contextmanager
def walking(azure: StandIn) -> Iterator[Walk]:
    """Connect, and carry out what is started for the block; this process is the operator's already."""
    settings = azure.settings()
    save_settings(settings)
    runner = start_runner(azure.home)
    try:
        yield Walk(azure, connect(settings, home=azure.home))
    finally:
        runner.stopping.set()
        wait_until(lambda: not runner.alive)
