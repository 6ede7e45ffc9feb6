"""Checks a launch before it is submitted: the workspace, the compute, the data and the settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.azureml.access import prove_roles
from core.azureml.connection import Connection, Room
from core.azureml.settings import Settings
from core.catalog.base_models import BaseModel, get_base_model
from core.catalog.compute import Compute, Size, Verdict, check_compute, find_size, get_compute, list_sizes
from core.catalog.quota import Quota, claim_nodes, list_quota
from core.dataset import ChatDataset, count_tokens_with, find_dataset, find_tokenizer
from core.engine.memory_estimate import ModelShape, read_shape
from core.errors import AccessDenied, BadInput, NotFound, TunedeckError
from core.launch.drafts import Draft
from core.launch.estimate import estimate, measure_work
from core.launch.export import write_script
from core.launch.gpus import find_power
from core.launch.pipeline import get_component
from core.launch.plan import Check, CheckState, Estimate, LaunchPlan
from core.launch.rows import deal_rows
from core.launch.settings_checks import (
    check_gpu_memory,
    check_length,
    check_memory,
    check_rows,
    check_settings,
    check_weights,
)
from core.recipe import Recipe, build_recipe, display_name, total_batch_size, total_steps

OK, OPEN, WARNING, FAILED = CheckState
_ROLES_KEPT_S = 60.0


@dataclass(frozen=True)
class LaunchFacts:
    """What the workspace, this machine and this home say of what a set-up names."""

    settings: Settings
    here: bool
    """Whether this machine trains."""
    model: BaseModel
    compute: Compute
    dataset: ChatDataset
    verdict: Verdict
    access: Check
    role: Check | None
    """Whether the operator's role lets runs be started, None where nobody says."""
    inputs: tuple[str, ...] | None
    """The component's, None where it may not be read."""
    size: Size | None
    quota: tuple[Quota, ...]
    """All limits of the region."""
    quota_problem: str
    """Why the quota is not known."""
    room: Room | None
    """Of this machine, None where another trains."""
    has_tokenizer: bool
    """Whether the model's tokenizer is on this machine."""
    shape: ModelShape | None
    """The model's, where its files are on this machine and it trains."""


def read_facts(conn: Connection, model: str, model_version: str, compute: str, dataset: str) -> LaunchFacts:
    """Return what a set-up stands on; raises NotFound or BadInput where it names nothing usable.

    Several requests: read it through a Reader, not from a page. A setting that changes needs none of them again.
    """
    for choice, missing in ((model, "a model"), (compute, "a compute"), (dataset, "data")):
        if not choice:
            raise BadInput(f"The draft lacks {missing}.", f"Choose {missing} first.")
    data = find_dataset(dataset)
    if data is None:
        raise NotFound("The data of this draft is no longer in this home.", "Choose the data again.")
    base, node = get_base_model(conn, model, model_version or "latest"), get_compute(conn, compute)
    folder, sizes = find_tokenizer(base.name, base.version), list_sizes(conn)
    size = find_size(sizes, node.size)
    inputs, access = _read_component(conn)
    quota, problem = _read_quota(conn)
    return LaunchFacts(
        settings=conn.settings,
        here=conn.cloud.is_local,
        model=base,
        compute=node,
        dataset=count_tokens_with(data, folder),
        verdict=check_compute(node, base, sizes),
        access=access,
        role=_check_role(conn),
        inputs=inputs,
        size=size,
        quota=quota,
        quota_problem=problem,
        room=conn.find_room(),
        has_tokenizer=folder is not None,
        shape=read_shape(folder) if folder is not None and conn.cloud.is_local else None,
    )


def make_plan(facts: LaunchFacts, draft: Draft) -> LaunchPlan:
    """Check a set-up against what it stands on. No request; some milliseconds, the more rows the more."""
    model, compute, dataset = facts.model, facts.compute, facts.dataset
    recipe = build_recipe(model.defaults, draft.parameters, facts.inputs, here=facts.here)
    gpus, nodes = compute.gpus or 0, recipe.whole("num_nodes_finetune")
    rows = deal_rows(dataset, find_limit(recipe, model), recipe.whole("seed"))
    counted = recipe.counted
    steps = total_steps(counted, len(rows.train), gpus)
    per_epoch = total_steps({**counted, "max_steps": -1, "num_train_epochs": 1}, len(rows.train), gpus)
    work = measure_work(recipe, rows, steps, per_epoch)
    power = None if facts.here else find_power(model, facts.size, nodes)
    told = estimate(facts.settings.alias, model.name, compute, recipe, work, is_tested=rows.is_tested, power=power)
    checks = [
        facts.access,
        facts.role,
        check_model(model, draft),
        check_licence(model, facts.settings.cloud.studio),
        _check_compute(facts.verdict),
        check_nodes(compute, nodes),
        _check_quota(facts, nodes),
        _check_disk(facts.room, estimate_bytes(model, recipe)),
        check_memory(facts.shape, facts.room, recipe, rows, gpus=gpus),
        check_gpu_memory(power, recipe, rows) if power else None,
        check_rows(rows) if dataset.usable else Check("Data", FAILED, dataset.words, "Correct or replace the data."),
        check_weights(dataset, here=facts.here),
        check_length(rows, model.context_length, has_tokenizer=facts.has_tokenizer),
        *check_settings(recipe, rows, gpus, steps),
        _check_dropped(recipe, model),
        _check_time(told),
    ]
    plan = LaunchPlan(
        draft=draft,
        model=model,
        compute=compute,
        dataset=dataset,
        recipe=recipe,
        gpus=gpus,
        total_batch=total_batch_size(counted, gpus),
        total_steps=steps,
        display_name=display_name(model.name, dataset.name, counted, gpus),
        rows=len(rows.train),
        row_tokens=work.row,
        work_tokens=work.cost,
        checks=tuple(check for check in checks if check is not None),
        estimate=told,
    )
    return replace(plan, script=write_script(facts.settings, plan))


def find_limit(recipe: Recipe, model: BaseModel) -> int:
    """Return after how many tokens a row is cut, -1 where nothing says."""
    limits = (recipe.whole("max_seq_length"), model.context_length or -1)
    return min((limit for limit in limits if limit > 0), default=-1)


def _check_role(conn: Connection) -> Check | None:
    if not conn.costs_money:
        return None
    try:
        lines = conn.remember("roles", lambda: prove_roles(conn), _ROLES_KEPT_S)
    except TunedeckError:
        return None  # roles that may not be read keep nobody from a start
    line = next(line for line in lines if line.title == "Start runs")
    detail = f"Starting runs is {line.detail[0].lower()}{line.detail[1:]}"
    return Check("Role", OK if line.state == "ok" else FAILED, detail, line.hint)


def _read_component(conn: Connection) -> tuple[tuple[str, ...] | None, Check]:
    try:
        component = get_component(conn)
    except AccessDenied as error:
        return None, Check("Access", FAILED, error.message, error.hint)
    return tuple(component.inputs), Check("Access", OK, f"{component.name} {component.version} can be read")


def check_model(model: BaseModel, draft: Draft) -> Check:
    """Refuse what is archived, and what has ended by its dates unless the draft says that it is wanted."""
    life = model.lifecycle
    if refusal := life.refusal(f"'{model.name}'"):
        return Check("Model", FAILED, refusal, life.way_out)
    if warning := life.warning(f"'{model.name}'"):
        if draft.retired_model != model.name:
            return Check("Model", FAILED, warning, f"{life.way_out} Or tick that it is wanted, where it was chosen.")
        return Check("Model", WARNING, warning, life.way_out)
    if model.defaults_problem:
        return Check("Model", WARNING, model.defaults_problem, "The lesson's values are used instead.")
    if model.finetune.problem:
        hint = "The deny-list is used instead. Check the GPU memory yourself."
        return Check("Model", WARNING, model.finetune.problem, hint)
    return Check("Model", OK, f"{model.name} version {model.version}")


def check_licence(model: BaseModel, studio: str) -> Check | None:
    """Say that a licence or an offer has to be accepted, which no service tells before it refuses."""
    if not (terms := model.card.terms):
        return None
    hint = "Read it, and accept it there before you start."
    return Check("Licence", WARNING, terms.words, hint, link=terms.find_url(studio))


def _check_compute(verdict: Verdict) -> Check:
    compute = verdict.compute
    if not verdict.eligible:
        return Check("Compute", FAILED, verdict.reason, verdict.fix)
    gpus = f"{compute.gpus or 'no'} GPU{'s' if compute.gpus != 1 else ''}"
    return Check("Compute", OK, f"{compute.name}, {compute.size}, {gpus}")


def check_nodes(compute: Compute, wanted: int) -> Check | None:
    """Say whether a cluster can ever give the nodes a run wants: one that cannot lets it queue for good."""
    if wanted <= compute.max_nodes:
        return None
    most = f"{compute.max_nodes} node{'s' if compute.max_nodes != 1 else ''}"
    detail = f"The run wants {wanted} nodes; {compute.name} has at most {most}."
    return Check("Nodes", FAILED, detail, "Use fewer nodes, or a cluster that can have as many.")


def _read_quota(conn: Connection) -> tuple[tuple[Quota, ...], str]:
    try:
        return tuple(list_quota(conn)), ""
    except TunedeckError as error:
        return (), error.message


def _check_quota(facts: LaunchFacts, nodes: int) -> Check | None:
    """Cores are needed only for nodes that do not stand yet."""
    size = facts.size
    if size is None:
        return None
    if facts.quota_problem:
        return Check(
            "Quota", WARNING, f"The quota could not be read: {facts.quota_problem}", "The start may be refused."
        )
    missing = max(0, nodes - (facts.compute.nodes or 0))
    claim = claim_nodes(facts.quota, size, missing, low_priority=facts.compute.low_priority)
    if not missing:
        return Check("Quota", OK, "Its nodes stand already")
    if claim.fits is None:
        return Check("Quota", WARNING, claim.words, "The nodes may never come. Ask for quota first.")
    if not claim.fits:
        return Check("Quota", FAILED, claim.words, "Ask for quota, or pick another compute.")
    return Check("Quota", OK, claim.words)


def estimate_bytes(model: BaseModel, recipe: Recipe) -> int | None:
    """Return what a run leaves on the disk at its largest, None where the size of the weights is not known.

    The tuned model is as large as the base (bf16). A full training's best and last checkpoint hold four bytes for each
    number that learns, the last one eight more for the optimiser: eight times the weights. LoRA's are a tenth.
    """
    weights = model.card.weights_bytes
    return int(weights * (1.1 if recipe.lora else 9)) if weights else None


def _check_disk(room: Room | None, estimated: int | None) -> Check | None:
    """Refuse a run without three times its estimate free: a checkpoint is written beside the one it takes over from."""
    if room is None or estimated is None:
        return None
    free, needed = room.disk, 3 * estimated
    if free < needed:
        detail = f"{free / 1e9:.1f} GB are free where the run writes; {needed / 1e9:.1f} GB are needed."
        return Check("Disk", FAILED, detail, "Free some space: `python -m core.local usage` and `prune` help.")
    return Check("Disk", OK, f"{free / 1e9:,.0f} GB free, {needed / 1e9:.1f} GB needed")


def _check_time(told: Estimate) -> Check | None:
    if not told.is_long:
        return None
    return Check("Time", WARNING, f"The run takes {told.time_words}.", "Try a part first: it ends in about 10 min.")


def _check_dropped(recipe: Recipe, model: BaseModel) -> Check | None:
    if not recipe.dropped:
        return None
    place = "this machine" if recipe.here else "the component"
    detail = f"Not sent, for {place} does not take them: {', '.join(recipe.dropped)}."
    return Check("Model's defaults", OK, detail, f"They come from the tags of {model.name}.")
