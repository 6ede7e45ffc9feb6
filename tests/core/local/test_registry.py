from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pytest

from core.engine import component
from core.local.machine import Machine, probe
from core.local.model_registry import RUNS_ON, ModelRegistry
from tests.local_server import LocalServer, running_server

REGISTRY = (
    "/mferp/managementfrontend/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local-registry"
    "/providers/Microsoft.MachineLearningServices/registries/azureml"
)


def write_model(base_models: Path, name: str = "tiny", version: str = "1", **manifest: object) -> Path:
    folder = base_models / name / version
    folder.mkdir(parents=True)
    content = {"name": name, "version": version, "description": "d", "tags": {"task": "chat-completion"}, **manifest}
    (folder / "tunedeck.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path, Machine(cores=2, memory_gib=8.0))


def test_a_folder_put_there_is_published_with_this_machines_sizes(registry: ModelRegistry, tmp_path: Path) -> None:
    assert registry.find_model("tiny") is None
    folder = write_model(tmp_path, tags={"finetune_compute_allow_list": "local", "lora": 8})
    found = registry.find_model("tiny")
    assert found is not None
    assert found.folder == folder
    assert ast.literal_eval(found.tags["finetune_compute_allow_list"]) == ["local.cpu1", "local.cpu2"]
    assert found.tags["lora"] == "8"
    assert found.tags[RUNS_ON] == "Local"


def test_a_models_own_allow_list_stays(registry: ModelRegistry, tmp_path: Path) -> None:
    write_model(tmp_path, tags={"finetune_compute_allow_list": "['Standard_X']"})
    found = registry.find_model("tiny")
    assert found is not None
    assert found.tags["finetune_compute_allow_list"] == "['Standard_X']"
    assert "local.cpu1" in found.tags["inference_compute_allow_list"]


def test_the_newest_version_is_by_number_and_not_by_letter(registry: ModelRegistry, tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        write_model(tmp_path, version=version)
    assert [model.version for model in registry.list_versions("tiny")] == ["10", "9", "2"]
    assert registry.find_model("tiny").version == "10"  # type: ignore[union-attr]
    assert registry.find_model("tiny", "9").version == "9"  # type: ignore[union-attr]


def test_a_broken_or_unfinished_folder_is_left_out_and_the_others_stay(registry: ModelRegistry, tmp_path: Path) -> None:
    write_model(tmp_path)
    (write_model(tmp_path, name="broken") / "tunedeck.json").write_text("{", encoding="utf-8")
    write_model(tmp_path, name="listed", tags=["a"])
    folder = write_model(tmp_path, name="moved")
    folder.rename(folder.with_name("2"))
    write_model(tmp_path, name=".hidden")
    assert [model.name for model in registry.list_models() if model.folder] == ["tiny"]


def test_the_phi_family_is_there_with_its_true_tags_and_runs_on_azure(registry: ModelRegistry) -> None:
    phi = registry.find_model("Phi-3-mini-4k-instruct")
    assert phi is not None
    assert phi.folder is None
    assert phi.archived
    assert phi.tags["FinetuneRetirementDate"] == "2025-08-30"
    assert "Standard_NC24ads_A100_v4" in ast.literal_eval(phi.tags["finetune_compute_allow_list"])
    assert json.loads(phi.tags["model_specific_defaults"])["learning_rate"] == 5e-06
    assert phi.tags[RUNS_ON] == "Azure"
    assert len([model for model in registry.list_models() if model.name.startswith("Phi")]) == 11


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    base_models = tmp_path_factory.mktemp("base-models")
    write_model(base_models)
    with running_server(tmp_path_factory.mktemp("home"), TUNEDECK_BASE_MODELS=str(base_models)) as running:
        yield running


def test_discovery_leads_to_this_server_and_knows_one_registry(server: LocalServer) -> None:
    found = server.request("GET", "/registrymanagement/v1.0/registries/azureml/discovery").json()
    assert found["primaryRegionResourceProviderUri"] == f"{server.url}/"
    assert server.request("GET", "/registrymanagement/v1.0/registries/other/discovery").status_code == 404


def test_archived_models_are_listed_when_asked_for_and_found_by_name(server: LocalServer) -> None:
    def names(view: str) -> set[str]:
        answer = server.request("GET", f"{REGISTRY}/models?listViewType={view}").json()
        return {model["name"] for model in answer["value"]}

    assert names("ListViewType.ACTIVE_ONLY") == {
        "tiny",
        "Phi-3-small-8k-instruct",
        "Phi-3-vision-128k-instruct",
        "Phi-4",
    }
    assert "Phi-3-mini-4k-instruct" in names("ArchivedOnly")
    assert len(names("All")) == 12
    newest = "$orderBy=createdtime desc&$top=1"
    (found,) = server.request("GET", f"{REGISTRY}/models/Phi-3-mini-4k-instruct/versions?{newest}").json()["value"]
    assert found["id"] == "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/15"
    assert found["properties"]["flavors"] == {}
    answer = server.request("GET", f"{REGISTRY}/models/Phi-3-mini-4k-instruct/versions/16")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "UserError")


def test_pages_lead_to_the_next_until_all_is_listed(server: LocalServer) -> None:
    address, names = f"{REGISTRY}/models?listViewType=All&$top=5", []
    while address:
        page = server.request("GET", address).json()
        names += [model["name"] for model in page["value"]]
        address = page.get("nextLink", "").removeprefix(server.url)
    assert len(names) == len(set(names)) == 12


def test_the_component_is_published_as_its_table_says(server: LocalServer) -> None:
    address = f"{REGISTRY}/components/{component.NAME}/versions"
    (found,) = server.request("GET", f"{address}?$orderBy=createdtime desc&$top=1").json()["value"]
    spec = found["properties"]["componentSpec"]
    assert set(spec["inputs"]) == {each.name for each in component.INPUTS}
    assert len(spec["inputs"]) == 69
    assert server.request("GET", f"{address}/{component.VERSION}").json() == found
    assert server.request("GET", f"{address}/0.0.1").status_code == 404
    assert server.request("GET", f"{REGISTRY}/components/other/versions").status_code == 404


def test_local_allow_lists_are_what_compute_offers(server: LocalServer) -> None:
    tags = server.request("GET", f"{REGISTRY}/models/tiny/versions/1").json()["properties"]["tags"]
    assert ast.literal_eval(tags["finetune_compute_allow_list"]) == [size.name for size in probe().sizes]


MANIFESTS = {"deep": b"[" * 100_000, "bytes": b"\xff", "list": b"[1]", "cut": b'{"name": "broken"', "pipe": None}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_is_nonsense_or_a_pipe_hides_its_own_model_alone(
    server: LocalServer, content: bytes | None
) -> None:
    manifest = server.home.base_models / "broken" / "1" / "tunedeck.json"
    manifest.parent.mkdir(parents=True)
    os.mkfifo(manifest) if content is None else manifest.write_bytes(content)
    try:
        listed = server.request("GET", f"{REGISTRY}/models?listViewType=All&$top=100").json()["value"]
        assert "tiny" in [model["name"] for model in listed]
        assert "broken" not in [model["name"] for model in listed]
    finally:
        manifest.unlink()
        manifest.parent.rmdir()
