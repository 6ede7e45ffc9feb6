"""One process, several clouds: the SDK keeps "the current one" in a variable, and still none is mixed up."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from core.azureml.connection import Connection
from core.azureml.settings import local_settings
from core.errors import TunedeckError
from core.home import Home
from core.local.wire import answers
from tests.local_server import LocalServer, running_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marshmallow", "ignore::Warning:azure.ai.ml")

THREADS = 8
ROUNDS = 6
SEED = 7


class ForeignCloud(ThreadingHTTPServer):
    """A resource manager that answers little and writes down who asked what with whose token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, list[str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.job_came, self.job_may_go = threading.Event(), threading.Event()
        self.job_may_go.set()

    def answer(self, path: str) -> Any:
        if path.endswith("/discovery"):
            return {
                "registryName": "azureml",
                "primaryRegionResourceProviderUri": f"{self.url}/",
                "resourceGroup": "g",
                "subscriptionId": local_settings().subscription_id,
            }
        if path.endswith("/workspaces/local"):
            properties = {"discoveryUrl": f"{self.url}/discovery", "mlFlowTrackingUri": self.url, "storageAccount": "s"}
            return {"id": path, "name": "local", "location": "elsewhere", "properties": properties}
        if path.endswith("/computes"):
            return {"value": [_compute("foreign-1")]}
        return {"value": []} if path.rsplit("/", 1)[-1] in ("models", "data", "components") else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ForeignCloud

    def _serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        tokens = [
            self.headers.get("Authorization", "").removeprefix("Bearer "),
            self.headers.get("x-azureml-token", ""),
        ]
        self.server.seen.append((self.command, path, [token for token in tokens if token]))
        if self.command == "PUT" and "/jobs/" in path:
            self.server.job_came.set()
            self.server.job_may_go.wait(30)
        found = self.server.answer(path) if self.command == "GET" else None
        body = json.dumps(found or {"error": {"code": "ForeignRefusal", "message": "Not here."}}).encode()
        self.send_response(200 if found else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""


def _compute(name: str) -> dict[str, Any]:
    inner = {"vmSize": "FOREIGN", "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1}}
    outer = {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": inner}
    return {"id": f"x/computes/{name}", "name": name, "location": "elsewhere", "properties": outer}


@dataclasses.dataclass(frozen=True)
class Place:
    """A cloud under test: how it is connected to, and the compute that is only there."""

    name: str
    url: str
    home: Home
    cloud_name: str = ""

    def connect(self) -> Connection:
        connection = Connection(local_settings(), self.home)
        if self.cloud_name:
            connection.cloud = dataclasses.replace(connection.cloud, name=self.cloud_name)
        return connection

    @property
    def compute(self) -> str:
        return f"{self.name}-1"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LocalServer]]:
    with (
        running_server(tmp_path_factory.mktemp("alpha")) as alpha,
        running_server(tmp_path_factory.mktemp("beta")) as beta,
    ):
        found = {"alpha": alpha, "beta": beta}
        for name, server in found.items():
            cluster = {"computeType": "AmlCompute", "properties": {"vmSize": "local.cpu1"}}
            server.finish(server.request("PUT", f"computes/{name}-1", json={"properties": cluster}))
            server.request("DELETE", "computes/this-machine")
        yield found


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[tuple[ForeignCloud, Home]]:
    cloud = ForeignCloud()
    home = Home(tmp_path / "foreign").create()
    (home.path / "address.json").write_text(json.dumps({"port": cloud.server_address[1]}), encoding="utf-8")
    thread = threading.Thread(target=cloud.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield cloud, home
    cloud.shutdown()
    cloud.server_close()


def work(place: Place, connection: Connection, number: int) -> None:
    """Make the calls of a session on one cloud, and check that each answer is this cloud's."""
    from azure.ai.ml import UserIdentityConfiguration, command
    from azure.ai.ml.entities import Data

    workspace = connection.workspace
    assert workspace.workspaces.get("local").mlflow_tracking_uri.startswith(place.url)
    assert [compute.name for compute in workspace.compute.list()] == [place.compute]
    list(connection.registry.models.list())
    list(workspace.models.list())
    asset = Data(
        name=f"{place.name}-data",
        version=f"{number}",
        type="uri_file",
        path=f"azureml://datastores/workspaceblobstore/paths/{place.name}/{number}",
    )
    job = command(
        name=f"{place.name}-job-{number}",
        command=f"echo {place.name}",
        environment="azureml://registries/azureml/environments/any/versions/1",
        compute=f"{place.name}-nowhere",
        experiment_name=place.name,
        identity=UserIdentityConfiguration(),  # has the SDK send a second token, for "the current cloud"
    )
    for doing in (
        lambda: connection.call("create", "data", workspace.data.create_or_update, asset),
        lambda: connection.submit("a job", job, lambda body: None),
    ):
        try:
            doing()
        except TunedeckError as error:
            told = f"{error} {error.detail}"
            wanted = "ForeignRefusal" if place.cloud_name else f"{place.name}-nowhere"
            assert wanted in told, told


def test_no_request_reaches_the_wrong_server(
    servers: dict[str, LocalServer], foreign: tuple[ForeignCloud, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes some ten seconds: 48 sessions with a job each, and submitting a job takes the SDK a third of a second."""
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "AzureCloud")
    cloud, foreign_home = foreign
    places = [Place(name, server.url, server.home) for name, server in servers.items()]
    places.append(Place("foreign", cloud.url, foreign_home, cloud_name="ForeignStackCloud"))

    def session(thread: int) -> None:
        order = random.Random(SEED + thread)
        kept = [place.connect() for place in places]
        for number in range(ROUNDS):
            index = order.randrange(len(places))
            connection = kept[index] if number % 2 else places[index].connect()
            work(places[index], connection, thread * ROUNDS + number)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(session, range(THREADS)))

    for name, server in servers.items():
        log = (server.home.logs / "server.log").read_text(encoding="utf-8")
        requests = re.findall(r"core\.local\.server (\S+) (\S+) (\d+) ", log)
        assert len(requests) > 3 * ROUNDS
        assert {status for _, _, status in requests} <= {"200", "201", "202", "400"}
        others = {place.name for place in places} - {name}
        assert not [path for _, path, _ in requests if any(f"{other}-" in path for other in others)]
        jobs = [path for method, path, _ in requests if method == "PUT" and "/jobs/" in path]
        assert jobs, "no job reached this server"
    assert len(cloud.seen) > 3 * ROUNDS
    for method, path, tokens in cloud.seen:
        assert len(tokens) == (2 if "/jobs/" in path else 1), (method, path)
        for token in tokens:
            claims = jwt.decode(
                token,
                foreign_home.secret(),
                algorithms=["HS256"],
                options={"verify_aud": False},
                issuer="tunedeck-local",
            )
            assert claims["aud"].startswith(cloud.url)
    assert [
        path for method, path, _ in cloud.seen if method == "PUT" and path.startswith(f"{answers.workspace_id()}/jobs/")
    ]


def test_a_job_that_hangs_on_its_way_holds_up_no_client(
    servers: dict[str, LocalServer], foreign: tuple[ForeignCloud, Home]
) -> None:
    """Forced: the job's PUT is not answered until clients of another cloud were built and read with."""
    cloud, home = foreign
    here = Place("alpha", servers["alpha"].url, servers["alpha"].home)
    elsewhere = Place(
        "foreign", cloud.url, home, cloud_name="HangingCloud"
    )  # the SDK knows a cloud by its name for good
    cloud.job_came.clear()
    cloud.job_may_go.clear()
    try:
        with ThreadPoolExecutor(2) as pool:
            sending = pool.submit(work, elsewhere, elsewhere.connect(), 1000)
            assert cloud.job_came.wait(30)
            connection = here.connect()
            reading = pool.submit(lambda: [one.name for one in connection.workspace.compute.list()])
            assert reading.result(20) == [here.compute]
            assert not sending.done()
            cloud.job_may_go.set()
            sending.result(20)
    finally:
        cloud.job_may_go.set()
