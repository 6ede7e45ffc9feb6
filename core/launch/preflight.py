"""Checks a launch before it is submitted, and estimates its time and cost."""

from __future__ import annotations

from dataclasses import replace

from core.azureml.connection import Connection
from core.catalog.base_models import BaseModel, get_base_model
from core.catalog.compute import (
    Compute,
    Size,
    Verdict,
    check_compute,
    find_quota,
    find_size,
    get_compute,
    list_quota,
    list_sizes,
)
from core.catalog.prices import cost_range
from core.dataset import ChatDataset, count_tokens_with, find_dataset, find_tokenizer
from core.errors import AccessDenied, BadInput, NotFound, TunedeckError
from core.launch.drafts import Draft
from core.launch.export import write_script
from core.launch.pipeline import get_component
from core.launch.plan import Check, CheckState, Estimate, LaunchPlan
from core.recipe import (
    MINIMUM_ROWS,
    TRAINED_SHARE,
    Recipe,
    build_recipe,
    display_name,
    total_batch_size,
    total_steps,
    trained_rows,
)
from core.runs.throughput import list_speeds

# Stated where nothing has been measured yet: tokens per second of a LoRA step. CPU: 2 cores with bf16, 135M
# parameters (facts of the local trainer); GPU: one card of the A100 class on a model of 4 billion parameters.
DEFAULT_SPEED = {"cpu": (300.0, 550.0), "gpu": (1500.0, 4000.0)}
START_S = {"cpu": (10.0, 40.0), "gpu": (300.0, 900.0)}  # queue, image, import, preprocess, converter
EVALUATION_S = {"cpu": (30.0, 80.0), "gpu": (240.0, 600.0)}
MEASURED_SPREAD = 1.3
OK, WARNING, FAILED = CheckState


def plan_launch(conn: Connection, draft: Draft) -> LaunchPlan:
    """Read what the draft names and check it all; raises NotFound or BadInput where the draft names nothing usable.

    Several requests: read it through a Reader, not from a page.
    """
    model, compute, dataset = _read_choices(conn, draft)
    sizes = list_sizes(conn)
    dataset = count_tokens_with(dataset, find_tokenizer(model.name, model.version))
    component, component_check = _read_component(conn)
    recipe = build_recipe(model.defaults, draft.parameters, component, here=conn.cloud.is_local)
    gpus, rows, nodes = compute.gpus or 0, trained_rows(dataset.rows), recipe.whole("num_nodes_finetune")
    steps = total_steps(recipe.values, rows, gpus)
    checks = [
        component_check,
        _check_model(model),
        _check_compute(check_compute(compute, model, sizes)),
        check_nodes(compute, nodes),
        _check_quota(conn, compute, find_size(sizes, compute.size), nodes),
        _check_disk(conn, model, recipe),
        _check_data(dataset),
        _check_length(dataset, recipe, model),
        _check_recipe(recipe, rows, gpus, steps),
        _check_dropped(recipe, model),
    ]
    plan = LaunchPlan(
        draft=draft,
        model=model,
        compute=compute,
        dataset=dataset,
        recipe=recipe,
        gpus=gpus,
        total_batch=total_batch_size(recipe.values, gpus),
        total_steps=steps,
        display_name=display_name(model.name, dataset.name, recipe.values, gpus),
        checks=tuple(check for check in checks if check is not None),
        estimate=estimate(conn, model, compute, dataset, recipe),
    )
    return replace(plan, script=write_script(conn.settings, plan))


def estimate(conn: Connection, model: BaseModel, compute: Compute, dataset: ChatDataset, recipe: Recipe) -> Estimate:
    """Return time and cost of a run from speeds measured before, else from stated ones."""
    kind = "gpu" if compute.gpus else "cpu"
    tokens = dataset.stats.total_length * TRAINED_SHARE * recipe.whole("num_train_epochs")
    if (steps := recipe.whole("max_steps")) > 0:
        whole = total_steps({**recipe.values, "max_steps": -1}, trained_rows(dataset.rows), compute.gpus or 0)
        tokens *= steps / max(1, whole)
    measured = list_speeds(conn.alias, model.name, compute.name)
    if measured:
        fastest, slowest = max(measured) * MEASURED_SPREAD, min(measured) / MEASURED_SPREAD
        runs = f"{len(measured)} run{'s' if len(measured) > 1 else ''}"
        basis = f"{sum(measured) / len(measured):,.0f} tokens/s measured on {runs}"
    else:
        slowest, fastest = DEFAULT_SPEED[kind]
        basis = f"assumed {slowest:,.0f} to {fastest:,.0f} tokens/s; nothing has been measured here yet"
    low = tokens / fastest + START_S[kind][0] + EVALUATION_S[kind][0]
    high = tokens / slowest + START_S[kind][1] + EVALUATION_S[kind][1]
    return Estimate(
        low, high, cost_range(compute.price, low / 60, high / 60, recipe.whole("num_nodes_finetune")), basis
    )


def _read_choices(conn: Connection, draft: Draft) -> tuple[BaseModel, Compute, ChatDataset]:
    if not draft.model:
        raise BadInput("No model is chosen yet.", "Go to Model & compute.")
    if not draft.compute:
        raise BadInput("No compute is chosen yet.", "Go to Model & compute.")
    if not draft.dataset:
        raise BadInput("No data is chosen yet.", "Go to Data.")
    dataset = find_dataset(draft.dataset)
    if dataset is None:
        raise NotFound("The data of this draft is no longer in this home.", "Choose the data again.")
    model = get_base_model(conn, draft.model, draft.model_version or "latest")
    return model, get_compute(conn, draft.compute), dataset


def _read_component(conn: Connection) -> tuple[list[str] | None, Check]:
    try:
        component = get_component(conn)
    except AccessDenied as error:
        return None, Check("Access", FAILED, error.message, error.hint)
    return list(component.inputs), Check("Access", OK, f"{component.name} {component.version} can be read")


def _check_model(model: BaseModel) -> Check | None:
    if model.retired:
        return Check(
            "Model", FAILED, f"Fine-tuning of '{model.name}' ended on {model.retired_on}.", "Pick another model."
        )
    if model.defaults_problem:
        return Check("Model", WARNING, model.defaults_problem, "The lesson's values are used instead.")
    if model.finetune.problem:
        hint = "The deny-list is used instead. Check the GPU memory yourself."
        return Check("Model", WARNING, model.finetune.problem, hint)
    return Check("Model", OK, f"{model.name} version {model.version}")


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


def _check_quota(conn: Connection, compute: Compute, size: Size | None, nodes: int) -> Check | None:
    """Cores are needed only for nodes that do not stand yet."""
    if size is None:
        return None
    try:
        quota = find_quota(list_quota(conn), size)
    except TunedeckError as error:
        return Check("Quota", WARNING, f"The quota could not be read: {error.message}", "The start may be refused.")
    missing = max(0, nodes - (compute.nodes or 0))
    if quota is None or quota.free is None or not missing:
        return Check("Quota", OK, "No limit applies" if not missing or quota is None else "Not enforced here")
    if quota.free < size.cores * missing:
        detail = f"{quota.family}: needs {size.cores * missing} cores, {quota.free} free."
        return Check("Quota", FAILED, detail, "Ask for quota, or pick another compute.")
    return Check("Quota", OK, f"{quota.family}: {quota.free} cores free")


def estimate_bytes(model: BaseModel, recipe: Recipe) -> int | None:
    """Return what a run leaves on the disk at its largest, None where the size of the weights is not known.

    The tuned model is as large as the base (bf16). A full training's best and last checkpoint hold four bytes for each
    number that learns, the last one eight more for the optimiser: eight times the weights. LoRA's are a tenth.
    """
    weights = int(model.tags.get("weights_bytes") or 0)
    if not weights:
        return None
    is_lora = str(recipe.values.get("apply_lora", "false")).lower() == "true"
    return int(weights * (1.1 if is_lora else 9))


def _check_disk(conn: Connection, model: BaseModel, recipe: Recipe) -> Check | None:
    """Refuse a run without three times its estimate free: a checkpoint is written beside the one it takes over from."""
    free, estimated = conn.find_free_bytes(), estimate_bytes(model, recipe)
    if free is None or estimated is None:
        return None
    needed = 3 * estimated
    if free < needed:
        detail = f"{free / 1e9:.1f} GB are free where the run writes; {needed / 1e9:.1f} GB are needed."
        return Check("Disk", FAILED, detail, "Free some space: `python -m core.local usage` and `prune` help.")
    return Check("Disk", OK, f"{free / 1e9:,.0f} GB free, {needed / 1e9:.1f} GB needed")


def _check_data(dataset: ChatDataset) -> Check:
    if not dataset.usable:
        return Check("Data", FAILED, dataset.train.words or "The data has errors.", "Go to Data.")
    if dataset.rows < MINIMUM_ROWS:
        return Check(
            "Data", FAILED, f"{dataset.rows} training rows; at least {MINIMUM_ROWS} are needed.", "Go to Data."
        )
    if not dataset.test_rows:
        return Check("Data", WARNING, "There are no test rows.", "The run is not evaluated at its end.")
    return Check("Data", OK, f"{dataset.rows:,} training rows, {dataset.test_rows:,} test rows")


def _check_length(dataset: ChatDataset, recipe: Recipe, model: BaseModel) -> Check | None:
    wanted = recipe.whole("max_seq_length")
    limit = min((length for length in (wanted, model.context_length or -1) if length > 0), default=-1)
    cut = dataset.stats.count_longer(limit)
    if not cut:
        return Check("Length", OK, "No row is cut")
    return Check(
        "Length",
        WARNING,
        f"{cut:,} rows are longer than {limit:,} tokens; they are cut.",
        "Raise the longest conversation, or shorten them.",
    )


def _check_recipe(recipe: Recipe, rows: int, gpus: int, steps: int) -> Check:
    if recipe.problems:
        count = len(recipe.problems)
        more = f" And {count - 1} more." if count > 1 else ""
        return Check("Settings", FAILED, next(iter(recipe.problems.values())) + more, "Change it, or reset it.")
    batch = total_batch_size(recipe.values, gpus)
    if batch > rows:
        return Check(
            "Settings",
            WARNING,
            f"The total batch of {batch} is larger than the {rows} rows trained on.",
            "Each epoch is one step. Use a smaller batch.",
        )
    if steps < 10:
        return Check(
            "Settings", WARNING, f"The run takes only {steps} steps.", "More epochs or a smaller batch learn more."
        )
    return Check("Settings", OK, f"{steps:,} steps of {batch}")


def _check_dropped(recipe: Recipe, model: BaseModel) -> Check | None:
    if not recipe.dropped:
        return None
    place = "this machine" if recipe.here else "the component"
    detail = f"Not sent, for {place} does not take them: {', '.join(recipe.dropped)}."
    return Check("Model's defaults", OK, detail, f"They come from the tags of {model.name}.")
