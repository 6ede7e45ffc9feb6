"""Many clients at once, and a home that remembers much: right answers, whole lists, and work that does not grow.

Times are measured by `python -m benchmarks load` and `held`; here is what they stand on.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from core.azureml import cloud as clouds
from core.local.store import Store
from core.local.wire import answers as wire
from tests.contract.sdk import make_clients
from tests.core.local.submitting import command_body, submit, wait_for
from tests.local_server import LocalServer
from tests.soak import Soak, is_soak

pytestmark = pytest.mark.filterwarnings("ignore")
CLIENTS, VERSIONS = 8, 5
ENDED = {
    "status": "Completed",
    "display_name": "held",
    "tags": {},
    "hidden": False,
    "properties": {},
    "started_at": None,
    "ended_at": None,
    "error": None,
}
TEMPLATE = {
    "kind": "command",
    "properties": {"jobType": "Command", "command": "true", "outputs": {}},
    "experiment": "held",
    "compute": "this-machine",
    "plan": {"outputs": {}, "inputs": {}, "cores": 1, "gpus": 0, "command": "true", "variables": {}},
    "cancel_asked_at": None,
    "steps": [
        {
            "name": "finetune",
            "title": "Fine-tune",
            "program": "finetune",
            "attempt": 1,
            "stop_asked_at": None,
            "run": ENDED,
        }
    ],
    "run": ENDED,
}


@pytest.fixture(scope="module")
def training(local_server: LocalServer) -> str:
    submit(local_server, load.TRAINING, command_body("--steps 1000000"))
    wait_for(local_server, load.TRAINING, "Running")
    return load.TRAINING


def test_eight_sdk_clients_at_once_each_find_what_they_wrote(local_server: LocalServer, training: str) -> None:
    """Eight clients with their pipelines are built, and each sends some thirty requests: three seconds."""
    from azure.ai.ml.entities import Data

    problems: list[str] = []
    with clouds.using(clouds.local_cloud(local_server.home)):
        clients = [make_clients(local_server)[0] for _ in range(CLIENTS)]

    def work(number: int, client: Any) -> None:
        name = f"of-client-{number}"
        try:
            for version in range(1, VERSIONS + 1):
                path = f"azureml://datastores/workspaceblobstore/paths/{name}/{version}"
                made = client.data.create_or_update(
                    Data(name=name, type="uri_file", path=path, tags={"n": str(number)})
                )
                assert (made.version, made.path) == (str(version), path)
                assert client.jobs.get(training).status == "Running"
            assert [each.version for each in client.data.list(name)] == [str(n) for n in range(VERSIONS, 0, -1)]
            assert client.data.get(name, label="latest").tags == {"n": str(number)}
        except Exception as error:  # noqa: BLE001 - told by the test, which runs in another thread
            problems.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=work, args=each) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    listed = {each.name for each in clients[0].data.list()}
    assert listed >= {f"of-client-{number}" for number in range(CLIENTS)}


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_what_an_sdk_was_seen_to_send_is_answered_to_many_at_once(local_server: LocalServer, training: str) -> None:
    """Sixteen clients ask once a second for two seconds; in a soak 64 for half an hour, with the time it takes."""
    paths = load.record_requests(local_server)
    assert len(paths) > 15
    clients, seconds = (64, 60) if is_soak() else (16, 2)
    with Soak("load", quick=1, long=30, what="minutes of 64 clients, one request a second each") as soak:
        for _, chance in soak.rounds():
            order = chance.sample(paths, len(paths))
            answers = load.replay(local_server, order, clients, seconds)
            assert answers.errors == 0, answers.statuses
            assert sum(answers.statuses.values()) == len(answers.milliseconds) > clients
            soak.add("requests", len(answers.milliseconds))
            soak.worst("p95 ms at the server", answers.p95)
            assert not is_soak() or answers.p95 < load.P95_BAR_MS


def test_times_are_read_from_a_log_that_was_put_aside_meanwhile(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    line = "INFO core.local.server GET /x 200 {} ms\n"
    log.write_text(line.format(1))
    before = log.stat()
    with log.open("a") as file:
        file.write(line.format(2))
    assert load.read_times(log, before, 1) == [2.0]
    log.rename(tmp_path / "server.log.1")
    log.write_text(line.format(3))
    assert load.read_times(log, before, 2) == [2.0, 3.0]


def test_lists_are_whole_page_by_page_while_new_jobs_arrive(own_server: LocalServer) -> None:
    load.fill(own_server.home.workspace_db, jobs=250, models=130, points=0, template=TEMPLATE)
    path = f"{wire.workspace_id()}/jobs"
    first = own_server.request("GET", path).json()
    submit(own_server, "newcomer", command_body("--steps 1"))
    rest, _ = load.walk_pages(own_server, first["nextLink"].removeprefix(own_server.url))
    names = [each["name"] for each in first["value"]] + rest
    assert names == [f"held-{number:05d}" for number in reversed(range(250))]
    with clouds.using(clouds.local_cloud(own_server.home)):
        client, _ = make_clients(own_server)
        assert len(list(client.models.list())) == 130
        assert [job.name for job in client.jobs.list()] == ["newcomer", *names]
    some, _ = load.walk_pages(own_server, f"{path}?$top=30&$skip=240")
    assert some == ["held-00010", "held-00009", *[f"held-{n:05d}" for n in reversed(range(9))]]
    assert own_server.request("GET", f"{path}?$skipToken=x").status_code == 400


def steps_of(store: Store, read: Any) -> int:
    """Return how many hundreds of steps SQLite's machine takes for a read: what it costs, on any machine."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    connection = store._connection()
    connection.set_progress_handler(count, 100)
    read()
    connection.set_progress_handler(None, 0)
    return counted[0]


def test_reading_what_is_new_costs_the_same_after_a_long_history(tmp_path: Path) -> None:
    costs = []
    for points in (400, 40_000):
        load.fill(tmp_path / f"{points}.db", jobs=1, models=0, points=points, template=TEMPLATE)
        store, run = Store(tmp_path / f"{points}.db"), "held-00000"
        assert [(point.key, point.step) for point in store.latest_metrics(run)] == sorted(
            (key, points - 4 + place) for place, key in enumerate(load.METRICS)
        )
        new = store.read_metrics(run, "loss", since_rowid=points - 100)
        assert [point.step for point in new] == list(range(points - 100, points, 4))
        costs.append(
            (
                steps_of(store, lambda: store.latest_metrics(run)),  # noqa: B023 - called at once
                steps_of(store, lambda: store.read_metrics(run, "loss", since_rowid=points - 100)),  # noqa: B023
            )
        )
    assert costs[0] == pytest.approx(costs[1], abs=1), "hundreds of steps, short history and long"


def test_a_page_reads_no_more_documents_than_it_needs(tmp_path: Path) -> None:
    load.fill(tmp_path / "held.db", jobs=2000, models=0, points=0, template=TEMPLATE)
    store = Store(tmp_path / "held.db")

    def page() -> list[str]:
        return [job["name"] for (_, job), _ in zip(store.each("job", before=1500), range(100), strict=False)]

    assert page() == [f"held-{number:05d}" for number in range(1498, 1398, -1)]
    assert steps_of(store, page) * 5 < steps_of(store, lambda: store.list("job"))
