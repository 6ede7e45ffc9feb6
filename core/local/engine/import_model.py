"""Step 2: bring the base model into the run, as hard links, after looking whether the folder is whole."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from core.errors import BadInput, NotFound
from core.local.engine.step import Step, link_folder, run


def import_model(step: Step) -> None:
    """Link the model folder to outputs/model."""
    source = find_weights_folder(step.path("model_dir"))
    parameters = check_model_folder(source)
    files = link_folder(source, step.outputs / "model")
    step.say(f"{_name(source)}: {parameters / 1e6:.0f} million parameters in {files} files.")


def _name(folder: Path) -> str:
    manifest = folder / "tunedeck.json"  # a base model's folder is called after its version
    return json.loads(manifest.read_text(encoding="utf-8"))["name"] if manifest.is_file() else folder.name


def find_weights_folder(folder: Path) -> Path:
    """Return the Hugging Face folder itself, or the one inside an MLflow model; raises NotFound."""
    if not folder.is_dir():
        raise NotFound(f"The model folder {folder.name} was not found.", detail=str(folder))
    inside = folder / "model"
    return inside if (folder / "MLmodel").is_file() and inside.is_dir() else folder


def check_model_folder(folder: Path) -> int:
    """Return the number of parameters; raises BadInput where a file is missing or cut short, or code would be run."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise BadInput(f"The model folder {folder.name} holds no {name}.", "Pick a model that is a whole folder.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("auto_map"):
        raise BadInput(f"The model {folder.name} brings code of its own, which is never run here.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadInput(f"The model folder {folder.name} holds no safetensors weights.")
    return sum(_count_parameters(file) for file in weights)


def _count_parameters(file: Path) -> int:
    """Read a safetensors header and compare what it promises with the file's size."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = json.loads(opened.read(length)) if length < size else {}
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=-1)
    if 8 + length + end != size:
        raise BadInput(f"The weights file {file.name} is cut short or damaged.", "Fetch the model again.")
    return sum(_product(entry["shape"]) for entry in header.values())


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


if __name__ == "__main__":
    run(import_model)
