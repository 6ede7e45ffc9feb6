"""Hold the stand-in against a real workspace: `python -m tests.azure verify --at ALIAS`, for a person who has one.

It reads first, and changes nothing. A run is started only where `--compute` names a cluster, after a confirmation that
names the price, and is cancelled when its time is up. What was answered is written down as shapes only (shapes.py),
and the table of docs/azure.md says of each check whether it passes, differs or was not tried.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from core import home as homes
from core.azureml.access import prove_access
from core.azureml.connection import Connection, connect
from core.azureml.settings import Settings, find_settings
from core.catalog import base_models, compute
from core.catalog.prices import money
from core.catalog.quota import list_quota
from core.errors import TunedeckError
from core.home import REPOSITORY
from core.launch.drafts import create_draft
from core.launch.pipeline import get_component
from core.launch.plan import LaunchPlan
from core.operations import get_operation, start_cancel, start_launch, start_runner
from core.runs import index, jobs
from core.runs.metrics import read_metrics
from core.serving.endpoints import list_endpoints
from core.serving.registered_models import list_registered_models
from core.teardown.inventory import list_inventory
from tests.azure.shapes import Shapes, find_differences, recording
from tests.catalogue import find_all
from tests.chat_data import from_upload
from tests.launching import plan_launch
from tests.tiny_model import make_conversations, to_jsonl

DOCS = REPOSITORY / "docs"
RUN = "A run, start to end"
MOST_MINUTES = 60
_STEPS = 4
_LOOK_S = 5.0
_TABLE = re.compile(r"(<!-- verified -->\n).*?(?=<!-- /verified -->)", re.DOTALL)


@dataclass(frozen=True)
class Result:
    """What one check came to: "passes", "differs" or "not tried"."""

    title: str
    state: str = "not tried"
    detail: str = ""


def _roles(conn: Connection) -> str:
    lines = prove_access(conn)
    failed = [line.title for line in lines if line.state == "failed"]
    return f"{len(lines)} lines, failed: {', '.join(failed) or 'none'}"


def _prices(conn: Connection) -> str:
    sizes = [size for size in compute.list_sizes(conn) if size.gpus]
    priced = [size.price for size in compute.with_prices(conn, sizes[:3])]
    return ", ".join(price.words for price in priced) or "no size with a GPU"


def _runs(conn: Connection) -> str:
    found = index.list_runs(conn)
    for run in found[:1]:
        jobs.get_run(conn, run.name)
        read_metrics(conn, run.name)
    return f"{len(found)}"


READ: dict[str, Callable[[Connection], str]] = {
    "Sign-in and workspace": lambda conn: f"region {conn.facts().region}",
    "Roles": _roles,
    "Computes": lambda conn: f"{len(compute.list_computes(conn))}",
    "Sizes": lambda conn: f"{len(compute.list_sizes(conn))}",
    "Quota": lambda conn: f"{len(list_quota(conn))} families",
    "Prices": _prices,
    "Base models": lambda conn: f"{find_all(conn, 'phi', timeout_s=300.0).matches} found by 'phi'",
    "Fine-tuning pipeline": lambda conn: f"version {get_component(conn).version}",
    "Runs, their stages and metrics": _runs,
    "Endpoints and deployments": lambda conn: f"{len(list_endpoints(conn))}",
    "Registered models": lambda conn: f"{len(list_registered_models(conn))}",
    "What is there, and what bills": lambda conn: f"{len(list_inventory(conn).items)} resources",
}


def read_all(conn: Connection) -> tuple[dict[str, Result], dict[str, Shapes]]:
    """Carry out the checks that change nothing; return what each came to, and what was answered.

    What a connection remembers is asked for by the first check that wants it, on either side the same.
    """
    results: dict[str, Result] = {}
    answered: dict[str, Shapes] = {}
    for title, check in READ.items():
        answered[title] = {}
        with recording(answered[title]):
            results[title] = _try(title, partial(check, conn), conn.settings)
    return results, answered


def compare(results: Mapping[str, Result], found: Mapping[str, Shapes], expected: Mapping[str, Shapes]) -> list[Result]:
    """Return what each check came to, its answers held against the stand-in's."""
    compared = []
    for title, result in results.items():
        told = find_differences(expected.get(title, {}), found.get(title, {}))
        if result.state == "passes" and told:
            more = f" and {len(told) - 3} more" if len(told) > 3 else ""
            result = Result(title, "differs", "; ".join(told[:3]) + more)
        compared.append(result)
    return compared


def plan_run(conn: Connection, model: str, cluster: str) -> LaunchPlan:
    """Return the smallest run that is worth one: a dozen conversations, a few steps."""
    data = from_upload("tunedeck-verify", to_jsonl(make_conversations(12)).encode())
    version = base_models.get_base_model(conn, model).version
    draft = create_draft(
        conn.alias,
        model=model,
        model_version=version,
        compute=cluster,
        dataset=data.key,
        parameters={"max_steps": _STEPS},
    )
    return plan_launch(conn, draft)


def describe_price(plan: LaunchPlan, most_minutes: int) -> str:
    """Return what the run may cost at the most, in words that somebody agrees to."""
    price, nodes = plan.compute.price, plan.recipe.whole("num_nodes_finetune")
    most = None if price.per_hour is None else price.per_hour * nodes * most_minutes / 60
    worth = f"at most {money(most, price.currency)}" if most is not None else "and its price is unknown"
    return (
        f"{plan.model.name} is tuned for {_STEPS} steps on {plan.compute.name} ({plan.compute.size}, {price.words}). "
        f"It is cancelled after {most_minutes} min: {worth}. Nodes bill from their start until the cluster is idle."
    )


def run_capped(conn: Connection, plan: LaunchPlan, most_minutes: int, look_s: float = _LOOK_S) -> Result:
    """Start the run, wait for its end, and cancel it when its time is up."""
    started = start_launch(plan)
    over = time.monotonic() + 60 * most_minutes
    while not get_operation(started.id).finished and time.monotonic() < over:
        time.sleep(look_s)
    if not get_operation(started.id).finished:
        cancelling = start_cancel(conn.alias, started.subject)
        while not get_operation(cancelling.id).finished:
            time.sleep(look_s)
        return Result(RUN, "differs", f"cancelled after {most_minutes} min")
    return _try(RUN, lambda: _describe_run(conn, started.subject), conn.settings)


def _describe_run(conn: Connection, name: str) -> str:
    run = jobs.get_run(conn, name)
    points = len(read_metrics(conn, name).get("loss").points)
    if run.state != "Completed" or not points:
        raise TunedeckError(f"It ended as {run.state} with {points} points of the loss.")
    return f"Completed, {points} points of the loss"


def _try(title: str, check: Callable[[], str], settings: Settings) -> Result:
    try:
        return Result(title, "passes", redact(check(), settings))
    except TunedeckError as error:
        return Result(title, "differs", redact(f"{type(error).__name__}: {error.message}", settings))


def redact(text: str, settings: Settings) -> str:
    """Return a text without the names of a workspace and without anybody's address."""
    for name in (settings.subscription_id, settings.resource_group, settings.workspace_name, settings.tenant_id):
        text = text.replace(name, "*") if name else text
    return re.sub(r"[\w.+-]+@[\w.-]+|[0-9a-f]{8}-[0-9a-f-]{27}", "*", text)


def expect() -> dict[str, Shapes]:
    """Return what a new stand-in answers to the same checks, asked in an environment of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.azure.verify"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    ).stdout
    answered: dict[str, Shapes] = json.loads(told.splitlines()[-1])
    return answered


def write(results: list[Result], found: Mapping[str, Shapes], docs: Path = DOCS) -> None:
    """Write the table into docs/azure.md, and the recording beside it."""
    page = docs / "azure.md"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    page.write_text(_TABLE.sub(lambda kept: kept[1] + make_table(results, day), page.read_text()))
    recorded = {"day": day, "answers": found}
    (docs / "azure-recording.json").write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def make_table(results: list[Result], day: str = "") -> str:
    """Return the table of docs/azure.md. day: "" where nothing was tried."""
    rows = [f"| {each.title} | {each.state} | {each.detail.replace('|', '/')} |" for each in results]
    return "\n".join((f"Tried: {day or 'never'}", "", "| Check | Real Azure | |", "|---|---|---|", *rows, ""))


def nothing_tried() -> list[Result]:
    """Return the table's rows as they are until somebody has tried."""
    return [Result(title) for title in (*READ, RUN)]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's options; the connection has to be one on Azure."""
    parser = argparse.ArgumentParser(prog="python -m tests.azure verify", description=__doc__)
    parser.add_argument("--at", required=True, help="the connection's name, as in ?at= of the dashboard's address")
    parser.add_argument("--compute", default="", help="a cluster of the workspace for one run; without it nothing runs")
    parser.add_argument("--model", default="Phi-4")
    parser.add_argument("--most-minutes", type=int, default=MOST_MINUTES, help="after which the run is cancelled")
    parser.add_argument("--docs", type=Path, default=DOCS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    settings = find_settings(options.at)
    if settings is None or settings.kind == "local":
        parser.error(f"'{options.at}' is not a workspace on Azure. Connect it in the dashboard first.")
    options.settings = settings
    return options


def main(arguments: list[str]) -> int:
    """Run the command line; return 0 where nothing differs."""
    options = parse(arguments)
    conn = connect(options.settings, home=homes.current())
    results, found = read_all(conn)
    results[RUN] = run_if_wanted(conn, options) if options.compute else Result(RUN)
    compared = compare(results, found, expect())
    write(compared, found, options.docs)
    print(make_table(compared, "now"))
    return int(any(result.state == "differs" for result in compared))


def run_if_wanted(conn: Connection, options: argparse.Namespace) -> Result:
    """Plan the run, name its price, and start it once the workspace's name has been typed."""
    try:
        plan = plan_run(conn, options.model, options.compute)
    except TunedeckError as error:
        return Result(RUN, "differs", redact(error.message, conn.settings))
    if not plan.ready:
        return Result(RUN, "differs", redact("; ".join(check.detail for check in plan.failures), conn.settings))
    print(describe_price(plan, options.most_minutes))
    if (
        input(f"Type the workspace's name ({conn.settings.workspace_name}) to start it: ")
        != conn.settings.workspace_name
    ):
        return Result(RUN)
    runner = start_runner(homes.current())
    try:
        return run_capped(conn, plan, options.most_minutes)
    finally:
        runner.stopping.set()


def _tell_shapes() -> None:
    """Print what a stand-in with one of each thing answers."""
    import os

    from core.operations import start_deploy
    from tests import environment
    from tests.azure.stand_in import SIZE, running_stand_in
    from tests.azure.walking import walking

    environment.enter()
    with (
        tempfile.TemporaryDirectory(prefix="tunedeck-azure-") as folder,
        running_stand_in(Path(folder), module="tests.core.local.trivial_server") as azure,
    ):
        os.environ |= azure.environment
        with walking(azure) as walk:
            walk.ensure_compute()
            run = walk.finish(start_launch(walk.plan())).subject
            walk.finish(start_deploy(walk.conn.alias, run, "kettle", "kettle-1", SIZE, None))
            results, answered = read_all(Connection(walk.conn.settings, azure.home))
    failed = [result for result in results.values() if result.state != "passes"]
    assert not failed, failed
    print(json.dumps(answered))


if __name__ == "__main__":
    _tell_shapes()
