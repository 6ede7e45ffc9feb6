"""Step 5: give the tuned model the form of an MLflow model: an MLmodel file beside the Hugging Face folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from core.engine.import_model import check_model_folder
from core.engine.step import Step, link_folder, run


def convert(step: Step) -> None:
    """Write outputs/mlflow_model/ with MLmodel and model/, the weights as hard links."""
    source = step.path("model_dir")
    check_model_folder(source)
    target = step.outputs / "mlflow_model"
    files = link_folder(source, target / "model")
    base = step.config.get("base", {})
    text = yaml.safe_dump(_describe(source, base), sort_keys=False)
    (target / "MLmodel").write_text(text, encoding="utf-8")
    step.say(f"MLflow model written: {files} files of {source.name}, no copy made.")


def _describe(source: Path, base: dict[str, Any]) -> dict[str, Any]:
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return {
        "flavors": {
            "hftransformersv2": {
                "model_data": "model",
                "task_type": "chat-completion",
                "hf_pretrained_class": "AutoModelForCausalLM",
                "hf_tokenizer_class": "AutoTokenizer",
                "hf_config_class": "AutoConfig",
                "architectures": config.get("architectures", []),
            }
        },
        "metadata": {
            "base_model_name": str(base.get("name", "")),
            "base_model_version": str(base.get("version", "")),
            "base_model_task": "chat-completion",
            "finetuning_task": "chat-completion",
            "is_finetuned_model": True,
        },
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


if __name__ == "__main__":
    run(convert)
