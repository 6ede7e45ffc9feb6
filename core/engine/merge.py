"""Make of a checkpoint and the base model that it was trained on an MLflow model, as a run's own steps do.

Runs as a command job: beside torch, transformers and peft it needs what MERGE_PROGRAM (core/engine) lists.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from core.engine.convert import convert
from core.engine.disk import link
from core.engine.import_model import find_weights_folder
from core.engine.step import Step
from core.engine.trainable import FULL_FILE, load_model, make_trainable
from core.engine.training_settings import read_settings
from core.errors import NotFound, TunedeckError


def merge(base: Path, checkpoint: Path, output: Path, work: Path, named: dict[str, str]) -> None:
    """Write MLmodel and model/ into `output`. named: name and version of the base model. work: an empty folder."""
    import torch

    if not checkpoint.is_dir():
        raise NotFound(f"There is no {checkpoint.name} any more.", "Choose another checkpoint.")
    source = find_weights_folder(base)
    full = (checkpoint / FULL_FILE).is_file()
    lora = {} if full else json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    sizes = {f"lora_{name}": str(lora[key]) for name, key in (("r", "r"), ("alpha", "lora_alpha")) if lora}
    settings = read_settings({"apply_lora": "false" if full else "true", **sizes})
    trainable = make_trainable(load_model(source, "bfloat16", torch.device("cpu")), settings)
    trainable.read(checkpoint)
    model = work / "model"
    trainable.save_model(source, model)
    (work / "outputs").mkdir()
    convert(Step(work, {"model_dir": str(model), "base": named}))
    shutil.copytree(work / "outputs" / "mlflow_model", output, copy_function=link, dirs_exist_ok=True)
    for made in (model, work / "outputs"):
        shutil.rmtree(made)


def main() -> int:
    """Read the command line; 1 with a sentence where it cannot be done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("base", "checkpoint", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--named", default=":", help="name and version of the base model, with a colon between")
    options = parser.parse_args()
    name, _, version = options.named.rpartition(":")
    work = Path("merging").resolve()
    work.mkdir()
    try:
        merge(options.base, options.checkpoint, options.output, work, {"name": name, "version": version})
    except TunedeckError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
