"""A registered model behind an endpoint of Azure: its settings, why it did not start, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from core.errors import BadInput
from core.operations import start_deploy, start_redeploy
from core.serving import endpoints
from core.serving.deployment_settings import SETTINGS, find_default
from core.serving.endpoints import EndpointView
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking

MODEL = "good"
POLL = "mfeOperationsStatus"
LIVENESS = "liveness_probe."


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    """An operator at the stand-in with short programs, who has registered a model."""
    with walking(azure) as operator:
        register(operator)
        yield operator


def register(walk: Walk) -> None:
    from azure.ai.ml.entities import Model

    folder = walk.azure.workspace.home.blobs / "azureml-blobstore" / "models" / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    path = f"azureml://datastores/workspaceblobstore/paths/models/{MODEL}"
    walk.conn.workspace.models.create_or_update(Model(name=MODEL, version="1", path=path, type="custom_model"))


def deploy(walk: Walk, name: str, settings: Mapping[str, int] | None = None, instances: int = 1) -> EndpointView:
    started = start_deploy(
        walk.conn.alias, "", MODEL, name, SIZE, None, model_version="1", instances=instances, settings=settings
    )
    walk.finish(started)
    return endpoints.get_endpoint(walk.conn, name)


def test_a_deployment_gets_the_settings_that_were_chosen_and_a_second_one_begins_with_them(walk: Walk) -> None:
    """Takes some seconds: two deployments, with the real SDK and its polls."""
    chosen = {"request_settings.request_timeout_ms": 120, LIVENESS + "initial_delay": 900, "readiness_probe.period": 20}
    made = deploy(walk, "settings-1", chosen, instances=2).deployment
    assert made is not None
    assert made.instances == 2
    assert made.settings == {setting.name: chosen.get(setting.name, setting.service) for setting in SETTINGS}
    patient = made.settings | {LIVENESS + "failure_threshold": 60}
    endpoint = endpoints.get_endpoint(walk.conn, "settings-1")
    walk.finish(start_redeploy(walk.conn.alias, endpoint, SIZE, 1, patient))
    again = endpoints.get_endpoint(walk.conn, "settings-1")
    assert again.live
    assert again.deployment is not None
    assert (again.deployment.instances, again.deployment.settings) == (1, patient)
    assert [each.status for each in walk.azure.rules.asked("^PUT .*/settings-1/deployments/demo")] == [201, 201]


def test_what_nobody_chose_is_the_lessons_or_the_services_and_says_so() -> None:
    defaults = {setting.name: find_default(setting, {}) for setting in SETTINGS}
    assert defaults["request_settings.request_timeout_ms"] == (90, "lesson")
    assert defaults[LIVENESS + "initial_delay"] == (600, "lesson")
    assert defaults["request_settings.max_concurrent_requests_per_instance"] == (1, "service")
    assert find_default(SETTINGS[0], {SETTINGS[0].name: 30}, "shop") == (30, "runs now on shop")


@pytest.mark.parametrize(
    ("settings", "instances", "said"),
    [
        ({"request_settings.request_timeout_ms": 181}, 1, "'Request time-out (s)' is 1 to 180, not 181."),
        ({LIVENESS + "period": 0}, 1, "'A probe every (s)' is at least 1, not 0."),
        ({}, 51, "A deployment has 1 to 50 instances, not 51."),
    ],
)
def test_a_value_that_azure_refuses_is_refused_before_anything_is_sent(
    walk: Walk, settings: Mapping[str, int], instances: int, said: str
) -> None:
    with pytest.raises(BadInput) as refused:
        deploy(walk, "refused", settings, instances)
    assert refused.value.message == said
