"""A base model is looked at, fetched and taken: from a folder, and from a hub with the wire of the real one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.engine.model_check import ModelCheck, Space
from core.errors import BadInput, Conflict, NotFound, TunedeckError, Unreachable
from core.home import Home
from core.local import add_model, base_model
from core.local.machine import Machine
from core.local.model_registry import ModelRegistry
from core.local.model_source import open_source
from tests.core.dataset.hub_server import COMMIT, Hub, serving
from tests.model_families import build_family

NAME = "someone/tiny-smollm"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as it would be downloaded: 2 MB of weights in two files, a card, and what is never taken."""
    folder = build_family(tmp_path_factory.mktemp("hub") / "tiny-smollm", "smollm", hidden_size=256, shards="1MB")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n", encoding="utf-8")
    (folder / "run.py").write_text("raise SystemExit", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training in this process has the hub offline for good; the program of an addition is one of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with serving({f"models/{NAME}": read_files(model) | {"onnx/model.safetensors": b"x"}}, token="hf_secret") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def read_registry(home: Home) -> ModelRegistry:
    return ModelRegistry(home.base_models, Machine(2, 8.0))


def test_a_model_of_the_hub_is_looked_at_by_its_headers_and_fetched_whole(home: Home, hub: Hub, model: Path) -> None:
    source = open_source(f"{hub.url}/{NAME}", "main")
    look = add_model.look_at(home, source)
    assert [line.name for line in look.lines if line.state != "ok"] == []
    assert (look.name, look.version, look.revision) == ("tiny-smollm", "1", COMMIT)
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert sum(given for name, given in hub.given.items() if "safetensors" in name) < weights / 10
    assert [path.name for path in home.path.iterdir() if path.name.startswith(".look")] == []

    work = home.base_models / add_model.ADDING / "one"
    assert add_model.add(home, source, work) == ("tiny-smollm", "1")
    found = read_registry(home).find_model("tiny-smollm")
    assert found is not None
    assert found.folder is not None
    taken = {path.name for path in found.folder.iterdir()} - {"tunedeck.json"}
    assert taken == {path.name for path in model.iterdir()} - {"run.py"}
    assert all((found.folder / name).read_bytes() == (model / name).read_bytes() for name in taken)
    assert found.tags["license"] == "apache-2.0"
    assert found.tags["weights_source"] == f"added by you from {hub.url}/{NAME} at {COMMIT[:8]}"
    assert json.loads(found.tags["model_specific_defaults"])["per_device_train_batch_size"] == 4
    assert found.tags["lora_targets"].split(", ")[0] == "down_proj"

    assert add_model.add(home, source, work) == ("tiny-smollm", "1")  # the same addition is not done twice
    assert add_model.look_at(home, source).version == "2"
    add_model.remove(home, "tiny-smollm", "1")
    assert read_registry(home).find_model("tiny-smollm") is None
    assert hub.told_elsewhere == []


def test_a_line_that_breaks_is_taken_up_where_it_broke_then_and_later(home: Home, hub: Hub, model: Path) -> None:
    largest = max(model.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    cuts: list[int] = []

    def before_piece(path: str, sent: int) -> bool:
        if path.endswith(largest.name) and sent >= 1 << 18 and len(cuts) < 2:
            cuts.append(len(hub.asked))
            return False
        return True

    hub.before_piece = before_piece
    hub.before_answer = lambda _: len(cuts) < 2  # after the second cut nothing comes any more
    work = home.base_models / add_model.ADDING / "one"
    with pytest.raises(Unreachable):
        add_model.run(home, NAME, "", work)
    assert json.loads((work / add_model.STATE).read_text())["error"]["kind"] == "Unreachable"
    assert read_registry(home).find_model("tiny-smollm") is None
    given, whole = hub.given[largest.name], largest.stat().st_size
    assert given < 2 * whole
    hub.before_answer = lambda _: True
    assert add_model.run(home, NAME, "", work) == "Added tiny-smollm 1."
    assert hub.given[largest.name] - given < whole - (1 << 18)


@pytest.mark.parametrize(
    ("name", "revision", "token", "kind", "said"),
    [
        ("someone/other", "", "", NotFound, "There is no model 'someone/other' on"),
        ("someone/other", "", "hf_secret", NotFound, "There is no model 'someone/other' on"),
        (NAME, "v9", "", NotFound, f"{NAME} has no revision 'v9'."),
        ("someone/gated", "", "", BadInput, "someone/gated is gated: its owner wants its terms accepted."),
        ("someone/gated", "", "hf_wrong", BadInput, "someone/gated is gated: its owner wants its terms accepted."),
        ("someone/pickled", "", "", BadInput, "someone/pickled has its weights as a pickle (pytorch_model.bin)"),
        ("someone/vast", "", "", BadInput, "config.json of someone/vast is larger than any such file is."),
        ("../../etc", "", "", BadInput, "That is not the id of a model."),
        (NAME, "../main", "", BadInput, "That is not a revision."),
    ],
)
def test_what_the_hub_does_not_give_has_its_own_sentence(
    home: Home,
    hub: Hub,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    revision: str,
    token: str,
    kind: type[TunedeckError],
    said: str,
) -> None:
    hub.files |= {
        "models/someone/gated": read_files(model),
        "models/someone/pickled": {"config.json": b"{}", "pytorch_model.bin": b"x"},
        "models/someone/vast": {"config.json": b" " * (2 << 20), "model.safetensors": b"x"},
    }
    hub.gated.add("models/someone/gated")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind) as caught:
        add_model.look_at(home, open_source(name, revision))
    assert caught.value.message.startswith(said)
    assert caught.value.hint
    assert "hf_" not in f"{caught.value} {caught.value.detail}"


def test_a_folder_with_a_broken_config_and_no_weights_is_told_of_both(home: Home, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    look = add_model.look_at(home, open_source(str(tmp_path)))
    said = {line.name: line.said for line in look.lines if line.state == "failed"}
    assert said["Weights"] == "It holds no .safetensors weights."
    assert said["Architecture"].endswith("its file config.json is not JSON.")


def test_a_gated_model_is_fetched_with_the_token_which_no_other_host_hears(
    home: Home, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add(f"models/{NAME}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    work = home.base_models / add_model.ADDING / "one"
    add_model.run(home, NAME, "", work)
    assert (hub.told_elsewhere, hub.given["model.safetensors.index.json"] > 0) == ([], True)
    kept = [path for path in home.path.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]
    assert kept == []


def test_without_a_network_a_folder_is_offered(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        open_source(NAME)
    assert str(caught.value) == (
        "127.0.0.1:9 cannot be reached from this machine. "
        "Check the network, or fetch the model elsewhere and add its folder."
    )


def test_weights_that_arrive_otherwise_than_the_hub_has_them_are_refused_and_fetched_anew(
    home: Home, hub: Hub, model: Path
) -> None:
    source = open_source(NAME)
    name = max(path.name for path in model.glob("*.safetensors"))
    good = hub.files[f"models/{NAME}"][name]
    hub.files[f"models/{NAME}"][name] = good[:-4] + b"\0\1\2\3"
    work = home.base_models / add_model.ADDING / "one"
    with pytest.raises(BadInput, match=f"{name} did not arrive as the hub has it: its hash differs."):
        add_model.add(home, source, work)
    hub.files[f"models/{NAME}"][name] = good
    assert add_model.add(home, source, work) == ("tiny-smollm", "1")


def change_config(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = min(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def no_template(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "chat_template": None}), encoding="utf-8")


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "Architecture",
        lambda f: change_config(f, model_type="mamba"),
        "Its architecture 'mamba' cannot be trained here.",
    ),
    (
        "Architecture",
        lambda f: change_config(f, architectures=["LlamaForSequenceClassification"]),
        "It is no language model but ['LlamaForSequenceClassification'].",
    ),
    (
        "Architecture",
        lambda f: change_config(f, quantization_config={"quant_method": "gptq"}),
        "Its weights are quantised, and cannot be trained.",
    ),
    ("Architecture", lambda f: (f / "config.json").write_text("{"), "The model folder"),
    ("Architecture", lambda f: (f / "config.json").unlink(), "There is no config.json"),
    (
        "Code",
        lambda f: change_config(f, auto_map={"AutoModelForCausalLM": "run.Model"}),
        "It wants code of its own (auto_map in config.json), which is never run here.",
    ),
    ("Weights", lambda f: change_config(f, num_hidden_layers=10**9), "Its config.json asks for 1000000000 layers"),
    ("Weights", lambda f: change_config(f, num_attention_heads=3), "Its config.json describes no model"),
    ("Weights", lambda f: change_config(f, intermediate_size=65), "6 tensors of the weights are missing or not as"),
    ("Weights", lambda f: change_weights(f, lambda t: t.popitem()), "1 tensor of the weights is missing or not as"),
    (
        "Weights",
        lambda f: change_weights(f, lambda t: t.update(own=np.zeros(3, np.int8))),
        "Its weights are stored as I8, and cannot be trained.",
    ),
    ("Tokenizer", lambda f: (f / "tokenizer.json").unlink(), "There is no tokenizer.json"),
    ("Tokenizer", lambda f: (f / "tokenizer.json").write_text("{}"), "The model folder"),
    ("Tokenizer", lambda f: change_config(f, vocab_size=300), "Its tokenizer has words up to number 360"),
    ("Chat template", no_template, "It has no chat template: it is a base model that was never taught to chat."),
    (
        "Chat template",
        lambda f: (f / "chat_template.jinja").write_text("{{ messages[0].content.__class__.mro() }}"),
        "The model's chat template refuses the conversation",
    ),
    ("Chat template", lambda f: (f / "chat_template.jinja").write_text("{{ bos_token }}"), "The model's chat template"),
]


@pytest.mark.parametrize(("line", "change", "said"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_a_model_that_cannot_be_used_is_refused_with_its_reason(
    home: Home, model: Path, tmp_path: Path, line: str, change: Callable[[Path], object], said: str
) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    change(folder)
    look = add_model.look_at(home, open_source(str(folder)))
    failed = {each.name: each for each in look.lines if each.state == "failed"}
    assert failed[line].said.startswith(said)
    assert failed[line].hint


def test_a_model_that_is_refused_leaves_nothing_in_the_registry(home: Home, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    no_template(folder)
    with pytest.raises(BadInput, match="It has no chat template") as caught:
        add_model.run(home, str(folder), "", tmp_path / "work")
    state = json.loads((tmp_path / "work" / add_model.STATE).read_text())
    assert state["error"]["hint"] == caught.value.hint != ""
    assert not read_registry(home).list_versions("copy")


def test_a_model_too_large_for_this_machine_is_refused_and_a_tight_one_takes_smaller_batches(model: Path) -> None:
    lines = {each.name: each for each in ModelCheck(model, Space(400 << 20)).ask()}
    assert lines["Memory"].said.startswith("Training takes about ")
    assert lines["Memory"].said.endswith("; this machine has 419 MB.")
    assert lines["Memory"].state == "failed"
    tight = ModelCheck(model, Space(530 << 20))
    assert {each.state for each in tight.ask()} == {"ok"}
    assert json.loads(tight.tags["model_specific_defaults"])["per_device_train_batch_size"] < 4


def test_a_folder_is_copied_and_neither_links_out_of_it_nor_pipes_are_read(
    home: Home, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "mine")
    assert add_model.run(home, str(folder), "") == "Added mine 1."
    assert add_model.run(home, str(folder), "") == "Added mine 1."
    (folder / "LICENSE").write_text("Another.", encoding="utf-8")
    assert add_model.run(home, str(folder), "") == "Added mine 2."
    other = shutil.copytree(model, tmp_path / "elsewhere" / "mine")
    assert add_model.look_at(home, open_source(str(other))).name == "mine-2"
    weights = min(folder.glob("*.safetensors"))
    own = home.base_models / "mine" / "1" / weights.name
    weights.write_bytes(b"")
    assert own.stat().st_size > 1000
    weights.unlink()
    weights.symlink_to(model / weights.name)
    with pytest.raises(BadInput, match="leads out of the folder"):
        open_source(str(folder))
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(BadInput, match="is no file"):
        open_source(str(folder))
    with pytest.raises(NotFound, match="There is no folder /nowhere on this machine"):
        open_source("/nowhere")


def test_a_snapshot_of_the_hubs_own_cache_is_a_folder_like_any_other(home: Home, model: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / COMMIT
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        shutil.copy(path, blobs / f"sha-{path.name}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"sha-{path.name}")
    add_model.run(home, str(snapshot), "")
    found = read_registry(home).find_model(COMMIT)
    assert found is not None
    assert found.folder is not None
    assert not any(path.is_symlink() for path in found.folder.iterdir())


def test_what_came_with_tunedeck_is_not_removed(home: Home) -> None:
    folder = home.base_models / "tiny" / "1"
    folder.mkdir(parents=True)
    (folder / "tunedeck.json").write_text('{"name": "tiny", "version": "1"}')
    with pytest.raises(Conflict, match="tiny 1 was not added by you"):
        add_model.remove(home, "tiny", "1")
    with pytest.raises(NotFound):
        add_model.remove(home, "Phi-4", "7")


def test_the_bundled_model_is_known_by_its_short_name_and_fetched_once(home: Home, tmp_path: Path) -> None:
    folder = home.base_models / base_model.NAME / base_model.VERSION
    folder.mkdir(parents=True)
    (folder / base_model.MANIFEST).write_text("{}", encoding="utf-8")
    said = add_model.run(home, "SmolLM2", "", tmp_path / "work")
    assert said == "Added SmolLM2-135M-Instruct 1."
    assert json.loads((tmp_path / "work" / "state.json").read_text()) == {"name": base_model.NAME, "version": "1"}
