"""The local workspace under load, and with much to remember.

    python -m benchmarks load [--clients 64] [--seconds 60]
    python -m benchmarks held [--jobs 10000] [--models 2000] [--points 1000000]

load: clients replay, once a second each, the requests that azure-ai-ml and the dashboard were seen to send, while a job
trains with the real engine. Times are the server's own, from its log; processor time is that of the server process with
all its threads. held: lists and metrics of a home that holds as much, from a client's side, on a kept connection.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from core.azureml import cloud as clouds
from core.local.store import Store, now_utc
from core.local.wire import answers as wire
from core.runs.metrics import PAGE
from tests import tiny_model
from tests.contract.sdk import client_options, credential_of
from tests.core.local.submitting import pipeline_body, submit, wait_for
from tests.local_server import LocalServer, running_server

P95_BAR_MS, CPU_BAR_MS = 50, 1.5
LIST_BAR_MS, METRIC_BAR_MS = 100, 20
FLOOR_REQUESTS = 500
TRAINING = "bench-training"
TRAIN_FILE = "azureml://datastores/workspaceblobstore/paths/train.jsonl"
_LINE = re.compile(r"core\.local\.server (?P<method>[A-Z]+) (?P<path>\S+) (?P<status>\d+) (?P<ms>\d+) ms$")
METRICS = ("loss", "eval_loss", "learning_rate", "grad_norm")


@dataclass
class Answers:
    """What became of requests: statuses, and the milliseconds each took on the server, by its own log."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Return how many were refused or lost."""
        return sum(count for status, count in self.statuses.items() if not 200 <= status < 400)

    @property
    def p95(self) -> float:
        """Return the time that 95 of 100 do not exceed."""
        return _p95(self.milliseconds)


@contextmanager
def bench_server() -> Iterator[LocalServer]:
    """Serve a new home that has a tiny model and a file to train on; everything of it is ended and removed."""
    with tempfile.TemporaryDirectory(prefix="tunedeck-load-", ignore_cleanup_errors=True) as folder:
        models = Path(folder) / "models"
        tiny_model.build_tiny_model(models, hidden=512, layers=8)  # a step takes about as long as a real one
        with running_server(Path(folder) / "home", TUNEDECK_BASE_MODELS=str(models)) as server:
            rows = tiny_model.make_conversations(64)
            tiny_model.write_jsonl(server.home.blobs / "azureml-blobstore" / "train.jsonl", rows)
            yield server


def start_training(server: LocalServer) -> None:
    """Start a fine-tuning that goes on until it is cancelled, and wait for its first steps."""
    body = pipeline_body(TRAIN_FILE, f"{tiny_model.NAME}/versions/{tiny_model.VERSION}", max_steps="1000000")
    submit(server, TRAINING, body)
    deadline = time.monotonic() + 120
    while not server.request("GET", _history_path("loss")).json().get("metrics"):
        if time.monotonic() > deadline:
            raise TimeoutError(server.log())
        time.sleep(0.2)


def record_requests(server: LocalServer) -> list[str]:
    """Return the paths of what a real SDK client and the dashboard's readers send to look at a workspace."""
    from azure.ai.ml import MLClient
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    seen: list[str] = []

    class Recorder(SansIOHTTPPolicy):  # type: ignore[type-arg]
        def on_request(self, request: Any) -> None:
            request.context.options["enforce_https"] = False
            if request.http_request.method == "GET":
                seen.append(request.http_request.url.removeprefix(server.url))

    with clouds.using(clouds.local_cloud(server.home)):
        options = {**client_options(server), "per_call_policies": Recorder()}
        client = MLClient(credential_of(server), "00000000-0000-0000-0000-000000000000", "local", "local", **options)
        client.workspaces.get("local")
        list(client.compute.list()), client.compute.get("this-machine")
        list(client.compute.list_sizes()), list(client.compute.list_usage())
        list(client.jobs.list()), client.jobs.get(TRAINING), list(client.jobs.list(parent_job_name=TRAINING))
        list(client.models.list()), list(client.data.list()), list(client.online_endpoints.list())
        client.datastores.get_default()
    details = f"{wire.HISTORY_PATH.partition('/subscriptions')[0]}{wire.workspace_id()}/runs/{TRAINING}/details"
    dashboard = [f"/api/2.0/mlflow/runs/get?run_id={TRAINING}", _history_path("loss"), details]
    return [*seen, *dashboard]


def replay(server: LocalServer, paths: list[str], clients: int, seconds: float) -> Answers:
    """Let clients ask once a second each for `seconds`, each on a connection of its own, then read the server's log."""
    log = server.home.logs / "server.log"
    paths = [_last_page(server) if path == _history_path("loss") else path for path in paths]
    before, statuses, lock = log.stat(), Counter[int](), threading.Lock()
    ends = time.monotonic() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.home.port(), timeout=30)
        headers = {"Authorization": f"Bearer {server.token}", "Accept": "application/json"}
        due = time.monotonic() + number / clients
        turn = number
        while due < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                connection.request("GET", paths[turn % len(paths)], headers=headers)
                response = connection.getresponse()
                response.read()
                status = response.status
            except (OSError, http.client.HTTPException):
                status = 0
                connection.close()
            with lock:
                statuses[status] += 1
            due, turn = due + 1, turn + 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = sum(statuses.values())
    return Answers(statuses, read_times(log, before, asked)[-asked:])  # the line of the last page may come first


def _last_page(server: LocalServer) -> str:
    """Return what a dashboard asks again and again that has read the loss so far: its last page."""
    first = path = f"{_history_path('loss')}&max_results={PAGE}"
    while token := server.request("GET", path).json().get("next_page_token"):
        path = f"{first}&page_token={token}"
    return path


def read_times(log: Path, before: os.stat_result, expected: int) -> list[float]:
    """Return the milliseconds of the requests since the log was as `before`; a line is written after its answer."""
    until = time.monotonic() + 2
    while True:
        found = [float(match["ms"]) for line in _lines_since(log, before) if (match := _LINE.search(line.rstrip()))]
        if len(found) >= expected or time.monotonic() > until:
            return found
        time.sleep(0.05)


def _lines_since(log: Path, before: os.stat_result) -> Iterator[str]:
    """Yield what was added to a log, also where its file was put aside meanwhile and a new one begun."""
    aside = log.with_name(f"{log.name}.1")
    same = log.exists() and log.stat().st_ino == before.st_ino
    for path, offset in [(log, before.st_size)] if same else [(aside, before.st_size), (log, 0)]:
        with suppress(FileNotFoundError), path.open(encoding="utf-8") as lines:
            lines.seek(offset)
            yield from lines


def processor_ms(server: LocalServer) -> float:
    """Return the processor time of the server process so far, all threads, no children."""
    return process_ms(server.pid)


def process_ms(pid: int) -> float:
    """Return the processor time of a process so far."""
    spent = psutil.Process(pid).cpu_times()
    return (spent.user + spent.system) * 1000


def measure_load(clients: int, seconds: float) -> bool:
    """Measure and print; True where every bar is met."""
    with bench_server() as server:
        floor = _floor_ms(server)
        start_training(server)
        paths = record_requests(server)
        replay(server, paths, clients, 3)  # threads and their connections to the store are made once
        idle = _idle_ms_per_s(server)
        before, began = processor_ms(server), time.monotonic()
        answers = replay(server, paths, clients, seconds)
        spent = processor_ms(server) - before
        each = spent / sum(answers.statuses.values())
        without_runner = (spent - idle * (time.monotonic() - began)) / sum(answers.statuses.values())
        server.request("POST", f"jobs/{TRAINING}/cancel")
        wait_for(server, TRAINING)
    asked, middle, slowest = (
        sum(answers.statuses.values()),
        statistics.median(answers.milliseconds),
        max(answers.milliseconds),
    )
    rows = [
        ("requests, errors", f"{asked}, {answers.errors}", "no error"),
        (
            "time at the server, p95 (median, slowest)",
            f"{answers.p95:.0f} ms ({middle:.0f}, {slowest:.0f})",
            f"{P95_BAR_MS} ms",
        ),
        ("processor time of the server per request", f"{each:.2f} ms", f"{CPU_BAR_MS} ms"),
        (f"the same without watching the job ({idle:.1f} ms/s)", f"{without_runner:.2f} ms", ""),
        (f"the same over an answer that reads nothing ({floor:.2f} ms)", f"{without_runner / floor:.1f}", ""),
    ]
    print(
        f"{clients} clients at one request a second for {seconds:.0f} s, {len(paths)} recorded requests, a job trains\n"
    )
    _print_table(("what", "measured", "bar"), rows)
    return not answers.errors and answers.p95 < P95_BAR_MS and each < CPU_BAR_MS


def _floor_ms(server: LocalServer) -> float:
    """Return the processor time of an answer that asks for no credential and reads nothing."""
    before = processor_ms(server)
    _time_all(server, ["/studio"] * FLOOR_REQUESTS)
    return (processor_ms(server) - before) / FLOOR_REQUESTS


def _idle_ms_per_s(server: LocalServer, seconds: float = 5.0) -> float:
    before = processor_ms(server)
    time.sleep(seconds)
    return (processor_ms(server) - before) / seconds


def fill(home_db: Path, *, jobs: int, models: int, points: int, template: dict[str, Any], prefix: str = "held") -> None:
    """Write jobs like `template`, models and the points of one run straight into a store that nobody serves."""
    store = Store(home_db)
    now = now_utc()
    with store.transaction() as connection:

        def put(kind: str, key: str, parent: str, body: dict[str, Any]) -> None:
            connection.execute(
                "INSERT INTO documents (kind, key, parent, body, created_at, modified_at) VALUES (?, ?, ?, ?, ?, ?)",
                (kind, key, parent, json.dumps(body), now, now),
            )

        for number in range(jobs):
            name = f"{prefix}-{number:05d}"
            steps = [{**step, "id": f"{name}_{place}"} for place, step in enumerate(template["steps"], 1)]
            put("job", name, "", {**template, "name": name, "steps": steps})
        for number in range(models):
            uri = f"azureml://datastores/workspaceblobstore/paths/azureml/held-{number:05d}/trained_model/"
            body = {"name": f"model-{number:04d}", "version": "1", "description": "held", "tags": {"n": str(number)}}
            body |= {
                "properties": {},
                "archived": False,
                "type": "mlflow_model",
                "uri": uri,
                "job": None,
                "flavors": {},
            }
            put("model", f"model-{number:04d}/1", f"model-{number:04d}", body)
        rows = (
            (f"{prefix}-{jobs - 1:05d}", METRICS[step % len(METRICS)], 1 / (step + 1), step, step)
            for step in range(points)
        )
        connection.executemany(
            "INSERT INTO metrics (run_id, key, value, step, timestamp_ms) VALUES (?, ?, ?, ?, ?)", rows
        )


def ended_job(server: LocalServer) -> dict[str, Any]:
    """Return the document of a pipeline that has ended, as the store has it."""
    body = pipeline_body(TRAIN_FILE, f"{tiny_model.NAME}/versions/{tiny_model.VERSION}", max_steps="1000000")
    submit(server, "template", body)
    server.request("POST", "jobs/template/cancel")
    wait_for(server, "template")
    return {**Store(server.home.workspace_db).require("job", "template"), "hidden": False}


def walk_pages(server: LocalServer, path: str) -> tuple[list[str], list[float]]:
    """Return the names on all pages of a list, and the milliseconds each page took."""
    names: list[str] = []
    times: list[float] = []
    following: str | None = path
    with _connection(server) as ask:
        while following:
            began = time.perf_counter()
            answer = ask(following)
            times.append((time.perf_counter() - began) * 1000)
            names += [each["name"] for each in answer["value"]]
            following = (answer.get("nextLink") or "").removeprefix(server.url) or None
    return names, times


def measure_held(jobs: int, models: int, points: int) -> bool:
    """Fill a home, measure and print; True where every bar is met."""
    with bench_server() as server:
        template = ended_job(server)
        server.stop()
        fill(server.home.workspace_db, jobs=jobs, models=models, points=points, template=template)
        began = time.perf_counter()
        server.start()
        started = time.perf_counter() - began
        run, workspace = f"held-{jobs - 1:05d}", wire.workspace_id()
        before = processor_ms(server)
        lists = {"jobs": walk_pages(server, f"{workspace}/jobs")}
        per_page = (processor_ms(server) - before) / len(lists["jobs"][1])
        lists["models"] = walk_pages(server, f"{workspace}/models")
        assert [len(set(names)) for names, _ in lists.values()] == [jobs + 1, models]
        reads = {
            f"last values of {run} ({points:,} points)": _best_of(server, f"/api/2.0/mlflow/runs/get?run_id={run}"),
            "what is new of one metric": _best_of(server, f"{_history_path('loss', run)}&page_token={points - 100}"),
        }
    print(f"{jobs:,} jobs, {models:,} models, {points:,} metric points; the server was ready in {started:.1f} s\n")
    rows = [(f"a page of 100 {name}, of {len(times)}", times, LIST_BAR_MS) for name, (_, times) in lists.items()]
    rows += [(name, times, METRIC_BAR_MS) for name, times in reads.items()]
    shown = [
        (name, f"{statistics.median(times):.1f} ms", f"{_p95(times):.0f} ms", f"{max(times):.0f} ms", f"{bar} ms")
        for name, times, bar in rows
    ]
    _print_table(("what", "median", "p95", "slowest", "bar (p95)"), shown)
    print(f"\nProcessor time of the server: {per_page:.1f} ms for each page of jobs.")
    return all(_p95(times) < bar for _, times, bar in rows)


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    lines = [head, ("---",) * len(head), *rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _best_of(server: LocalServer, path: str, times: int = 20) -> list[float]:
    return _time_all(server, [path] * times)


def _time_all(server: LocalServer, paths: list[str]) -> list[float]:
    times = []
    with _connection(server) as ask:
        for path in paths:
            began = time.perf_counter()
            ask(path)
            times.append((time.perf_counter() - began) * 1000)
    return times


@contextmanager
def _connection(server: LocalServer) -> Iterator[Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.home.port(), timeout=60)
    headers = {"Authorization": f"Bearer {server.token}", "Accept": "application/json"}

    def ask(path: str) -> Any:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {content[:300]!r}")
        return json.loads(content) if content.startswith(b"{") else {}

    try:
        yield ask
    finally:
        connection.close()


def _history_path(key: str, run: str = TRAINING) -> str:
    return f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key={key}"
