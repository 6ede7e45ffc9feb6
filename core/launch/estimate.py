"""How long a run takes and what it costs: from what earlier runs measured, else from stated speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core.catalog.compute import Compute
from core.catalog.prices import add_costs, cost_range
from core.launch.gpus import Power
from core.launch.plan import Estimate, EstimateLine
from core.launch.rows import RunRows
from core.recipe import Recipe
from core.runs.throughput import Pace, list_paces
from core.words import percent, plural

# Stated where nothing has been measured yet: tokens per second of a LoRA step on rows of 100 tokens. CPU: 2 cores with
# bf16, 135M parameters (measured on the local trainer); GPU: a card of the A100 class on 4 billion parameters.
_STATED = {"cpu": (300.0, 550.0), "gpu": (1500.0, 4000.0)}
_STATED_ROW = 100.0
_BEFORE_AND_AFTER_S = {"cpu": (10.0, 40.0), "gpu": (300.0, 900.0)}  # queue, image, import, preprocess, converter
_EVALUATION_S = {"cpu": (30.0, 80.0), "gpu": (240.0, 600.0)}
_NODE_START_S = (120.0, 600.0)  # from asking for a node to the first step on it: it bills from then on
_SPREAD = 1.3
_OTHERS_SPREAD = 1.6
# A long row costs more per token: attention looks further, and activations are computed twice. Measured on the local
# trainer: 596 tokens/s on rows of 60 tokens, 210 on rows of 1,100. On Azure's GPUs it is assumed.
_HALF_SPEED_AT = 506.0
_FULL_COSTS = 1.44  # floating-point operations of full fine-tuning against LoRA's, for each token
_VALIDATION_COSTS = 1 / 3  # a forward pass alone, for each token


@dataclass(frozen=True)
class Work:
    """What a run has to go through."""

    tokens: float
    """Tokens trained on, padding and further epochs included."""
    validated: float
    """Tokens of all validations."""
    row: float
    """Tokens of the middle row, each token counted alike."""

    @property
    def cost(self) -> float:
        """Tokens, those of a validation for as much as they take."""
        return self.tokens + self.validated * _VALIDATION_COSTS


def measure_work(recipe: Recipe, rows: RunRows, steps: int, steps_per_epoch: int) -> Work:
    """Return what a run of so many steps goes through."""
    padded = rows.limit if recipe.counted["pad_to_max_length"] == "true" and rows.limit > 0 else 0
    epochs = steps / max(1, steps_per_epoch)
    train = float(rows.train.clip(min=padded).sum())
    validation = float(rows.splits["validation"].clip(min=padded).sum())
    row = float((rows.train.clip(min=padded) ** 2).sum()) / train if train else 1.0
    return Work(train * epochs, validation * _count_validations(recipe, steps, steps_per_epoch), row)


def _count_validations(recipe: Recipe, steps: int, steps_per_epoch: int) -> int:
    strategy, share = recipe.counted["evaluation_strategy"], recipe.counted["evaluation_steps_interval"]
    if strategy == "disable":
        return 0
    if strategy == "epoch":
        return math.ceil(steps / max(1, steps_per_epoch))
    every = max(1, int(steps_per_epoch * share)) if isinstance(share, float) and share else recipe.whole("eval_steps")
    return math.ceil(steps / every) if recipe.here else steps // every  # this machine measures after the last step, too


def estimate(
    alias: str, model: str, compute: Compute, recipe: Recipe, work: Work, *, is_tested: bool, power: Power | None = None
) -> Estimate:
    """Return time and cost of a run, its evaluation included. The time is without the wait for a node, the cost is not.

    power: the model on its GPUs, None on this machine and where they are not known.
    """
    kind = "gpu" if compute.gpus else "cpu"
    paces = list_paces(alias, model, compute.name)
    if power is not None:
        slow, fast, basis = _find_gpu_speed(alias, power, recipe, work, paces)
    else:
        slow, fast, basis = _find_speed(kind, recipe, work, paces)
    around = _range([pace.around_s for pace in paces], _BEFORE_AND_AFTER_S[kind])
    tested = _range([pace.evaluation_s for pace in paces], _EVALUATION_S[kind]) if is_tested else (0.0, 0.0)
    training = work.cost / fast, work.cost / slow
    low, high = (sum(part) for part in zip(training, around, tested, strict=True))
    nodes = recipe.whole("num_nodes_finetune")
    cost, lines = cost_range(compute.price, low / 60, high / 60, nodes), tuple[EstimateLine, ...]()
    if not recipe.here:
        lines = _list_lines(compute, nodes, training, around, tested)
        cost = add_costs([line.cost for line in lines])
    peak = power.find_peak(recipe) if power else None
    return Estimate(low, high, cost, basis, _describe_record(paces), lines, peak)


def _list_lines(
    compute: Compute,
    nodes: int,
    training: tuple[float, float],
    around: tuple[float, float],
    tested: tuple[float, float],
) -> tuple[EstimateLine, ...]:
    """Return what bills: only training takes all nodes, but all of them have to start, and stay for a while."""
    start = max(0, nodes - (compute.nodes or 0))
    idle, idle_s = max(0, nodes - compute.min_nodes), float(compute.idle_s or 0)
    parts = (
        ("Start of the node" if start == 1 else "Start of the nodes", _NODE_START_S, start),
        ("Steps before and after training", around, 1),
        ("Training", training, nodes),
        ("Evaluation", tested, 1),
        ("Idle until the cluster scales down", (idle_s, idle_s), idle),
    )
    return tuple(
        EstimateLine(title, *seconds, cost_range(compute.price, seconds[0] / 60, seconds[1] / 60, count), count)
        for title, seconds, count in parts
        if count and seconds[1]
    )


def _find_gpu_speed(
    alias: str, power: Power, recipe: Recipe, work: Work, paces: list[Pace]
) -> tuple[float, float, str]:
    """Return the slowest and fastest tokens per second to reckon with on Azure's GPUs, and what they stand on.

    Measured speeds count as shares of the GPUs' whole speed, so that other nodes, methods and models learn from them.
    """
    peak, own = power.find_peak(recipe), [pace for pace in paces if pace.peak]
    measured = own or [pace for pace in list_paces(alias) if pace.peak]
    if not measured:
        low, high = power.find_usual(recipe)
        return low, high, f"assumed {low:,.0f} to {high:,.0f} tokens/s, from {power.words}; not measured"
    near = sorted(measured, key=lambda pace: (pace.lora != recipe.lora, abs(math.log(pace.row / work.row))))[:3]
    speeds = [peak * pace.tokens_per_s / (pace.peak or peak) for pace in near]
    spread = (_SPREAD if own else _OTHERS_SPREAD) * min(_doubt(pace.row, work.row) for pace in near)
    runs = plural(len(near), "run")
    basis = f"{sum(speeds) / len(speeds):,.0f} tokens/s, from " + (
        f"{runs} of this model here" if own else f"{power.words}, by {runs} of other models here"
    )
    return min(speeds) / spread, max(speeds) * spread, basis


def _find_speed(kind: str, recipe: Recipe, work: Work, paces: list[Pace]) -> tuple[float, float, str]:
    """Return the slowest and fastest tokens per second to reckon with, and what they stand on."""
    method = 1.0 if recipe.lora else 1 / _FULL_COSTS
    if not paces:
        slow, fast = (speed * method * _slow_down(_STATED_ROW, work.row) for speed in _STATED[kind])
        unknown = "" if recipe.here else "the size of the model or its GPUs are not known, and "
        basis = f"assumed {slow:,.0f} to {fast:,.0f} tokens/s; {unknown}nothing has been measured here yet"
        return slow / _doubt(_STATED_ROW, work.row), fast * _doubt(_STATED_ROW, work.row), basis
    near = sorted(paces, key=lambda pace: (pace.lora != recipe.lora, abs(math.log(pace.row / work.row))))[:3]
    speeds = [
        pace.tokens_per_s
        * _slow_down(pace.row, work.row)
        * (1.0 if pace.lora == recipe.lora else method / (1.0 if pace.lora else 1 / _FULL_COSTS))
        for pace in near
    ]
    spread = _SPREAD * min(_doubt(pace.row, work.row) for pace in near)
    basis = (
        f"{sum(speeds) / len(speeds):,.0f} tokens/s on rows of {work.row:,.0f} tokens, from {plural(len(near), 'run')}"
    )
    return min(speeds) / spread, max(speeds) * spread, basis


def _slow_down(measured_row: float, row: float) -> float:
    return (measured_row + _HALF_SPEED_AT) / (row + _HALF_SPEED_AT)


def _doubt(measured_row: float, row: float) -> float:
    """Return by how much a speed is to be doubted that was measured on rows of another length."""
    return float(max(measured_row / row, row / measured_row) ** 0.125)


def _range(measured: list[float | None], stated: tuple[float, float]) -> tuple[float, float]:
    known = [seconds for seconds in measured if seconds is not None]
    return (min(known) / _SPREAD, max(known) * _SPREAD) if known else stated


def _describe_record(paces: list[Pace]) -> str:
    """Return how good the last ten estimates were, "" where no run has ended that was told one."""
    misses = [miss for pace in paces[:10] if (miss := pace.miss) is not None]
    if not misses:
        return ""
    worst = max(misses, key=abs)
    off = f"{percent(abs(worst))} too {'short' if worst > 0 else 'long'}"
    if len(misses) == 1:
        return f"The last estimate was {off}." if worst else "The last estimate held."
    held = f"Of the last {len(misses)} estimates {sum(miss == 0 for miss in misses)} held"
    return f"{held}; the worst was {off}." if worst else f"{held}."
