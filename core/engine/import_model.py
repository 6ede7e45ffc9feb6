"""Step 2: bring the base model into the run, as hard links, after looking whether the folder is whole."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from core.engine.chat_template import BadConversation, read_json
from core.engine.step import Step, link_folder, run
from core.errors import BadInput, NotFound

LARGEST_HEADER = 100_000_000  # bytes, as safetensors itself has it


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
    try:
        config = read_json(folder / "config.json")
    except BadConversation as error:
        raise BadInput(str(error), "Fetch the model again.") from error
    if config.get("auto_map"):
        raise BadInput(f"The model {folder.name} brings code of its own, which is never run here.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadInput(f"The model folder {folder.name} holds no safetensors weights.")
    parameters = sum(_count_parameters(file) for file in weights)
    _check_sizes(folder.name, config, parameters)
    return parameters


def _check_sizes(name: str, config: dict[str, Any], parameters: int) -> None:
    """Raise BadInput where the configuration asks for a model that the weights are not."""
    words = 1
    for key in ("vocab_size", "hidden_size"):
        size = config.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadInput(f"The config.json of the model folder {name} gives no number as {key}.", "Fetch it again.")
        words *= size
    if words > parameters:
        said = f"The config.json of the model folder {name} asks for more words than its weights hold."
        raise BadInput(said, "Fetch the model again.", f"{words:,} numbers for the words, {parameters:,} in all")


def _count_parameters(file: Path) -> int:
    """Read a safetensors header and compare what it promises with the file's size."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        head = opened.read(length) if length < min(size, LARGEST_HEADER) else b"{}"
    try:
        header = json.loads(head)
        header.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=-1)
        parameters = sum(math.prod(map(int, entry["shape"])) for entry in header.values())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        end = -1
    if 8 + length + end != size:
        raise BadInput(f"The weights file {file.name} is cut short or damaged.", "Fetch the model again.")
    return parameters


if __name__ == "__main__":
    run(import_model)
