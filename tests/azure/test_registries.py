"""Azure's registries as the stand-in has them: listed behind, through storms and kills, looked at as they are shown."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest

from core.azureml.connection import Connection
from core.azureml.settings import save_settings
from core.catalog.catalogue import SCREENFUL, search
from core.catalog.flights import MOST
from core.catalog.kept import Kept, RegistryState, Wanted
from core.home import Home
from tests.azure.registries import MODELS, OWN, list_registries
from tests.azure.sites import PUBLIC
from tests.azure.stand_in import StandIn
from tests.catalogue import find_all
from tests.waiting import wait_until

LISTS = r"/registries/[^/]+/models\?"
EVERYTHING = Wanted(task="")
LISTER = """
import time
from core.azureml.connection import connect
from core.azureml.settings import list_settings
from core.catalog.catalogue import search
while True:
    search(connect(list_settings()[1]))
    time.sleep(0.05)
"""


@pytest.fixture
def conn(azure: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A connection of a home that has looked at no registry yet."""
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    settings = azure.settings()
    save_settings(settings)
    azure.rules.peak = 0
    return Connection(settings, Home(tmp_path))


def list_states(conn: Connection) -> dict[str, RegistryState]:
    return {each.name: each for each in search(conn).registries}


def pages_asked(azure: StandIn, since: int) -> Counter[str]:
    return Counter(each.url for each in azure.rules.asked(LISTS, since) if not each.ruled)


def test_all_registries_are_listed_whole_through_a_storm_and_each_refusal_costs_its_page(
    azure: StandIn, conn: Connection
) -> None:
    kept = Kept(conn.home, conn.alias)  # what a process that was killed has left: the link has run out meanwhile
    kept.add_registries(["azureml-meta"])
    kept.begin("azureml-meta")
    kept.keep_page("azureml-meta", [("renamed-since", "1", False)], f"https://{PUBLIC.api}/ran-out")
    azure.rules.add("/ran-out", 400)
    since = len(azure.rules)
    soon = formatdate(time.time() + 2, usegmt=True)
    for status, headers in ((429, {"Retry-After": "1"}), (503, {}), (429, {"Retry-After": soon})):
        azure.rules.add(LISTS, status, headers=headers, every=2, times=3)
    azure.rules.add(LISTS, 200, body='{"value": [', cut=True, every=2, times=3)
    azure.rules.add(LISTS, delay_s=0.2, times=16)  # so that there are some at once, however soon each is answered
    wait_until(lambda: any(each.problem and each.state == "listing" for each in search(conn).registries))
    found = find_all(conn, wanted=EVERYTHING)
    assert {each.state for each in found.registries} == {"complete"}, found.registries
    assert {name: each.listed for name, each in list_states(conn).items() if name} == {
        name: len(models) for name, models in list_registries().items()
    }
    assert found.matches == MODELS
    assert set(pages_asked(azure, since).values()) == {1}
    assert len([each for each in azure.rules.asked(LISTS, since) if each.ruled]) == 12
    for refused in azure.rules.asked(LISTS, since)[:6]:
        if refused.status == 429:
            again = next(each for each in azure.rules.asked(LISTS, since) if each.url == refused.url and not each.ruled)
            assert again.at - refused.at >= 0.95
    assert 1 < azure.rules.peak <= MOST


def test_what_is_on_screen_is_looked_at_and_of_the_rest_it_is_said_that_only_the_name_is_known(
    azure: StandIn, conn: Connection
) -> None:
    closed = '{"error": {"code": "UserError", "message": "User/tenant/subscription is not allowed to access registry"}}'
    azure.rules.add("registries/azureml-mistral/discovery", 403, body=closed)
    azure.rules.add("models/cohere-[^/]+-011/versions", 403)
    found = find_all(conn, "cohere", EVERYTHING)
    states = {each.name: each for each in found.registries}
    refused = states.pop("azureml-mistral")
    assert (refused.state, {each.state for each in states.values()}) == ("failed", {"complete"})
    assert refused.problem == "Registry 'azureml-mistral' is not open to this tenant or subscription."
    assert OWN in states, "of the subscription's own"
    assert found.matches == 20
    assert all(entry.model for entry in found.entries)
    (closed_model,) = find_all(conn, "cohere 011", EVERYTHING).entries
    assert closed_model.model is None
    assert closed_model.problem == "You may not read model 'cohere-mistralai-Mixtral-8x7B-v01-011' in 'ml-dev'."
    assert found.unknown > MODELS - 200
    before = len(azure.rules)
    tunable = find_all(conn, wanted=Wanted(tunable=True, current=True))
    assert len(tunable.entries) == SCREENFUL
    assert all(entry.model and entry.model.finetunable for entry in tunable.entries)
    assert len(azure.rules.asked(r"/models/[^/]+/versions/", before)) < MODELS / 2, "what it takes to fill the screen"
    assert all(entry.model for entry in search(conn, "cohere", EVERYTHING).entries), "it is kept"


def test_two_processes_list_once_and_when_one_is_killed_the_other_goes_on_at_its_page(
    azure: StandIn, conn: Connection, tmp_path: Path
) -> None:
    since = len(azure.rules)
    azure.rules.add(LISTS, delay_s=0.15, times=60)
    environment = {**os.environ, **azure.environment, "TUNEDECK_HOME": str(tmp_path)}
    other = subprocess.Popen([sys.executable, "-c", LISTER], env=environment, cwd=Path(__file__).parents[2])
    try:
        wait_until(lambda: len(azure.rules.asked(r"/registries/azureml/models\?", since)) > 2)
        wait_until(lambda: list_states(conn)["azureml"].listed >= 400)
    finally:
        other.kill()
        other.wait()
    half = list_states(conn)["azureml"]
    azure.rules.clear()
    assert (half.state, half.as_of) == ("listing", None)
    assert half.listed < len(list_registries()["azureml"])
    found = find_all(conn, wanted=EVERYTHING)
    assert {each.state for each in found.registries} == {"complete"}
    assert found.matches == MODELS
    asked = pages_asked(azure, since)
    assert [url for url, times in asked.items() if times > 1 and "$skip" not in url and "%24skip" not in url] == []
    assert sum(asked.values()) <= len(asked) + MOST, "at most the pages in flight are asked for again"
