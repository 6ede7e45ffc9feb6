"""The training parameters: one table of what each takes, here and on Azure; where each value came from; what is sent.

The form, the checks before a launch, the local workspace's component and the trainer read this table and no other. It
is nowhere looser than Azure's component and the trainer. What this machine alone does not do is marked `not_here`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

from core.errors import BadInput
from core.words import exact

Value = str | int | float

MINIMUM_ROWS = 10  # of training: the pipeline refuses fewer
# Learning rates that a method is known to learn with, lowest and highest; by whether LoRA is on. From runs of the local
# trainer and published recipes: full fine-tuning diverges where LoRA still learns.
USUAL_RATES = {True: (1e-6, 1e-2), False: (1e-7, 1e-3)}
COMPONENT, LESSON, MODEL, YOURS = "component", "lesson", "model", "yours"


@dataclass(frozen=True)
class Parameter:
    """One row of the table.

    kind: "int", "number", "choice", "bool" or "size" (of memory). A bool's values are the strings "true" and "false",
    as the component wants them. default is the component's own (chat_completion_pipeline 0.0.82); lesson is the
    lesson's value where it sets one. A number takes `minimum` to `maximum`, both included, more than `above`, less than
    `below`; `unlimited` is the one value beside these that stands for no limit; `unlimited_as` says that in words.
    not_here: why this machine takes only the default. idle_here: why it takes every value and does the same with each.
    """

    name: str
    label: str
    help: str
    kind: str
    group: str
    default: Value
    basic: bool = False
    lesson: Value | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None
    unlimited: int | None = None
    unlimited_as: str = ""
    unit: str = ""
    not_here: str = ""
    idle_here: str = ""


BOOLEAN = ("true", "false")
LARGEST = 2**31 - 1  # of a whole number that nothing else limits
# What Python reads beyond that ("1_000", "٣", "inf") is no number on the wire.
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_SIZE = re.compile(r"[1-9][0-9]{0,5}[kmg]")


def _bool(name: str, label: str, help: str, group: str, default: str = "false", **more: object) -> Parameter:
    return Parameter(name, label, help, "bool", group, default, choices=BOOLEAN, **more)  # type: ignore[arg-type]


# fmt: off
PARAMETERS: tuple[Parameter, ...] = (
    Parameter("num_train_epochs", "Epochs", "How many times the run goes through the training rows.", "int",
              "Training", 1, basic=True, lesson=3, minimum=1),
    Parameter("learning_rate", "Learning rate", "Size of each update. LoRA stands about ten times more than full "
              "fine-tuning.", "number", "Training", 2e-5, basic=True, lesson=5e-6, above=0.0, maximum=1.0),
    Parameter("lr_scheduler_type", "Schedule", "How the learning rate changes after the warm-up.", "choice", "Training",
              "linear", basic=True, lesson="cosine",
              choices=("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")),
    Parameter("warmup_steps", "Warm-up", "Steps in which the learning rate rises from 0.", "int", "Training", 0,
              minimum=0, unit="steps"),
    Parameter("max_steps", "Maximum steps", "Ends the run after this many steps; -1 goes by epochs.", "int", "Training",
              -1, minimum=1, unlimited=-1, unlimited_as="by epochs", unit="steps"),
    Parameter("seed", "Seed", "The same seed on the same machine gives the same order of rows.", "int", "Training", 42,
              minimum=0, maximum=2**32 - 1),
    _bool("enable_full_determinism", "Full determinism", "Slower, and repeatable to the bit where the hardware allows.",
          "Training"),
    Parameter("per_device_train_batch_size", "Batch size", "Conversations in one step on each device.", "int", "Batch",
              1, basic=True, lesson=1, minimum=1),
    Parameter("per_device_eval_batch_size", "Evaluation batch size", "Conversations measured at once on each device.",
              "int", "Batch", 1, lesson=1, minimum=1),
    Parameter("gradient_accumulation_steps", "Accumulation", "Batches added up before one update: a larger total batch "
              "in the same memory.", "int", "Batch", 1, basic=True, minimum=1),
    Parameter("eval_accumulation_steps", "Evaluation accumulation", "Evaluation steps kept on the device; -1 keeps "
              "all.", "int", "Batch", -1, minimum=1, unlimited=-1, unlimited_as="all",
              idle_here="evaluation adds up a loss and keeps no predictions"),
    _bool("auto_find_batch_size", "Find the batch size", "Halves the batch when memory runs out. Not with DeepSpeed.",
          "Batch"),
    Parameter("max_seq_length", "Longest conversation", "Rows are cut after this many tokens; -1 is the model's own "
              "limit.", "int", "Data", -1, basic=True, minimum=1, unlimited=-1, unlimited_as="model's own",
              unit="tokens"),
    _bool("pad_to_max_length", "Pad to the longest", "Fills every row up to the limit. Costs memory and time.", "Data"),
    Parameter("batch_size", "Preprocessing batch", "Rows tokenised at once.", "int", "Data", 1000, minimum=1,
              unit="rows", idle_here="all rows are tokenised in one pass"),
    Parameter("dataloader_num_workers", "Loader workers", "Processes that read rows; 0 reads in the trainer.", "int",
              "Data", 0, minimum=0, maximum=64, idle_here="rows are tokenised before training and read from memory"),
    _bool("apply_lora", "LoRA", "Trains small added matrices and not the whole model: less memory, smaller steps on "
          "the base model's knowledge.", "LoRA", basic=True, lesson="true"),
    Parameter("lora_r", "Rank", "Width of the added matrices.", "int", "LoRA", 8, basic=True, minimum=1),
    Parameter("lora_alpha", "Alpha", "Weight of what LoRA adds: alpha divided by rank.", "int", "LoRA", 128, minimum=1),
    Parameter("lora_dropout", "Dropout", "Share of LoRA's inputs that is switched off in training.", "number", "LoRA",
              0.0, minimum=0.0, below=1.0),
    _bool("merge_lora_weights", "Merge", "Adds the matrices into the model, so that it loads like any other.", "LoRA",
          "true", not_here="the model is served as one folder; the matrices stay beside it as a checkpoint"),
    Parameter("optim", "Optimiser", "Adafactor takes less memory than AdamW.", "choice", "Optimisation", "adamw_torch",
              choices=("adamw_torch", "adafactor")),
    Parameter("weight_decay", "Weight decay", "Pulls weights towards 0.", "number", "Optimisation", 0.0, minimum=0.0,
              maximum=1.0),
    Parameter("adam_beta1", "Adam beta 1", "Memory of the gradient's mean.", "number", "Optimisation", 0.9,
              minimum=0.0, maximum=0.999999),
    Parameter("adam_beta2", "Adam beta 2", "Memory of the gradient's square.", "number", "Optimisation", 0.999,
              minimum=0.0, maximum=0.999999),
    Parameter("adam_epsilon", "Adam epsilon", "Keeps the division safe.", "number", "Optimisation", 1e-8,
              minimum=1e-20, maximum=1.0),
    Parameter("max_grad_norm", "Gradient limit", "Longer gradients are cut to this length.", "number", "Optimisation",
              1.0, minimum=0.0),
    Parameter("precision", "Precision", "Bits of a number in training.", "choice", "Optimisation", "32",
              choices=("32", "16")),
    _bool("apply_deepspeed", "DeepSpeed", "Spreads optimiser and model over the GPUs.", "Optimisation", lesson="true",
          not_here="DeepSpeed spreads a model over GPUs, and the trainer here is one process"),
    Parameter("deepspeed_stage", "DeepSpeed stage", "2 spreads optimiser and gradients; 3 the weights too.", "choice",
              "Optimisation", "2", lesson="2", choices=("2", "3"), idle_here="it has a meaning only with DeepSpeed"),
    _bool("apply_ort", "ONNX Runtime", "Trains through ONNX Runtime.", "Optimisation",
          not_here="the trainer here does not train through ONNX Runtime"),
    Parameter("evaluation_strategy", "Evaluate", "When the validation rows are measured.", "choice", "Evaluation",
              "epoch", basic=True, choices=("epoch", "steps", "disable")),
    Parameter("evaluation_steps_interval", "Evaluation interval", "Share of an epoch between two evaluations; 0 uses "
              "the number of steps.", "number", "Evaluation", 0.0, minimum=0.0, below=1.0),
    Parameter("eval_steps", "Evaluation every", "Steps between two evaluations.", "int", "Evaluation", 500, minimum=1,
              unit="steps"),
    Parameter("metric_for_best_model", "Best model by", "Which measure names the best checkpoint.", "choice",
              "Evaluation", "loss", choices=("loss", "f1", "exact"), not_here="training here measures the loss only"),
    _bool("apply_early_stopping", "Stop early", "Ends the run when the evaluation no longer improves.", "Evaluation"),
    Parameter("early_stopping_patience", "Patience", "Evaluations without improvement before the run stops.", "int",
              "Evaluation", 1, minimum=1),
    Parameter("early_stopping_threshold", "Improvement", "Smallest change that counts as better.", "number",
              "Evaluation", 0.0, minimum=0.0),
    Parameter("logging_strategy", "Log", "Whether measures are written by steps or by epochs.", "choice", "Logging",
              "steps", choices=("epoch", "steps")),
    Parameter("logging_steps", "Log every", "Steps between two points of the curve.", "int", "Logging", 10, minimum=1,
              unit="steps"),
    Parameter("save_total_limit", "Checkpoints kept", "Older ones are deleted; -1 keeps all.", "int", "Logging", -1,
              minimum=1, unlimited=-1, unlimited_as="all"),
    _bool("resume_from_checkpoint", "Resume", "Goes on from the last checkpoint of the output folder.", "Logging"),
    Parameter("num_nodes_finetune", "Nodes", "Machines that train together.", "int", "Machine", 1, minimum=1,
              not_here="it is one machine"),
    Parameter("shm_size_finetune", "Shared memory", "Size of /dev/shm in the container, such as 5g.", "size", "Machine",
              "5g", idle_here="no container is started, so no shared memory is set apart"),
    _bool("ignore_mismatched_sizes", "Ignore size differences", "Loads a head of another size.", "Machine",
          not_here="weights that do not fit the model would be replaced by random ones"),
    _bool("trust_remote_code", "Trust the model's code", "Runs Python that comes with the model. Only for a publisher "
          "you know.", "Machine", not_here="code that comes with a model is never run here"),
)
# fmt: on

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(parameter.group for parameter in PARAMETERS))


@dataclass(frozen=True)
class Recipe:
    """Every parameter's value, its origin ("component", "lesson", "model" or "yours") and what is wrong with it.

    dropped: defaults of the model that the component does not have, or this machine does not do; they are shown, and
    not sent.
    problems: by parameter name, one sentence that names the parameter. here: whether this machine trains.
    """

    values: Mapping[str, Value]
    origins: Mapping[str, str]
    dropped: Mapping[str, Value] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    here: bool = False

    def __getitem__(self, name: str) -> Value:
        """Return a value; where the component at hand lacks the input, what it does without."""
        return self.values.get(name, BY_NAME[name].default)

    @property
    def lora(self) -> bool:
        """Whether LoRA is on."""
        return self["apply_lora"] == "true"

    @property
    def counted(self) -> dict[str, Value]:
        """Every value to count rows, steps and time with: the component's default in place of one with a problem."""
        return {name: p.default if name in self.problems else self[name] for name, p in BY_NAME.items()}

    @property
    def usual_rate(self) -> Value:
        """The learning rate to fall back to: what stands below the operator's own, where that is a usual one."""
        low, high = USUAL_RATES[self.lora]
        below = self.without("learning_rate")
        lesson = BY_NAME["learning_rate"].lesson
        return below if lesson is None or (isinstance(below, float) and low <= below <= high) else lesson

    def whole(self, name: str) -> int:
        """Return a whole number; what has a problem counts as the component's default here."""
        return whole(self.counted, name)

    def without(self, name: str) -> Value:
        """Return what `name` falls back to when the operator's own value is taken away."""
        return self._below.get(name, BY_NAME[name].default)

    _below: Mapping[str, Value] = field(default_factory=dict, repr=False)


def build_recipe(
    model_defaults: Mapping[str, object],
    yours: Mapping[str, object] | None = None,
    component_inputs: Collection[str] | None = None,
    *,
    here: bool,
) -> Recipe:
    """Lay the four origins over each other: component < lesson < the model's own < the operator's.

    model_defaults: BaseModel.defaults. component_inputs: input names of the component at hand, when it has been read;
    what it lacks is dropped and listed. here: whether this machine trains: the lesson's and the model's values that it
    does not do are left out. Wrong values stay in the recipe and are named in `problems`.
    """
    known = set(BY_NAME) if component_inputs is None else set(BY_NAME) & set(component_inputs)
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    below: dict[str, Value] = {}
    problems: dict[str, str] = {}
    for parameter in PARAMETERS:
        if parameter.name not in known:
            continue
        layers = [
            layer for layer in _layers(parameter, model_defaults) if not (here and _is_refused(parameter, layer[1]))
        ]
        below[parameter.name] = _lenient(parameter, layers[-1][1])
        if yours and parameter.name in yours:
            layers.append((YOURS, yours[parameter.name]))
        origin, raw = layers[-1]
        values[parameter.name] = _lenient(parameter, raw)
        origins[parameter.name] = origin
        if problem := check_value(parameter, raw, here=here):
            problems[parameter.name] = problem
    dropped = {
        name: _plain(value)
        for name, value in model_defaults.items()
        if name not in known or (here and _is_refused(BY_NAME[name], value))
    }
    for name in yours or {}:
        if name not in known:
            problems[name] = f"'{name}' is not a parameter of the fine-tuning component."
    together = {name: f"{_title(BY_NAME[name])} {words}" for name, words in check_together(values).items()}
    return Recipe(values, origins, dropped, {**together, **problems}, here, below)


def _layers(parameter: Parameter, model_defaults: Mapping[str, object]) -> list[tuple[str, object]]:
    layers: list[tuple[str, object]] = [(COMPONENT, parameter.default)]
    if parameter.lesson is not None:
        layers.append((LESSON, parameter.lesson))
    if parameter.name in model_defaults:
        layers.append((MODEL, model_defaults[parameter.name]))
    return layers


def parse_value(parameter: Parameter, raw: object) -> Value:
    """Return `raw` as the parameter's type; raises BadInput with a sentence that names the parameter."""
    if problem := check_value(parameter, raw):
        raise BadInput(problem, f"The component's default is {parameter.default}.")
    return _lenient(parameter, raw)


def check_value(parameter: Parameter, raw: object, *, here: bool = False) -> str | None:
    """Return what is wrong with `raw` as one sentence, or None. here: whether this machine is to train."""
    words = find_fault(parameter, raw, here=here)
    return words and f"{_title(parameter)} {words}"


def find_fault(parameter: Parameter, raw: object, *, here: bool = False) -> str | None:
    """Return what is wrong with `raw` as a sentence without its subject ("is 0; the least is 1."), or None."""
    text = _text(raw)
    if parameter.choices and text not in parameter.choices:
        return f"is '{text}'; it takes {_one_of(parameter.choices)}."
    if parameter.kind == "size" and not _SIZE.fullmatch(text):
        return f"is '{text}'; it takes a size such as 5g."
    if parameter.kind in ("int", "number") and (fault := _find_fault_of_number(parameter, text)):
        return fault
    if here and _is_refused(parameter, raw):
        return f"is {text}; this machine takes only {parameter.default}: {parameter.not_here}."
    return None


def _find_fault_of_number(parameter: Parameter, text: str) -> str | None:
    whole = parameter.kind == "int"
    if not _NUMBER.fullmatch(text):
        finite = "finite " if text.lower().lstrip("+-") in ("nan", "inf", "infinity") else "whole " if whole else ""
        return f"is '{_shorten(text)}'; it takes a {finite}number."
    number = float(text)
    if not math.isfinite(number):
        return f"is {_shorten(text)}; it takes a finite number."
    if whole and not number.is_integer():
        return f"is {_shorten(text)}; it takes a whole number."
    if number == parameter.unlimited:
        return None
    text, minimum, maximum = _shorten(text), parameter.minimum, parameter.maximum
    if maximum is None and whole:
        maximum = LARGEST
    or_none = f", or {parameter.unlimited} for no limit" if parameter.unlimited is not None else ""
    if minimum is not None and number < minimum:
        return f"is {text}; the least is {minimum:g}{or_none}."
    if maximum is not None and number > maximum:
        return f"is {text}; the most is {maximum:.10g}."
    if parameter.above is not None and number <= parameter.above:
        return f"is {text}; it must be more than {parameter.above:g}."
    if parameter.below is not None and number >= parameter.below:
        return f"is {text}; it must be less than {parameter.below:g}."
    return None


def _is_refused(parameter: Parameter, raw: object) -> bool:
    """Tell whether this machine does not do what `raw` asks for."""
    return bool(parameter.not_here) and _lenient(parameter, raw) != parameter.default


def total_batch_size(values: Mapping[str, Value], gpus: int) -> int:
    """Return conversations per update: batch x accumulation x devices x nodes; no GPU counts as one device."""
    batch, accumulation = whole(values, "per_device_train_batch_size"), whole(values, "gradient_accumulation_steps")
    return batch * accumulation * max(1, gpus) * whole(values, "num_nodes_finetune")


def display_name(model: str, dataset: str, values: Mapping[str, Value], gpus: int) -> str:
    """Return the long name the lesson gives a run, with the data set's name where it says "ultrachat"."""
    parts = [
        model.replace("/", "-"),
        dataset,
        f"bs{total_batch_size(values, gpus)}",
        str(values.get("lr_scheduler_type", "linear")),
        f"ds{values.get('deepspeed_stage', '2')}" if values.get("apply_deepspeed", "false") == "true" else "nods",
        "lora" if values.get("apply_lora", "false") == "true" else "nolora",
        f"save_limit{values.get('save_total_limit', -1)}",
        f"seqlen{values.get('max_seq_length', -1)}",
    ]
    return "-".join(parts)


def to_job_inputs(recipe: Recipe) -> dict[str, Value]:
    """Return what is sent: all but the component's own defaults. Raises BadInput while a problem stands."""
    if recipe.problems:
        first = next(iter(recipe.problems.values()))
        raise BadInput(first, "Change the setting, or reset it.")
    return {name: value for name, value in recipe.values.items() if recipe.origins[name] != COMPONENT}


def from_job_inputs(inputs: Mapping[str, object]) -> dict[str, Value]:
    """Return every parameter of a run, from the literals its job was sent with and the component's defaults."""
    given = {name: _lenient(BY_NAME[name], value) for name, value in inputs.items() if name in BY_NAME}
    return {**_list_defaults(), **given}


@cache
def _list_defaults() -> dict[str, Value]:
    return {p.name: _lenient(p, p.default) for p in PARAMETERS}


def list_changed(inputs: Mapping[str, object]) -> dict[str, Value]:
    """Return those of a job's inputs that are parameters and not the component's defaults, in the table's order."""
    values = from_job_inputs(inputs)
    return {p.name: values[p.name] for p in PARAMETERS if values[p.name] != p.default}


def total_steps(values: Mapping[str, Value], rows: int, gpus: int) -> int:
    """Return the optimiser steps of a run over `rows` training rows, as the Trainer counts them."""
    if (most := whole(values, "max_steps")) > 0:
        return most
    devices = max(1, gpus) * whole(values, "num_nodes_finetune")
    batches = -(-rows // max(1, whole(values, "per_device_train_batch_size") * devices))
    per_epoch = max(1, -(-batches // max(1, whole(values, "gradient_accumulation_steps"))))
    return per_epoch * whole(values, "num_train_epochs")


def smaller_batch(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return batch and accumulation for the same total batch in about half the memory; empty when batch is 1."""
    batch, accumulation = whole(values, "per_device_train_batch_size"), whole(values, "gradient_accumulation_steps")
    if batch < 2 or batch % 2:
        return {}
    return {"per_device_train_batch_size": batch // 2, "gradient_accumulation_steps": accumulation * 2}


def check_together(values: Mapping[str, Value]) -> dict[str, str]:
    """Return the combinations that are refused after minutes of starting: by name, a sentence without its subject.

    Source: error strings of azureml-acft-contrib-hf-nlp (finetune.py) and -accelerator. A length to pad to is asked for
    everywhere: a model's own limit is so long that no memory holds a batch of it.
    """
    problems: dict[str, str] = {}
    if values.get("apply_early_stopping") == "true" and values.get("evaluation_strategy") == "disable":
        problems["apply_early_stopping"] = "needs evaluations: set evaluation_strategy to epoch or steps."
    if values.get("auto_find_batch_size") == "true" and values.get("apply_deepspeed") == "true":
        problems["auto_find_batch_size"] = "does not work with DeepSpeed (apply_deepspeed)."
    if values.get("pad_to_max_length") == "true" and values.get("max_seq_length") == -1:
        problems["pad_to_max_length"] = "needs a length to pad to: set max_seq_length."
    return problems


def say_value(name: str, value: object) -> str:
    """Return a parameter's value in words: "model's own", "0.00002"; that of another name as it is."""
    parameter = BY_NAME.get(name)
    if parameter and parameter.unlimited is not None and value == parameter.unlimited:
        return parameter.unlimited_as
    return exact(value) if isinstance(value, float) else str(value)


def _title(parameter: Parameter) -> str:
    return f"{parameter.label} ({parameter.name})"


def _lenient(parameter: Parameter, raw: object) -> Value:
    """Return `raw` typed where that works, else its text (the problem is reported beside it)."""
    return _typed(parameter.kind, _text(raw))


@lru_cache(4096)  # of thousands of runs most have most values in common
def _typed(kind: str, text: str) -> Value:
    if kind not in ("int", "number") or not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    return int(number) if kind == "int" and number.is_integer() else number


def whole(values: Mapping[str, Value], name: str) -> int:
    """Return a whole number of a recipe, the component's default where it holds none."""
    value = values.get(name)
    return value if isinstance(value, int) else int(BY_NAME[name].default)


def _text(raw: object) -> str:
    return str(raw).lower() if isinstance(raw, bool) else str(raw).strip()


def _plain(raw: object) -> Value:
    return raw if isinstance(raw, (str, int, float)) and not isinstance(raw, bool) else _text(raw)


def _shorten(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"


def _one_of(choices: tuple[str, ...]) -> str:
    return ", ".join(choices[:-1]) + " or " + choices[-1]
