"""One peer's training, run by the peers' own Python: `peer_training.py '{"name": "hf", ...}'`; prints one line of JSON.

Imports nothing of Tunedeck: it is not there.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

PAD = 2


def main() -> None:
    """Train and print seconds of the loop, peak memory, mean loss and processor time."""
    asked = json.loads(sys.argv[1])
    trained = {"hf": _train_hf, "trl": _train_trl, "llamafactory": _train_llamafactory}[asked["name"]](asked)
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss / 2**20
    told = {"seconds": trained["train_runtime"], "loss": trained["train_loss"], "peak_gib": peak}
    print("\n" + json.dumps({**told, "cpu_s": used.ru_utime + used.ru_stime}))


def _common(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "output_dir": str(Path(asked["folder"]) / f"{asked['name']}-out"),
        "per_device_train_batch_size": asked["batch"],
        "max_steps": asked["steps"],
        "learning_rate": asked["rate"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }


def _load(asked: dict[str, Any]) -> tuple[Any, Any]:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=getattr(torch, asked["format"]))
    config = LoraConfig(r=asked["rank"], lora_alpha=asked["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    return model, config


def _read_rows(asked: dict[str, Any]) -> list[dict[str, list[int]]]:
    from safetensors.numpy import load_file

    stored = load_file(str(Path(asked["folder"]) / "data" / "outputs" / "train.safetensors"))
    bounds = stored["offsets"]
    pairs = [(stored["ids"][a:b], stored["learned"][a:b]) for a, b in pairwise(bounds)]
    return [{"input_ids": ids.tolist(), "completion_mask": learned.astype(int).tolist()} for ids, learned in pairs]


def _pad(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), width), PAD)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        own, learned = torch.tensor(row["input_ids"]), torch.tensor(row["completion_mask"])
        ids[number, : len(own)], mask[number, : len(own)] = own, 1
        labels[number, : len(own)] = own.masked_fill(learned == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _train_hf(asked: dict[str, Any]) -> dict[str, float]:
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments

    model, config = _load(asked)
    arguments = TrainingArguments(**_common(asked), remove_unused_columns=False)
    rows: Any = _read_rows(asked)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    trainer = Trainer(model=adapted, args=arguments, train_dataset=rows, data_collator=_pad)
    return trainer.train().metrics


def _train_trl(asked: dict[str, Any]) -> dict[str, float]:
    from transformers import AutoTokenizer

    trl: Any = import_module("trl")
    datasets: Any = import_module("datasets")
    model, config = _load(asked)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            **_common(asked), max_length=None, completion_only_loss=True, bf16=asked["format"] == "bfloat16"
        ),
        train_dataset=datasets.Dataset.from_list(_read_rows(asked)),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        peft_config=config,
    )
    metrics: dict[str, float] = trainer.train().metrics
    return metrics


def _train_llamafactory(asked: dict[str, Any]) -> dict[str, float]:
    folder = Path(asked["folder"])
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }
    (folder / "dataset_info.json").write_text(json.dumps({"rows": described}), encoding="utf-8")
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    sound = ModuleType("torchaudio")  # imported for sound alone, and no build of it goes with this PyTorch
    sound.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = sound
    common = _common(asked)
    import_module("llamafactory.train.tuner").run_exp(
        {
            **common,
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": asked["model"],
            "dataset": "rows",
            "dataset_dir": str(folder),
            "template": "smollm2",
            "cutoff_len": 2048,
            "finetuning_type": "lora",
            "lora_rank": asked["rank"],
            "lora_alpha": asked["alpha"],
            "lora_target": "all",
            "bf16": asked["format"] == "bfloat16",
            "overwrite_output_dir": True,
        }
    )
    told: dict[str, float] = json.loads((Path(common["output_dir"]) / "train_results.json").read_text(encoding="utf-8"))
    return told


if __name__ == "__main__":
    main()
