"""`python -m tests.azure verify`: what it finds, what it writes down, and that it starts nothing unasked."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from core.azureml import roles
from core.azureml.connection import Connection
from core.azureml.settings import save_settings
from core.runs import index
from tests.azure import verify
from tests.azure.behind import GROUP, SUBSCRIPTION, WORKSPACE
from tests.azure.shapes import find_differences, mask
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import COMPUTE, walking
from tests.soak import is_soak
from tests.tiny_model import NAME


def test_a_service_that_answers_as_the_stand_in_passes_and_one_that_leaves_a_key_out_differs(azure: StandIn) -> None:
    with walking(azure) as walk:
        walk.ensure_compute()
    results, expected = verify.read_all(Connection(azure.settings(), azure.home))
    assert {result.state for result in verify.compare(results, expected, expected)} == {"passes"}, results
    azure.rules.add("/computes", 200, body=json.dumps({"value": [{"name": COMPUTE, "properties": {}}]}), times=9)
    results, found = verify.read_all(Connection(azure.settings(), azure.home))
    told = {result.title: result for result in verify.compare(results, found, expected)}
    assert told["Computes"].state == "differs"
    assert "<workspace>/computes 200: no value[].id" in told["Computes"].detail
    assert told["Quota"].state == "passes"


def test_it_writes_the_table_and_shapes_without_a_name_or_value_of_the_workspace(
    azure: StandIn, conn: Connection, tmp_path: Path
) -> None:
    shutil.copy(verify.DOCS / "azure.md", tmp_path)
    results, found = verify.read_all(conn)
    verify.write([*results.values(), verify.Result(verify.RUN)], found, tmp_path)
    page, recorded = (tmp_path / "azure.md").read_text(), (tmp_path / "azure-recording.json").read_text()
    assert "| Sign-in and workspace | passes | region eastus |" in page
    assert f"| {verify.RUN} | not tried |" in page
    assert "value[].properties.provisioningState" in recorded
    for own in (SUBSCRIPTION, GROUP, WORKSPACE, COMPUTE, "ada@contoso.com", str(azure.home.path)):
        assert f'"{own}' not in recorded
        assert own not in page


def test_the_table_of_the_docs_has_a_row_for_each_check() -> None:
    rows = [line.split("|") for line in (verify.DOCS / "azure.md").read_text().splitlines() if line.startswith("| ")]
    tried = {cells[1].strip(): cells[2].strip() for cells in rows if len(cells) == 5}
    assert set(tried) >= {*verify.READ, verify.RUN}


def test_no_run_begins_before_the_price_was_agreed_to(
    azure: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with walking(azure) as walk:
        walk.ensure_compute()
        options = verify.parse(["--at", walk.conn.alias, "--compute", COMPUTE, "--model", NAME])
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        assert verify.run_if_wanted(walk.conn, options) == verify.Result(verify.RUN)
        assert "($3.67/h). It is cancelled after 60 min: at most $3.67." in capsys.readouterr().out.replace(
            f"{SIZE}, ", ""
        )
        assert index.list_runs(walk.conn) == []


def test_a_run_is_cancelled_when_its_time_is_up(azure: StandIn) -> None:
    with walking(azure) as walk, azure.hurried():
        walk.ensure_compute()
        plan = verify.plan_run(walk.conn, NAME, COMPUTE)
        assert plan.ready, plan.failures
        late = verify.run_capped(walk.conn, plan, most_minutes=0, look_s=0.05)
        assert (late.state, late.detail) == ("differs", "cancelled after 0 min")
        assert not [run for run in index.list_runs(walk.conn) if not run.state.finished]


@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="half a minute on 2 cores: make soak TESTS=tests/azure/test_verify.py")
def test_the_whole_command_passes_on_a_stand_in_that_is_taken_for_the_service(
    azure: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(verify.DOCS / "azure.md", tmp_path)
    with walking(azure) as walk, azure.hurried():
        walk.ensure_compute()
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{WORKSPACE}\n"))
        options = ["--at", walk.conn.alias, "--compute", COMPUTE, "--model", NAME, "--docs", str(tmp_path)]
        assert verify.main(options) == 0
    page = (tmp_path / "azure.md").read_text()
    assert f"| {verify.RUN} | passes | Completed, 4 points of the loss |" in page
    assert "| differs |" not in page


def test_a_workspace_that_is_not_on_azure_is_refused(azure: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    save_settings(azure.settings())
    with pytest.raises(SystemExit) as ended:
        verify.main(["--at", "local"])
    assert ended.value.code == 2
    assert "is not a workspace on Azure" in capsys.readouterr().err


def test_the_docs_name_the_actions_and_roles_that_connect_asks_for() -> None:
    page = (verify.DOCS / "azure.md").read_text()
    for doing, actions in roles.ACTIONS.items():
        smallest = dict.fromkeys(
            roles.role_for(f"Microsoft.MachineLearningServices/workspaces/{each}") for each in actions
        )
        assert f"| {doing} | {', '.join(f'`{each}`' for each in actions)} | {'; '.join(smallest)} |" in page


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (
            f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}",
            "management.azure.com/subscriptions/*/resourceGroups/*",
        ),
        ("https://mystore.blob.core.windows.net/secret/file.jsonl?sig=abc", "*.blob.core.windows.net/*/*"),
        ("https://kettle-1.eastus.inference.ml.azure.com/score", "*.eastus.inference.ml.azure.com/score"),
    ],
)
def test_an_address_keeps_no_name(url: str, masked: str) -> None:
    assert mask(url) == masked


def test_an_empty_list_and_a_null_are_no_difference_but_another_type_is() -> None:
    expected = {"GET x 200": {"value": "list", "value[]": "object", "value[].id": "text", "count": "number"}}
    assert find_differences(expected, {"GET x 200": {"value": "list", "count": "any"}}) == []
    assert find_differences(expected, {"GET x 200": {"value": "list", "count": "text"}}) == [
        "GET x 200: count is text, not number"
    ]
