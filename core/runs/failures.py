"""Why a run failed: what its error and its log say, as cause, evidence and the next thing to do. One table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.recipe import BY_NAME, USUAL_RATES, Value, smaller_batch

DIVERGED = "the loss is no longer a number"

Rate = Callable[[], float]


@dataclass(frozen=True)
class RunError:
    """Why a run or a stage failed: the cause, the line it was read from, and what to do next.

    settings: parameters that the next attempt may use ("Retry with batch 2, accumulation 2"); empty when none is known.
    """

    cause: str
    evidence: str = ""
    action: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)
    stage: str = ""


@dataclass(frozen=True)
class _Rule:
    """settings: the next attempt's, from a run's parameters and the usual rate. on_azure: advice for there alone."""

    pattern: re.Pattern[str]
    cause: str
    action: str
    settings: Callable[[Mapping[str, Value], Rate], dict[str, Value]] = lambda _values, _usual: {}
    on_azure: str = ""


def _rule(pattern: str, cause: str, action: str, **more: Any) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), cause, action, **more)


def lesson_rate() -> float:
    """Return the lesson's learning rate."""
    return float(BY_NAME["learning_rate"].lesson or 0)


def _lower_rate(values: Mapping[str, Value], usual: Rate) -> dict[str, Value]:
    quarter = float(values.get("learning_rate", BY_NAME["learning_rate"].default)) / 4
    _, highest = USUAL_RATES[values.get("apply_lora") == "true"]
    return {"learning_rate": quarter if quarter <= highest else usual()}


# Sources: error strings of azureml-acft (finetune.py, error_strings.py), torch, the operating system.
_RULES = (
    _rule(
        r"out of memory|not enough gpu memory|\boom\b|exit (code|status)[ :]*137|MemoryError|signal 9|SIGKILL",
        "out of memory",
        "Retry with a smaller batch and more accumulation.",
        settings=lambda values, _usual: smaller_batch(values),
    ),
    _rule(r"no space left on device|disk quota exceeded", "the disk is full", "Free space, then start again."),
    _rule(
        r"no assistant tokens found",
        "no assistant text was left after cutting the rows",
        "Raise the longest conversation (max_seq_length).",
    ),
    _rule(
        r"fewer than 10 samples|found no examples",
        "there are too few usable training rows",
        "Add rows: at least 10 are needed.",
    ),
    _rule(
        r"(chat template|tokenizer).*(does not come to an end|of memory|without an end|cannot be (read|used))",
        "the model's chat template or tokenizer cannot be used",
        "Choose another model, or mend the files in its folder.",
    ),
    _rule(
        r"chat template", "the model's chat template refused a conversation", "Check the order of roles in the data."
    ),
    _rule(r"is higher than gpus present", "more GPUs were asked for than the node has", "Pick the compute again."),
    _rule(
        r"loss (is|was|became) nan|nan loss|not a finite loss|diverge",
        DIVERGED,
        "Retry with a lower learning rate.",
        settings=_lower_rate,
    ),
    _rule(
        r"OutOfCapacity|AllocationFailed|no machine of the size",
        "there is no free machine for the compute",
        "Start again in some minutes, or pick a compute of another size.",
    ),
    _rule(
        r"ImageBuildFailure|image .*could not be built",
        "the image of the run could not be built",
        "Start again. If it stays so, rebuild the environment.",
        on_azure=" If the registry refuses, run `az ml workspace sync-keys`.",
    ),
    _rule(r"preempted", "its node was taken away", "Start again, or pick a compute that is not of low priority."),
    _rule(r"not enough quota|quota", "there is no quota for the compute", "Ask for quota, or pick another compute."),
    _rule(
        r"authenticat|authoriz|permission|AccessDenied|(http|status|code|error)\W*403|403\W*(client error|forbidden)",
        "the run may not read what it needs",
        "Check the roles of the workspace's identity on its storage.",
    ),
)
_NOISE = re.compile(r"^\s*(File \"|Traceback|at |\^+|During handling)")


def explain(
    message: str,
    log_tail: str,
    values: Mapping[str, Value],
    stage: str = "",
    step: int | None = None,
    *,
    on_azure: bool = False,
    usual_rate: Rate = lesson_rate,
) -> RunError:
    """Return why a stage failed. message: the service's own; log_tail: the end of its log; values: its parameters.

    usual_rate: called for the learning rate to advise where a quarter of the run's own is still absurd.
    """
    lines = [line.strip() for line in log_tail.splitlines() if line.strip() and not _NOISE.match(line)]
    for text in (message, "\n".join(lines[-60:])):
        for rule in _RULES:
            if not rule.pattern.search(text):
                continue
            evidence = next((line for line in reversed(text.splitlines()) if rule.pattern.search(line)), text)
            settings = rule.settings(values, usual_rate)
            return RunError(
                _cause(rule.cause, values, step),
                evidence.strip()[:400],
                _action(rule.action + rule.on_azure * on_azure, settings),
                settings,
                stage,
            )
    first = (
        message.strip().splitlines()[0] if message.strip() else (lines[-1] if lines else "The service gave no reason")
    )
    evidence = lines[-1][:400] if lines else ""
    return RunError(
        f"The run stopped: {first.rstrip('.')[:400]}.",
        "" if evidence == first else evidence,
        "Read the log of this stage.",
        {},
        stage,
    )


def _cause(cause: str, values: Mapping[str, Value], step: int | None) -> str:
    where = f" at step {step}" if step else ""
    if cause != "out of memory":
        return f"The run stopped{where}: {cause}."
    length = values.get("max_seq_length", -1)
    tokens = f", {length} tokens" if isinstance(length, int) and length > 0 else ""
    return f"The run stopped: out of memory{where} (batch {values.get('per_device_train_batch_size', 1)}{tokens})."


def _action(action: str, settings: Mapping[str, Value]) -> str:
    if "gradient_accumulation_steps" in settings:
        batch, accumulation = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
        return f"Retry with batch {batch} and accumulation {accumulation}: same total batch."
    if "learning_rate" in settings:
        return f"Retry with learning rate {float(settings['learning_rate']):g}."
    return action
