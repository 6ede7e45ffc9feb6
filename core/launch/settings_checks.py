"""Checks the settings against the data: what a run would do, where that is surely not what its operator wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from core.azureml.connection import Room
from core.dataset import ChatDataset
from core.engine.memory_estimate import ModelShape, estimate_card, estimate_gpu, estimate_peak, number_size
from core.launch.gpus import Power
from core.launch.plan import Check, CheckState, Fix
from core.launch.rows import RunRows
from core.recipe import (
    BY_NAME,
    MINIMUM_ROWS,
    USUAL_RATES,
    YOURS,
    Recipe,
    Value,
    check_together,
    check_value,
    smaller_batch,
    total_batch_size,
)
from core.words import exact, plural

OK, OPEN, WARNING, FAILED = CheckState
_FEW_STEPS = 10


def check_rows(rows: RunRows) -> Check:
    """Say how many rows train, and which are left out."""
    train, validation, test = (
        len(rows.splits[name]) + rows.answerless[name] for name in ("train", "validation", "test")
    )
    alone = f" {plural(rows.alone, 'row')} of one message alone {'is' if rows.alone == 1 else 'are'} left out."
    left_out = alone if rows.alone else ""
    if rows.conversations < MINIMUM_ROWS:
        detail = f"{plural(rows.conversations, 'conversation')} to train on; at least {MINIMUM_ROWS} are needed."
        return Check("Data", FAILED, detail + left_out, "Add conversations, or choose other data.")
    detail = f"{plural(train, 'row')} to train on, {validation:,} to validate, {test:,} to test."
    if rows.alone:
        return Check("Data", WARNING, detail + left_out, "Give them an answer, or remove them.")
    if not rows.is_tested:
        return Check("Data", WARNING, "There are no test rows.", "The run is not evaluated at its end.")
    return Check("Data", OK, detail)


def check_weights(dataset: ChatDataset, *, here: bool) -> Check | None:
    """Warn of answers that are not to be learned, where they are: Azure's component knows no weights."""
    rows = sum(finding.count for finding in dataset.findings if finding.code == "weight_zero")
    if here or not rows:
        return None
    detail = f"{plural(rows, 'row')} hold{'s' * (rows == 1)} answers with weight 0, which are learned on Azure too."
    return Check("Weights", WARNING, detail, "Remove these answers, or train on this machine.", confirm=True)


def check_length(rows: RunRows, context: int | None, *, has_tokenizer: bool = True) -> Check:
    """Say what the limit of tokens cuts away. context: tokens that the model takes, None where that is not known."""
    best = min(rows.longest, context or rows.longest)
    is_better = best > rows.limit > 0 and best >= rows.least
    fix = Fix(f"Allow {best:,} tokens", {"max_seq_length": best}) if is_better else None
    hint = "" if fix else "Shorten these rows."
    about = "" if rows.measured else "About "
    within = f" within {plural(rows.limit, 'token')}" if rows.limit > 0 else ""
    if split := rows.empty_split:
        if not rows.answerless[split]:
            detail = f"There is no conversation among the {split} rows."
            return Check("Length", FAILED, detail, "Add some, or choose other data.")
        detail = f"No answer of the {split} rows is left{within}."
        return Check("Length", FAILED if rows.measured else OPEN, detail, hint, fix)
    answerless = sum(rows.answerless.values())
    parts = []
    if answerless:
        parts.append(f"{plural(answerless, 'row')} hold{'s' * (answerless == 1)} no answer{within}: left out.")
    if more := rows.cut - answerless:
        parts.append(f"{about}{plural(more, 'row')} longer than {rows.limit:,} tokens lose{'s' * (more == 1)} the end.")
    if not rows.measured:
        said = "The tokens are not counted yet." if has_tokenizer else "The tokens cannot be counted."
        return Check("Length", OPEN, " ".join([said, *parts]), _ESTIMATED if has_tokenizer else _NO_TOKENIZER, fix)
    if parts:
        return Check("Length", WARNING, " ".join(parts), hint, fix)
    return Check("Length", OK, "No row is cut")


_ESTIMATED = "Until they are, lengths are a quarter of the characters."
_NO_TOKENIZER = "The model's tokenizer is not on this machine: lengths are a quarter of the characters."


def check_settings(recipe: Recipe, rows: RunRows, gpus: int, steps: int) -> list[Check]:
    """Return what is wrong with the settings, or one line that says what they come to."""
    if recipe.problems:
        count = len(recipe.problems)
        more = f" And {count - 1} more." if count > 1 else ""
        name, problem = next(iter(recipe.problems.items()))
        return [Check("Settings", FAILED, problem + more, "", _find_reset(recipe, name))]
    found = [
        check
        for check in (
            _check_batch(recipe, len(rows.train), gpus),
            _check_steps(steps),
            _check_warm_up(recipe, steps),
            _check_evaluation(recipe, steps),
            _check_logging(recipe, steps),
            _check_rate(recipe),
        )
        if check is not None
    ]
    return found or [Check("Settings", OK, f"{plural(steps, 'step')} of {total_batch_size(recipe.values, gpus):,}")]


def _find_reset(recipe: Recipe, name: str) -> Fix:
    """Take the operator's own value back where what lies below it is right, else set the component's default."""
    reset = Fix("Reset it", {name: None})
    if name not in recipe.values:
        return reset
    default, below = BY_NAME[name].default, recipe.without(name)
    is_wrong = check_value(BY_NAME[name], below, here=recipe.here) is not None
    if recipe.origins[name] == YOURS and not is_wrong and name not in check_together({**recipe.values, name: below}):
        return reset
    return Fix("Use the default", {name: default})


def check_memory(
    shape: ModelShape | None, room: Room | None, recipe: Recipe, rows: RunRows, *, gpus: int = 0
) -> Check | None:
    """Say whether training fits this machine's memory, or its card's: refuse what surely does not, warn of what may."""
    if shape is None or room is None or recipe.problems or not len(rows.train) or (gpus and not room.card):
        return None
    where = "its GPU" if gpus else "this machine"
    room = replace(room, memory=room.card, free_memory=room.card) if gpus else replace(room, card=0)
    padded = rows.limit if recipe["pad_to_max_length"] == "true" else 0
    longest = max(padded, int(max(rows.train.max(), rows.splits["validation"].max(initial=0))))
    weights, needed = (
        shape.parameters * number_size(recipe["precision"]),
        _estimate(shape, room, recipe.counted, longest),
    )
    if weights > room.memory:
        detail = f"The weights alone take {weights / 1e9:,.1f} GB; {where} has {room.memory / 1e9:,.1f} GB."
        return Check("Memory", FAILED, detail, "Pick a smaller model.")
    if needed <= room.free_memory:
        detail = f"{needed / 1e9:,.1f} of {room.free_memory / 1e9:,.1f} GB, an estimate"
        return Check("Memory", OK, detail)
    free = f"{room.free_memory / 1e9:,.1f} GB are free"
    detail = f"About {needed / 1e9:,.1f} GB are needed, an estimate for {where}; {free}."
    fix = _find_smaller(shape, room, recipe, longest, rows.least)
    hint = "" if fix else "Nothing smaller fits: end what else runs here, or pick a smaller model."
    return Check("Memory", WARNING, detail, hint, fix, confirm=True)


def check_gpu_memory(power: Power, recipe: Recipe, rows: RunRows) -> Check | None:
    """Say whether training fits Azure's GPUs: an estimate that warns, for DeepSpeed can move a part elsewhere.

    Only weights that all GPUs together do not hold are refused, and only where the registry states their number.
    """
    if recipe.problems or not len(rows.train):
        return None
    size = 2 if str(recipe["precision"]) == "16" else 4
    weights, memory = power.parameters * size / 2**30, power.family.gpu_gib
    if weights > memory * power.cards and power.source != "by its text":
        detail = f"The weights alone take {weights:,.0f} GiB; {power.cards_words} is all there is."
        return Check("Memory", FAILED, detail, "Pick a size with more or larger GPUs, more nodes, or a smaller model.")
    longest = int(max(rows.train.max(), rows.splits["validation"].max(initial=0)))
    needed = estimate_gpu(power.parameters, recipe.counted, longest, power.cards) / 2**30
    detail = f"About {needed:,.0f} GiB on each GPU, an estimate from {power.words}"
    if needed <= memory:
        return Check("Memory", OK, detail)
    offloads = recipe["apply_deepspeed"] == "true"
    help_ = "DeepSpeed may move a part to the node's memory" if offloads else "DeepSpeed shares it among GPUs"
    less = "" if recipe.lora else "LoRA, "
    return Check("Memory", WARNING, f"{detail}.", f"{help_}; {less}a smaller batch or shorter rows need less.")


def _estimate(shape: ModelShape, room: Room, values: Mapping[str, Value], longest: int) -> int:
    if room.card:
        return estimate_card(shape, values, longest)
    return estimate_peak(shape, values, longest, number_size(values["precision"]), room.free_memory)


def _find_smaller(shape: ModelShape, room: Room, recipe: Recipe, longest: int, least: int) -> Fix | None:
    """Return the least change that fits: a smaller batch with accumulation, LoRA, shorter rows, or several of them.

    least: tokens that are needed so that there are rows to train on.
    """
    settings: dict[str, Value] = {}
    lora: dict[str, Value] = {} if recipe.lora else {"apply_lora": "true"}
    for base in ({}, lora):
        for length in (longest, *(each for each in (1024, 512, 256) if each >= least)):
            settings = dict(base) | ({"max_seq_length": length} if length < longest else {})
            values = {**recipe.counted, **settings}
            while True:
                if _estimate(shape, room, values, min(length, longest)) <= room.free_memory:
                    return Fix(_describe_settings(settings), settings)
                smaller = smaller_batch(values)
                if not smaller:
                    break
                settings, values = settings | smaller, {**values, **smaller}
    return None


def _describe_settings(settings: Mapping[str, Value]) -> str:
    words = {
        "apply_lora": "LoRA",
        "per_device_train_batch_size": f"batch {settings.get('per_device_train_batch_size')}",
        "gradient_accumulation_steps": f"accumulation {settings.get('gradient_accumulation_steps')}",
        "max_seq_length": f"{settings.get('max_seq_length')} tokens",
    }
    return "Use " + ", ".join(words[name] for name in settings)


def _check_batch(recipe: Recipe, rows: int, gpus: int) -> Check | None:
    batch, devices = total_batch_size(recipe.values, gpus), max(1, gpus) * recipe.whole("num_nodes_finetune")
    if batch <= rows or not rows:
        return None
    smaller = max(1, min(recipe.whole("per_device_train_batch_size"), rows // devices // 8))
    mended: dict[str, Value] = {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": 1}
    fix = Fix(f"Batch {smaller}", mended) if devices <= rows else None
    detail = f"The total batch of {batch:,} is larger than the {plural(rows, 'row')} trained on: an epoch is one step."
    return Check("Batch", WARNING, detail, "", fix)


def _check_steps(steps: int) -> Check | None:
    if steps >= _FEW_STEPS:
        return None
    return Check(
        "Steps", WARNING, f"The run takes only {plural(steps, 'step')}.", "More epochs or a smaller batch help."
    )


def _check_warm_up(recipe: Recipe, steps: int) -> Check | None:
    wanted, constant = recipe.whole("warmup_steps"), recipe["lr_scheduler_type"] == "constant"
    if wanted < steps or constant or not wanted:
        return None
    fix = Fix(f"Warm up for {steps // 20}" if steps >= 20 else "No warm-up", {"warmup_steps": steps // 20})
    detail = f"The warm-up of {plural(wanted, 'step')} is not over when the run ends after {steps:,}."
    return Check("Warm-up", WARNING, detail, "The learning rate never gets to its value.", fix)


def _check_evaluation(recipe: Recipe, steps: int) -> Check | None:
    by_steps = recipe["evaluation_strategy"] == "steps" and not recipe["evaluation_steps_interval"]
    if not by_steps or recipe.whole("eval_steps") <= steps:
        return None
    detail = (
        f"The run ends after {plural(steps, 'step')}, before its first evaluation at {recipe.whole('eval_steps'):,}."
    )
    hint = "Nothing is measured on other rows, no checkpoint is kept, and it cannot stop early."
    if recipe.here:
        hint = "Other rows are measured only once, at its end, and it cannot stop early."
    return Check("Evaluation", WARNING, detail, hint, Fix("Evaluate each epoch", {"evaluation_strategy": "epoch"}))


def _check_logging(recipe: Recipe, steps: int) -> Check | None:
    if recipe["logging_strategy"] != "steps" or recipe.whole("logging_steps") <= max(1, steps // 3):
        return None
    often = max(1, steps // 20)
    detail = f"The loss is written every {plural(recipe.whole('logging_steps'), 'step')} of {steps:,}: it is no curve."
    return Check("Logging", WARNING, detail, "", Fix(f"Log every {often}", {"logging_steps": often}))


def _check_rate(recipe: Recipe) -> Check | None:
    """LoRA's updates count alpha / rank times; what matters is their product."""
    rate = recipe["learning_rate"]
    low, high = USUAL_RATES[recipe.lora]
    scale = max(1.0, recipe.whole("lora_alpha") / recipe.whole("lora_r") / _USUAL_SCALE) if recipe.lora else 1.0
    if isinstance(rate, str) or low <= rate * scale <= high:
        return None
    method = "LoRA" if recipe.lora else "Full fine-tuning"
    detail = f"{method} learns with {exact(low)} to {exact(high)}; this is {exact(rate)}"
    detail += f", and alpha makes it {scale:,.0f} times as much." if scale > 1 else "."
    fix = Fix(f"Use {exact(float(recipe.usual_rate))}", {"learning_rate": recipe.usual_rate})
    alpha = _USUAL_SCALE * recipe.whole("lora_r")
    if low <= rate <= high:
        fix = Fix(f"Use alpha {alpha:,}", {"lora_alpha": alpha})
    elif isinstance(recipe.usual_rate, float) and recipe.usual_rate * scale > high:
        fix = Fix(f"{fix.label} and alpha {alpha:,}", {**fix.settings, "lora_alpha": alpha})
    return Check("Learning rate", WARNING, detail, "It may learn nothing, or diverge.", fix, confirm=True)


_USUAL_SCALE = 16  # alpha 128 of rank 8, the component's own
