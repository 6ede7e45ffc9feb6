"""Memory: the local trainer's peak over eight settings of SmolLM2-135M, beside what Launch says before the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from core import home
from core.engine.memory import free_bytes
from core.engine.memory_estimate import estimate_peak, number_size, read_shape
from core.home import REPOSITORY
from core.local.base_model import NAME
from core.local.processes import KEEP_MEMORY
from core.recipe import build_recipe

LORA, FULL = {"apply_lora": "true", "lora_r": 8, "lora_alpha": 16}, {"apply_lora": "false"}
SETTINGS: tuple[tuple[int, int, dict[str, Any]], ...] = (  # rows of a batch, tokens of a row
    (4, 100, {**LORA, "precision": "16"}),
    (2, 500, {**LORA, "precision": "32"}),
    (1, 1000, {**LORA, "precision": "16"}),
    (4, 1000, {**LORA, "precision": "16"}),
    (4, 300, {**LORA, "precision": "16", "lora_r": 128}),
    (2, 500, {**FULL, "precision": "16"}),
    (4, 100, {**FULL, "precision": "32"}),
    (8, 100, {**FULL, "precision": "32", "optim": "adafactor"}),
)


def main() -> int:
    """Measure and print; exit status 1 where an estimate is off by more than a quarter."""
    model = home.current().base_models / NAME / "1"
    shape = read_shape(model)
    assert shape is not None, f"{model} holds no model: make base-model"
    worst = 0.0
    print("batch  tokens  measured  estimated  settings")
    for batch, length, parameters in SETTINGS:
        values = build_recipe({}, {**parameters, "per_device_train_batch_size": batch}, here=True).values
        told = estimate_peak(shape, values, length, number_size(values["precision"]), free_bytes())
        peak = _measure(model, batch, length, {**parameters, "per_device_train_batch_size": batch})
        worst = max(worst, abs(told / peak - 1))
        print(f"{batch:5}  {length:6}  {peak / 1e9:5.2f} GB  {told / 1e9:6.2f} GB  {parameters}", flush=True)
    print(f"The worst estimate is off by {worst:.0%}.")
    return int(worst > 0.25)


def _measure(model: Path, batch: int, length: int, parameters: dict[str, Any]) -> int:
    """Return the peak of two optimiser steps on rows of one length, in a process like the workspace's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        rows = max(16, 2 * batch)
        offsets = np.arange(rows + 1, dtype=np.int64) * length
        ids = np.random.default_rng(0).integers(10, 40_000, rows * length, dtype=np.int32)
        learned = np.tile(np.arange(length) >= length // 2, rows).astype(np.uint8)
        for split, kept in (("train", rows), ("validation", 2)):
            arrays = {"ids": ids[: kept * length], "learned": learned[: kept * length], "offsets": offsets[: kept + 1]}
            save_file(arrays, str(folder / "data" / f"{split}.safetensors"))
        sent = {"max_steps": 2, "logging_steps": 1, "number_of_gpu_to_use_finetuning": 0, **parameters}
        config = {
            "model_dir": str(model),
            "data_dir": str(folder / "data"),
            "cores": os.cpu_count(),
            "parameters": sent,
        }
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-m", "core.engine.finetune", "--config", str(folder / "config.json")]
        subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, **KEEP_MEMORY}, check=True, stdout=subprocess.DEVNULL
        )
        told = json.loads((folder / "outputs" / "training.json").read_text(encoding="utf-8"))
    return int(told["peak_memory_bytes"])


if __name__ == "__main__":
    sys.exit(main())
