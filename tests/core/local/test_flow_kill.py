"""kill -9 in every stage of the whole flow: train, register, deploy, score, delete.

A round is one stage with one kill of the server at a random moment of it, in some stages of trainer or scorer as
well; ten rounds are one flow. After each round every write that was acknowledged is looked for; after each flow no
process and no file of it is left. `make test` has ten rounds with programs of a few lines, `make soak` 200 with the
real engine on a tiny model.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from core.home import Home
from core.local import control, processes, shim
from core.local.addresses import long_uri
from core.local.blobs import CONTAINER, DATASTORE
from core.local.usage import read_usage
from tests.core.local.submitting import metric_of, pipeline_body
from tests.local_server import LocalServer
from tests.soak import Soak, is_soak
from tests.tiny_model import DEFAULTS, NAME, build_tiny_model, make_conversations, write_jsonl
from tests.waiting import wait_until

EPOCHS, ROWS, BATCH = 8, 64, 4
TRIVIAL_STEPS = 60  # a fiftieth of a second each
TRAIN = f"azureml://datastores/{DATASTORE}/paths/train.jsonl"
GONE = "gone"
WHICH = ("nothing", "program", "both")  # what is killed beside the server; both: the program and its shim


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    home = Home(tmp_path_factory.mktemp("home"))
    build_tiny_model(home.path / "base-models")
    module = "core.local" if is_soak() else "tests.core.local.trivial_server"
    server = LocalServer(home, {"TUNEDECK_BASE_MODELS": str(home.path / "base-models")}, module)
    try:
        server.start()
        write_jsonl(home.blobs / CONTAINER / "train.jsonl", make_conversations(ROWS))
        yield server
    finally:
        server.stop()


@dataclass
class Flow:
    """One model from its training to its end. `acknowledged`: what must be so, by path: "there", a state, or GONE."""

    server: LocalServer
    number: int
    chance: random.Random
    soak: Soak
    acknowledged: dict[str, str] = field(default_factory=dict)
    measured: int = 0

    @property
    def job(self) -> str:
        return f"flow-{self.number}"

    @property
    def endpoint(self) -> str:
        return f"onlineEndpoints/flow-{self.number}"

    @property
    def deployment(self) -> str:
        return f"{self.endpoint}/deployments/blue"

    @property
    def model(self) -> str:
        return f"models/flow-{self.number}/versions/1"

    @property
    def training(self) -> Path:
        return self.server.home.runs / self.job / "chat_completion_finetune"

    # A client that does not give up, and remembers what it was promised

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        """Send until an answer comes, as an SDK that retries does."""
        heard: list[requests.Response] = []

        def send() -> bool:
            with suppress(requests.RequestException):
                heard.append(self.server.request(method, path, json=body))
            return bool(heard)

        wait_until(send, self.server.log)
        return heard[0]

    def write(self, method: str, path: str, body: dict[str, Any] | None = None, becomes: str = "there") -> None:
        answer = self.ask(method, path, body)
        good = (200, 201, 202, 204, 404) if method == "DELETE" else (200, 201, 202)
        assert answer.status_code in good, f"{method} {path}: {answer.status_code} {answer.text}"
        self.acknowledged[path] = becomes

    def state(self, path: str) -> str:
        answer = self.ask("GET", path)
        if answer.status_code == 404:
            return GONE
        assert answer.status_code == 200, answer.text
        properties = answer.json()["properties"]
        return str(properties.get("status") or properties["provisioningState"])

    def reach(self, path: str, *states: str, seconds: float = 120) -> str:
        def reached() -> str:
            now = self.state(path)
            bad = now in ("Failed", "Canceled") and now not in states
            assert not bad, f"{path} is {now}: {self.told(path)}"
            return now if now in states else ""

        return str(wait_until(reached, timeout_s=seconds, every_s=0.1))

    def told(self, path: str) -> str:
        folder = self.server.home.runs / self.job
        logs = [
            each.read_text() for each in (folder / "executionlogs.txt", self.training / "std_log.txt") if each.exists()
        ]
        return f"{self.ask('GET', path).text}\n" + "\n".join(logs)

    # The kill

    def kill(self, within_s: float, *also: Path, which: tuple[str, ...] = WHICH) -> Callable[[], None]:
        """Kill the server at a random moment of the next seconds, and serve again; returns a wait for that."""
        delay = self.chance.random() * within_s
        victims = self.chance.choice(which) if also else "nothing"
        pause = self.chance.random() * 0.5

        def strike() -> None:
            time.sleep(delay)
            self.server.kill()
            for folder in also:
                kill_in(folder, victims)
            time.sleep(pause)
            self.server.start()

        thread = threading.Thread(target=strike)
        thread.start()
        self.soak.add("kills of the server")
        self.soak.add("of trainer or scorer as well", victims != "nothing")
        return thread.join

    # The ten stages

    def submit(self) -> None:
        done = self.kill(0.1)
        settings = {**DEFAULTS, "num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH}
        settings |= {} if is_soak() else {"max_steps": TRIVIAL_STEPS}
        literals = {name: str(value) for name, value in settings.items()}
        body = pipeline_body(TRAIN, f"{NAME}/versions/1", **literals)
        self.write("PUT", f"jobs/{self.job}", body)
        done()
        assert self.ask("PUT", f"jobs/{self.job}", body).status_code in (200, 201)

    def prepare(self) -> None:
        done = self.kill(3.0, *(self.server.home.runs / self.job).glob("*/"))
        done()

    def train(self) -> None:
        wait_until(
            lambda: self.state(f"jobs/{self.job}") == "Completed" or metric_of(self.server, self.job),
            timeout_s=120,
            every_s=0.1,
        )
        self.kill(1.0, self.training)()

    def finish(self) -> None:
        wait_until(lambda: (self.training / "outputs" / "training.json").exists() or self.is_over(), timeout_s=120)
        self.kill(1.5)()
        self.reach(f"jobs/{self.job}", "Completed")
        self.acknowledged[f"jobs/{self.job}"] = "Completed"
        steps = [step for step, _ in metric_of(self.server, self.job)]
        assert steps == list(range(1, len(steps) + 1)), f"lost or repeated: {steps}"
        if not is_soak():
            assert len(steps) == TRIVIAL_STEPS
            return
        assert len(steps) % EPOCHS == 0, steps
        evaluations = [step for step, _ in metric_of(self.server, self.job, "eval_loss")]
        assert len(evaluations) == len(set(evaluations)) == EPOCHS, evaluations

    def register(self) -> None:
        done = self.kill(0.1)
        uri = f"azureml://jobs/{self.job}/outputs/trained_model"
        self.write("PUT", self.model, {"properties": {"modelUri": uri, "modelType": "mlflow_model"}})
        done()

    def open_endpoint(self) -> None:
        done = self.kill(0.2)
        self.put_endpoint({})
        done()
        self.reach(self.endpoint, "Succeeded")
        self.acknowledged[self.endpoint] = "Succeeded"

    def put_endpoint(self, traffic: dict[str, int]) -> None:
        body = {"location": "local", "tags": {}, "properties": {"authMode": "Key", "traffic": traffic}}
        self.write("PUT", self.endpoint, body)

    def deploy(self) -> None:
        # A scorer killed alone while it loads makes the deployment Failed with the reason, as lack of memory does.
        done = self.kill(3.0, self.server.home.deployments / self.job / "blue", which=("nothing", "both"))
        asked = {
            "model": f"{long_uri(f'azureml/{self.job}/trained_model')}",
            "instanceType": "Local.CPU1",
            "endpointComputeType": "Managed",
            "requestSettings": {"requestTimeout": "PT60S"},
        }
        self.write(
            "PUT",
            self.deployment,
            {"location": "local", "sku": {"name": "Default", "capacity": 1}, "properties": asked},
        )
        done()
        self.reach(self.deployment, "Succeeded")
        self.acknowledged[self.deployment] = "Succeeded"

    def serve(self) -> None:
        self.put_endpoint({"blue": 100})
        self.reach(self.endpoint, "Succeeded")
        self.kill(0.5, self.server.home.deployments / self.job / "blue")()
        wait_until(self.answers, timeout_s=60, every_s=0.2)

    def answers(self) -> bool:
        key = self.ask("POST", f"{self.endpoint}/listKeys").json()["primaryKey"]
        body = {"messages": [{"role": "user", "content": "What is the kettle 3?"}], "max_tokens": 4, "model": "x"}
        url = f"{self.server.url}/endpoints/flow-{self.number}/v1/chat/completions"
        try:
            answer = requests.post(url, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=20)
        except requests.RequestException:
            return False
        return answer.status_code == 200 and bool(answer.json()["choices" if is_soak() else "output"])

    def delete_deployment(self) -> None:
        self.put_endpoint({"blue": 0})
        done = self.kill(0.4)
        self.write("DELETE", self.deployment, becomes=GONE)
        done()
        self.reach(self.deployment, GONE)

    def delete_rest(self) -> None:
        done = self.kill(0.4)
        self.write("DELETE", self.endpoint, becomes=GONE)
        self.write("DELETE", f"{self.model}?deleteFiles=true")
        self.acknowledged.pop(f"{self.model}?deleteFiles=true")
        self.acknowledged[self.model] = GONE
        done()
        self.reach(self.endpoint, GONE)

    # What must be so

    def is_over(self) -> bool:
        return self.state(f"jobs/{self.job}") in ("Completed", "Failed", "Canceled")

    def check_acknowledged(self) -> None:
        for path, becomes in self.acknowledged.items():
            if path == self.model:
                now = GONE if self.ask("GET", path).status_code == 404 else "there"
            else:
                now = self.state(path)
            assert now == becomes or (becomes == "there" and now != GONE), f"{path} is {now}, was to be {becomes}"
        measured = len(metric_of(self.server, self.job))
        assert measured >= self.measured, "metrics that were read are gone"
        self.measured = measured

    def check_nothing_is_left(self) -> None:
        home = self.server.home
        wait_until(lambda: not list(control.list_live_folders(home)))
        wait_until(lambda: not processes_of(home))
        left = [path for root in (home.runs / self.job, home.deployments) for path in root.rglob("model.safetensors")]
        left += list((home.blobs / CONTAINER / "azureml" / self.job).rglob("*.safetensors"))
        left += [path for path in home.path.rglob("*") if path.name.endswith((".writing", ".tmp"))]
        left += list((home.blobs / ".staging").iterdir()) + list(home.deployments.iterdir())
        assert not left


STAGES = (
    Flow.submit,
    Flow.prepare,
    Flow.train,
    Flow.finish,
    Flow.register,
    Flow.open_endpoint,
    Flow.deploy,
    Flow.serve,
    Flow.delete_deployment,
    Flow.delete_rest,
)


def kill_in(folder: Path, victims: str) -> None:
    """Kill -9 the program of a step folder, or it and its shim together as the end of a machine does."""
    record = processes._read_json(folder / shim.PROCESS_NAME)
    names = {"nothing": (), "program": ("child_",), "both": ("", "child_")}[victims]
    for name in names:
        processes._signal(record.get(f"{name}pid"), record.get(f"{name}start_time"), signal.SIGKILL)


def processes_of(home: Home) -> list[str]:
    """Return the command lines of the trainers and scorers whose command names this home."""
    listed = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = Path(f"/proc/{entry.name}/cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
            if str(home.path) in line:
                listed.append(line)
    return listed


def size_of(home: Home) -> int:
    return sum(use.size_bytes for use in read_usage(home))


@pytest.mark.soak
def test_killed_in_any_stage_of_the_whole_flow_it_keeps_what_it_acknowledged(server: LocalServer) -> None:
    """Some ten seconds: five programs and a scorer start, most of them twice, and the server once a round."""
    flow, before = None, size_of(server.home)
    with Soak("flow-kills", quick=len(STAGES), long=200, what="kill -9 in the whole flow") as soak:
        for number, chance in soak.rounds():
            stage = number % len(STAGES)
            if flow is None or stage == 0:
                flow = Flow(server, number // len(STAGES), chance, soak)
                for earlier in STAGES[:stage]:  # a soak that goes on in the middle of a flow walks there first
                    earlier(flow)
            flow.chance = chance
            STAGES[stage](flow)
            flow.check_acknowledged()
            if stage == len(STAGES) - 1:
                flow.check_nothing_is_left()
                grown = (size_of(server.home) - before) / 2**20
                soak.worst("MiB that the home grew", round(grown))
                assert grown < 1024
