"""Step 4: train the base model on the tokenised conversations and write the tuned model as a Hugging Face folder."""

from __future__ import annotations

import os
import resource
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine.memory import touch_ahead
from core.engine.step import Step, is_out_of_memory, run, write_json
from core.engine.training_settings import TrainingSettings, read_settings
from core.errors import BadInput

if TYPE_CHECKING:
    import torch

    from core.engine.checkpoints import Checkpoints
    from core.engine.training import Position


@dataclass(frozen=True)
class Format:
    """The number format of a run and why it was chosen."""

    name: str
    why: str


def finetune(step: Step) -> None:
    """Write outputs/model/ and outputs/training.json. A run that diverges fails; its checkpoints stay."""
    started = time.perf_counter()
    settings = read_settings(step.parameters)
    touch_ahead(step.path("model_dir"))
    step.report_progress("loading")
    for note in step.config.get("notes", []):
        step.say(note)
    warnings.simplefilter("ignore", FutureWarning)  # libraries talking to each other, in a log an operator reads
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    cores = int(step.config.get("cores") or os.cpu_count() or 1)
    device = _choose_device(settings, step)
    chosen = _choose_format(settings, device)
    step.say(f"Training on {_name_device(device, cores)} in {chosen.name}: {chosen.why}.")
    while True:
        try:
            facts = _train(step, settings, chosen, device)
            break
        except (MemoryError, RuntimeError) as error:
            size = settings.per_device_train_batch_size
            if not (settings.auto_find_batch_size and is_out_of_memory(error) and size > 1):
                raise
            settings = replace(settings, per_device_train_batch_size=size // 2)
            step.say(f"A batch of {size} does not fit into memory; starting again with {size // 2}.")
    facts |= {"peak_memory_bytes": _peak_memory(device), "seconds": round(time.perf_counter() - started, 2)}
    write_json(step.outputs / "training.json", facts)
    step.say(f"Finished in {facts['seconds']:.0f} s, peak memory {facts['peak_memory_bytes'] / 2**30:.2f} GiB.")


def _train(step: Step, settings: TrainingSettings, chosen: Format, device: torch.device) -> dict[str, Any]:
    import torch

    from core.engine.checkpoints import Checkpoints
    from core.engine.compute_speed import Threads
    from core.engine.token_rows import read_rows
    from core.engine.trainable import load_model, make_trainable
    from core.engine.training import Training
    from core.engine.validate import load_tokens

    torch.manual_seed(settings.seed)
    if settings.enable_full_determinism != torch.are_deterministic_algorithms_enabled():
        # Only where it changes something: the call imports torch's compiler, which takes a second or two.
        torch.use_deterministic_algorithms(settings.enable_full_determinism)
    model_dir, data_dir = step.path("model_dir"), step.path("data_dir")
    rows = {name: read_rows(data_dir / f"{name}.safetensors") for name in ("train", "validation")}
    tokens = load_tokens(model_dir)
    trainable = make_trainable(load_model(model_dir, chosen.name, device), settings)
    kind = f"LoRA of rank {settings.lora_r}" if settings.apply_lora else "all weights but the word embeddings"
    step.say(f"{trainable.size / 1e6:.2f} million numbers learn ({kind}).")
    limit = settings.save_total_limit if settings.apply_lora else 1  # a full checkpoint is five times the model's size
    checkpoints = Checkpoints(step.outputs / "checkpoints", limit)
    continued = step.find_path("continues")
    if continued and not checkpoints.list():
        _adopt(checkpoints, continued)
    goes_on = bool(continued) or settings.resume_from_checkpoint or bool(step.config.get("go_on"))
    if goes_on and settings.auto_find_batch_size and (size := checkpoints.find_batch_size()):
        settings = replace(settings, per_device_train_batch_size=min(size, settings.per_device_train_batch_size))
    pad_to = min(settings.max_seq_length, tokens.context_length) if settings.max_seq_length > 0 else 0
    if settings.pad_to_max_length and not pad_to:
        raise BadInput("pad_to_max_length needs a length to pad to.", "Set max_seq_length.")
    pad_to = pad_to if settings.pad_to_max_length else 0
    # Sums differ in their last digits with the number of threads; a card does not need them.
    cores, fixed = int(step.config.get("cores") or os.cpu_count() or 1), settings.enable_full_determinism
    threads = Threads(cores, chosen.name, fixed=fixed or device.type != "cpu")
    training = Training(step, settings, trainable, rows, checkpoints, tokens.pad_id, pad_to, threads)
    if goes_on:
        step.go_on_measuring()
        training.resume(continued.name if continued else "")
    else:
        checkpoints.clear()
    position = training.train()
    step.report_progress("saving", position.step, training.total_steps, position.step / training.steps_per_epoch)
    learned = trainable.size
    trainable.save_model(model_dir, step.outputs / "model")
    size = sum(file.stat().st_size for file in (step.outputs / "model").glob("*.safetensors"))
    checkpoints.finish(size // 2 if settings.apply_lora else 0)
    return {**_facts(settings, chosen, position, learned), "stopped": training.stopped}


def _adopt(checkpoints: Checkpoints, continued: Path) -> None:
    try:
        checkpoints.adopt(continued)
    except FileNotFoundError as error:
        said = f"The {continued.name} that this run goes on from is gone."
        raise BadInput(said, "Its run was deleted or its checkpoints were. Start from the beginning.") from error


def _facts(settings: TrainingSettings, chosen: Format, position: Position, learned: int) -> dict[str, Any]:
    return {
        "number_format": chosen.name,
        "number_format_why": chosen.why,
        "method": "lora" if settings.apply_lora else "full, word embeddings frozen",
        "trained_parameters": learned,
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "steps": position.step,
        "train_loss": position.loss_sum / max(1, position.step),
        "best_eval_loss": position.best_loss if position.best_loss < float("inf") else None,
        "tokens": position.tokens,
        "packed_batches": position.packed,
        "tokens_per_second": round(position.tokens / max(1e-9, position.seconds), 1),
    }


def _choose_device(settings: TrainingSettings, step: Step) -> torch.device:
    import torch

    from core.engine.compute_speed import choose_device

    found = choose_device()
    if found == "cpu" and settings.number_of_gpu_to_use_finetuning:
        step.say("No GPU was found here; training on the processor.")
    return torch.device(found if found == "mps" or settings.number_of_gpu_to_use_finetuning else "cpu")


def _choose_format(settings: TrainingSettings, device: torch.device) -> Format:
    """precision 32 is taken at its word; 16 allows bf16, which is used where it is the faster one."""
    from core.engine.compute_speed import choose_number_format

    if settings.precision == "32":
        return Format("float32", "precision is 32")
    name, why = choose_number_format(device=device.type)
    return Format(name, why)


def _name_device(device: torch.device, cores: int) -> str:
    import torch

    return {"cuda": torch.cuda.get_device_name, "mps": lambda: "MPS"}.get(
        device.type, lambda: f"{cores} processor cores"
    )()


def _peak_memory(device: torch.device) -> int:
    """Return bytes: of the GPU where one is used, else of this process (kilobytes on Linux, bytes on macOS)."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    run(finetune)
