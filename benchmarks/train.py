"""Training beside its peers: HF Trainer, TRL's SFTTrainer and LLaMA-Factory, in turns with ours on the same rows.

The peers run in an environment of their own (`--peers`, made with pip at first use). Model, LoRA, batch, rows and steps
are the same; HF Trainer computes in the number format that ours chose and keeps activations, the others do as they are
shipped. A figure is tokens of the rows a second of the training loop, the start left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import home as homes
from core.engine.token_rows import read_rows
from core.home import REPOSITORY
from core.local.base_model import NAME
from core.local.processes import KEEP_MEMORY

SAMPLE = REPOSITORY / "core" / "dataset" / "sample" / "train.jsonl"
PEERS = {"hf": "HF Trainer", "trl": "TRL SFTTrainer", "llamafactory": "LLaMA-Factory"}
BARS = {"long": 1.3, "bundled": 1.65}  # times HF Trainer
MEMORY_BAR_GIB = 4.0
LONG_TOKENS = 500, 1500
CHARACTERS_OF_A_TOKEN = 3.3
LORA = {"apply_lora": "true", "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0, "learning_rate": 2e-4}
BATCH = 4
PATIENCE_S = 3600


@dataclass(frozen=True)
class Run:
    """What one training measured. cpu_s: processor time of the whole process, its start included."""

    seconds: float
    peak_gib: float
    loss: float
    cpu_s: float


def measure(steps: int, turns: int, environment: Path | None, kinds: Sequence[str], peers: Sequence[str]) -> bool:
    """Print tokens a second, peak memory and ratios; tell whether all bars that could be measured are met."""
    model = homes.current().base_models / NAME / "1"
    assert model.is_dir(), f"{model} is missing: make base-model"
    python, missing = _make_environment(environment or homes.current().path / "peers", peers)
    fits = True
    with tempfile.TemporaryDirectory(prefix="tunedeck-train-") as name:
        for kind in kinds:
            folder = Path(name) / kind
            tokens = _prepare(folder, kind, steps * BATCH, model)
            beside = [name for name in peers if name not in missing]
            runs = _take_turns(folder, model, python, beside, missing, steps, turns)
            fits = _print(kind, tokens, runs, missing) and fits
    return fits


def _make_environment(folder: Path, peers: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Install these peers; return their Python, and for those that cannot be had the reason."""
    import torch

    python = folder / "bin" / "python"
    if not python.is_file():
        venv.create(folder, with_pip=True)
    missing = {}
    for packages, names in ((["llamafactory"], ["llamafactory"]), (["trl", "peft"], ["hf", "trl"])):
        if not set(names) & set(peers) or _imports(python, packages[-1]):
            continue
        print(f"Installing {' and '.join(packages)} into {folder}.", flush=True)
        command = [str(python), "-m", "pip", "install", "--quiet", f"torch=={torch.__version__}", *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # Builds of these that go with another torch keep transformers from being imported; text needs neither.
        unneeded = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio"]
        subprocess.run(unneeded, capture_output=True, check=False)
        if done.returncode:
            missing |= dict.fromkeys(names, (done.stderr.strip().splitlines() or ["pip failed"])[-1])
    return python, missing


def _imports(python: Path, package: str) -> bool:
    found = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    return subprocess.run([str(python), "-c", found], check=False).returncode == 0


def _prepare(folder: Path, kind: str, count: int, model: Path) -> int:
    """Write the rows as chats and, by our preprocessing, as tokens; return how many tokens they have."""
    folder.mkdir()
    bundled = [json.loads(line)["messages"] for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    chats = [bundled[number % len(bundled)] for number in range(count)] if kind == "bundled" else _long(bundled, count)
    lines = [json.dumps({"messages": messages}) for messages in chats]
    for name, kept in (("train", lines), ("validation", lines[:2]), ("test", lines[:2])):
        (folder / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    files = {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "validation", "test")}
    _run_ours("preprocess", folder / "data", {**files, "model_dir": str(model), "parameters": {}})
    rows = read_rows(folder / "data" / "outputs" / "train.safetensors")
    print(
        f"\n{kind} rows: {len(rows)} of {rows.lengths.min()} to {rows.lengths.max()} tokens, {BATCH} a batch",
        flush=True,
    )
    return int(rows.lengths.sum())


def _long(chats: list[Any], count: int) -> list[Any]:
    """Make chats of several turns, as long as ultrachat's, of what the bundled ones say."""
    random = np.random.default_rng(0)
    made = []
    for tokens in random.integers(*LONG_TOKENS, count):
        messages: list[dict[str, str]] = []
        while sum(len(each["content"]) for each in messages) < tokens * CHARACTERS_OF_A_TOKEN:
            chosen = [chats[index] for index in random.integers(0, len(chats), 6)]
            messages.append({"role": "user", "content": chosen[0][-2]["content"]})
            messages.append({"role": "assistant", "content": " ".join(chat[-1]["content"] for chat in chosen)})
        made.append(messages)
    return made


def _take_turns(
    folder: Path, model: Path, python: Path, beside: Sequence[str], missing: dict[str, str], steps: int, turns: int
) -> dict[str, list[Run]]:
    """Train with each in turn; a peer that fails joins the `missing`, with its last words."""
    runs: dict[str, list[Run]] = {name: [] for name in ("ours", *beside)}
    number_format = ""
    for turn in range(turns):
        for name, taken in list(runs.items()):
            began = time.perf_counter()
            if name == "ours":
                run, number_format = _train_ours(folder / f"ours-{turn}", folder, model, steps)
            else:
                try:
                    run = _train_peer(name, folder, model, python, number_format, steps)
                except RuntimeError as error:
                    missing[name] = str(error).strip().splitlines()[-1]
                    runs.pop(name)
                    continue
            taken.append(run)
            whole = time.perf_counter() - began
            spent = f"{run.seconds:.1f} s in its loop, {whole:.0f} s in all, {run.cpu_s:.0f} s of the processors"
            print(f"  turn {turn + 1} {name}: {spent}, loss {run.loss:.3f}", flush=True)
    return runs


def _train_ours(work: Path, folder: Path, model: Path, steps: int) -> tuple[Run, str]:
    parameters = {
        **LORA,
        "max_steps": steps,
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "evaluation_strategy": "disable",
        "number_of_gpu_to_use_finetuning": 0,
        "logging_steps": 1,
        "precision": "16",
    }
    config = {
        "model_dir": str(model),
        "data_dir": str(folder / "data" / "outputs"),
        "cores": os.cpu_count(),
        "parameters": {key: str(value) for key, value in parameters.items()},
    }
    began = os.times()
    _run_ours("finetune", work, config)
    ended = os.times()
    cpu_s = ended.children_user + ended.children_system - began.children_user - began.children_system
    facts = json.loads((work / "outputs" / "training.json").read_text(encoding="utf-8"))
    seconds = facts["tokens"] / facts["tokens_per_second"]
    peak = facts["peak_memory_bytes"] / 2**30
    return Run(seconds, peak, facts["train_loss"], cpu_s), str(facts["number_format"])


def _run_ours(program: str, folder: Path, config: dict[str, Any]) -> None:
    (folder / "outputs").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", f"core.engine.{program}", "--config", str(folder / "config.json")]
    _run(command, {**os.environ, **KEEP_MEMORY})


def _train_peer(name: str, folder: Path, model: Path, python: Path, number_format: str, steps: int) -> Run:
    script = Path(__file__).with_name("peer_training.py")
    asked = {"name": name, "folder": str(folder), "model": str(model), "format": number_format, "steps": steps}
    asked |= {"batch": BATCH, "rank": LORA["lora_r"], "alpha": LORA["lora_alpha"], "rate": LORA["learning_rate"]}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    said = _run([str(python), str(script), json.dumps(asked)], environment)
    return Run(**json.loads(said.strip().splitlines()[-1]))


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _print(kind: str, tokens: int, runs: dict[str, list[Run]], missing: dict[str, str]) -> bool:
    """Print a table; each ratio is the median of the turns' own, since a machine's pace changes between turns."""
    peak = max(run.peak_gib for run in runs["ours"])
    print(f"\n| {kind} rows | tokens/s, best | peak, GiB | ours is faster by | bar |\n|---|---|---|---|---|")
    fits = peak < MEMORY_BAR_GIB and "hf" in runs
    for name, taken in runs.items():
        ratio = statistics.median(each.seconds / own.seconds for each, own in zip(taken, runs["ours"], strict=True))
        speed, own_peak = tokens / min(run.seconds for run in taken), max(run.peak_gib for run in taken)
        bar = f"{BARS[kind]}" if name == "hf" else f"{MEMORY_BAR_GIB:.0f} GiB" if name == "ours" else ""
        print(f"| {PEERS.get(name, 'ours')} | {speed:.0f} | {own_peak:.2f} | {ratio:.2f} | {bar} |")
        fits = fits and (name != "hf" or ratio >= BARS[kind])
    for name, why in missing.items():
        print(f"| {PEERS[name]} | not measured: {why} | | | |")
    return fits
