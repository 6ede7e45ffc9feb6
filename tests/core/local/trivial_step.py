"""The five programs of a pipeline in a few lines, for tests of what runs them: same files, no model.

python trivial_step.py NAME --config FOLDER/config.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[3]).parent
    config = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    outputs = folder / "outputs"
    outputs.mkdir(exist_ok=True)
    print(f"{name} with {sorted(config)}", flush=True)
    if name == "import_model":
        (outputs / "model").mkdir()
        for source in Path(config["model_dir"]).iterdir():
            os.link(source, outputs / "model" / source.name)
    if name == "finetune":
        return _train(config, folder)
    if name == "convert":
        (outputs / "mlflow_model" / "model").mkdir(parents=True)
        (outputs / "mlflow_model" / "MLmodel").write_text("flavors: {}", encoding="utf-8")
        for source in Path(config["model_dir"]).iterdir():
            os.link(source, outputs / "mlflow_model" / "model" / source.name)
    return 0


def _train(config: dict[str, object], folder: Path) -> int:
    parameters = config["parameters"]
    assert isinstance(parameters, dict)
    steps = int(parameters.get("max_steps", "5"))
    measured = folder / "metrics.jsonl"
    done = int(str(config["continues"]).rpartition("-")[2] or 0)
    done += len(measured.read_text(encoding="utf-8").splitlines()) if config["go_on"] and measured.exists() else 0
    outputs, wish, step = folder / "outputs", folder / "stop.json", done
    for step in range(done + 1, steps + 1):
        row = {"key": "loss", "value": 4.0 / step, "step": step, "timestamp": int(time.time() * 1000)}
        with measured.open("a", encoding="utf-8") as metrics:
            metrics.write(json.dumps(row) + "\n")
        told = {"step": step, "total_steps": steps, "epoch": 1.0, "phase": "training", "at": row["timestamp"]}
        (folder / "progress.json").write_text(json.dumps(told), encoding="utf-8")
        if step == 2:
            _keep(outputs, step)
        if wish.exists():
            break
        time.sleep(0.02)
    if parameters.get("seed") == "13":
        print("RuntimeError: loss is nan", flush=True)
        return 1
    if step > 2:
        _keep(outputs, step)
    if step < steps:
        said = f"Stopped at step {step} of {steps} by {json.loads(wish.read_text(encoding='utf-8'))['by']}."
        (outputs / "training.json").write_text(json.dumps({"stopped": said}), encoding="utf-8")
    (outputs / "model").mkdir(parents=True)
    (outputs / "model" / "model.safetensors").write_bytes(b"weights" * 1000)
    (outputs / "model" / "config.json").write_text("{}", encoding="utf-8")
    return 0


def _keep(outputs: Path, step: int) -> None:
    made = outputs / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True, exist_ok=True)
    (made / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (made / "training_state.pt").write_bytes(b"state" * 1000)
    note = {"step": step, "eval_loss": 1 / step, "batch_size": 1, "epoch": 1.0, "loss": 4.0 / step}
    (made / "note.json").write_text(json.dumps(note), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
