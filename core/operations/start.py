"""How a page begins an operation: names are chosen here, and recorded before anything is sent."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections.abc import Mapping
from datetime import datetime

from core.azureml import tags
from core.errors import BadInput, Conflict
from core.launch.drafts import mark_launched
from core.launch.plan import LaunchPlan
from core.operations import kinds
from core.operations.ledger import DOUBLE_CLICK_S, Ledger, Operation
from core.operations.records import FAILED
from core.operations.work import words
from core.recipe import Value, to_job_inputs
from core.runs.jobs import EXPERIMENT_PREFIX
from core.runs.titles import new_run_name, new_title
from core.serving.endpoints import DEPLOYMENT_NAME, require_endpoint_name
from core.serving.registered_models import require_model_name
from core.teardown.plan import TeardownPlan


def start_launch(plan: LaunchPlan, title: str = "") -> Operation:
    """Record a run; `subject` is its job name, so the page can go to /runs?run=<subject> at once.

    The name is made of the draft as it stands, the recipe and the data. So a second click on the same draft gives the
    same operation, and one after the ledger lost its last lines finds the job that was sent. Raises BadInput while a
    check fails.
    """
    failed = next((check for check in plan.checks if check.state == "failed"), None)
    if failed:
        raise BadInput(f"{failed.title}: {failed.detail}", failed.hint)
    parameters = to_job_inputs(plan.recipe)
    seed = _digest(plan, parameters)
    title = title or new_title(seed)
    told = {
        tags.DRAFT: plan.draft.id,
        tags.MODEL: plan.model.name,
        tags.MODEL_VERSION: plan.model.version,
        tags.MODEL_ID: plan.model.id,
        tags.DATASET: plan.dataset.name,
        tags.DATASET_KEY: plan.dataset.key,
        tags.ROWS: str(plan.dataset.rows),
        tags.COMPUTE: plan.compute.name,
        tags.GPUS: str(plan.gpus),
        tags.RECIPE: tags.format_recipe(parameters),
        tags.MADE_BY: tags.made_by(),
    }
    arguments = {
        "title": title,
        "display_name": plan.display_name,
        "experiment": f"{EXPERIMENT_PREFIX}{plan.model.name.replace('/', '-')}",
        "model": plan.model.name,
        "model_version": plan.model.version,
        "model_id": plan.model.id,
        "compute": plan.compute.name,
        "gpus": plan.gpus,
        "dataset": plan.dataset.name,
        "dataset_key": plan.dataset.key,
        "parameters": parameters,
        "tags": told,
    }
    operation = Ledger().start(
        "launch",
        plan.draft.connection,
        new_run_name(title, seed),
        words(kinds.STEPS["launch"]),
        arguments,
        f"launch:{plan.draft.id}:{plan.draft.revision}",
        math.inf,
    )
    mark_launched(plan.draft.id, operation.id, plan.draft.revision)
    return operation


def _digest(plan: LaunchPlan, parameters: Mapping[str, Value]) -> str:
    draft = plan.draft
    told = [draft.id, draft.nonce, draft.revision, plan.model.id, plan.compute.name, plan.gpus, plan.dataset.key]
    return hashlib.sha256(json.dumps([told, dict(parameters)], sort_keys=True).encode()).hexdigest()


def start_deploy(
    connection: str,
    run: str,
    model_name: str,
    endpoint: str,
    size: str,
    delete_at: datetime | None,
    model_version: str = "",
    instances: int = 1,
) -> Operation:
    """Record a deploy: register, endpoint, deployment, traffic, smoke prompt. `subject` is the endpoint's name.

    model_version: an existing version is deployed as it is; empty makes one. Raises BadInput for a name Azure refuses.
    """
    require_endpoint_name(endpoint)
    require_model_name(model_name)
    arguments = {
        "run": run,
        "model_name": model_name,
        "model_version": model_version or str(int(time.time())),
        "size": size,
        "instances": instances,
        "delete_at": tags.format_time(delete_at) if delete_at else "",
    }
    key = f"deploy:{endpoint}:{run}:{model_name}:{model_version}:{size}"
    return Ledger().start("deploy", connection, endpoint, words(kinds.STEPS["deploy"]), arguments, key, DOUBLE_CLICK_S)


def start_create_compute(
    connection: str,
    name: str,
    size: str,
    min_nodes: int = 0,
    max_nodes: int = 1,
    idle_s: int = 900,
    delete_at: datetime | None = None,
) -> Operation:
    """Record a new cluster. `subject` is its name."""
    if not 3 <= len(name) <= 24 or not name[0].isalpha() or not all(c.isalnum() or c == "-" for c in name):
        raise BadInput(f"'{name}' cannot be a compute's name.", "3 to 24 letters, digits, hyphens; letter first.")
    if not 0 <= min_nodes <= max_nodes or max_nodes < 1:
        raise BadInput(f"{min_nodes} to {max_nodes} nodes is not a range.", "Use 0 to 1 for one run at a time.")
    arguments = {
        "size": size,
        "min_nodes": min_nodes,
        "max_nodes": max_nodes,
        "idle_s": idle_s,
        "delete_at": tags.format_time(delete_at) if delete_at else "",
    }
    return Ledger().start("create_compute", connection, name, words(kinds.STEPS["create_compute"]), arguments)


def start_cancel(connection: str, run: str) -> Operation:
    """Record the wish to cancel a run (and its launch, where that still goes on). `subject` is the run."""
    return Ledger().start("cancel", connection, run, words(kinds.STEPS["cancel"]), {})


def start_set_traffic(connection: str, endpoint: str, traffic: Mapping[str, int] | None = None) -> Operation:
    """Record new traffic for an endpoint; without `traffic`, all of it goes to "demo"."""
    wanted = dict(traffic or {DEPLOYMENT_NAME: 100})
    if sum(wanted.values()) not in (0, 100):
        raise BadInput(f"The shares add up to {sum(wanted.values())} %.", "They must add up to 100 %, or to 0.")
    key = f"traffic:{endpoint}:{sorted(wanted.items())}"
    return Ledger().start("traffic", connection, endpoint, words(kinds.STEPS["traffic"]), {"traffic": wanted}, key)


def start_set_delete_at(connection: str, kind: str, name: str, delete_at: datetime | None) -> Operation:
    """Record a new time to live of an "endpoint" or "compute"; None means it stays."""
    arguments = {"kind": kind, "delete_at": tags.format_time(delete_at) if delete_at else ""}
    key = f"delete_at:{kind}:{name}:{arguments['delete_at']}"
    return Ledger().start("delete_at", connection, name, words(kinds.STEPS["delete_at"]), arguments, key)


def start_teardown(plan: TeardownPlan, typed: str = "") -> Operation:
    """Record a teardown. typed: what the operator typed; raises BadInput (nothing is deleted) unless it is the plan's
    `confirm`. The receipt's id is in `operation.facts["receipt"]` when it is done.
    """
    if plan.confirm and typed.strip() != plan.confirm:
        raise BadInput("The name does not match. Nothing was deleted.", f"Type {plan.confirm}.")
    if not plan.actions:
        raise Conflict("Nothing was chosen.", "Tick what is to be deleted.")
    items = [
        {
            "key": action.item.key,
            "kind": action.item.kind,
            "name": action.item.name,
            "version": action.item.version,
            "what": action.what,
            "files": action.deletes_files,
        }
        for action in plan.actions
    ]
    keys = [str(item["key"]) for item in items]
    verbs = {action.item.key: action.title for action in plan.actions}
    subject = plan.actions[0].item.name if len(items) == 1 else f"{len(items)} resources"
    return Ledger().start(
        "teardown",
        plan.connection,
        subject,
        kinds.list_remove_steps(keys, verbs),
        {"items": items, "per_hour": plan.per_hour_before, "currency": plan.currency},
        f"teardown:{','.join(sorted(keys))}",
    )


def retry_operation(operation_id: str) -> Operation:
    """Take up a failed operation at the step that failed; done steps stay done.

    Where what it had made was deleted since, a new operation makes it anew: nobody else's retry does that.
    """
    ledger = Ledger()
    operation = ledger.get(operation_id)
    if operation.state != FAILED or not operation.facts.get("vanished"):
        return ledger.retry(operation_id)
    subject, arguments = operation.subject, dict(operation.arguments)
    if operation.kind == "launch":
        subject = new_run_name(arguments["title"], secrets.token_hex(4))
    return ledger.start(operation.kind, operation.connection, subject, words(kinds.STEPS[operation.kind]), arguments)
