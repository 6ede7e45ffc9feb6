"""Tokens of the real AzureCliCredential, from an `az` that is a program on the PATH and counts its starts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential

from core.azureml.tokens import MARGIN_S, KeptTokens
from tests.azure import az
from tests.azure.login import TENANT

ARM = "https://management.azure.com/.default"
STORAGE = "https://storage.azure.com/.default"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = az.install(
        tmp_path / "programs", state="signed in", tenant=TENANT, user="ada@contoso.com", subscription="s"
    )
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_az_is_started_once_per_scope_and_tenant(programs: Path) -> None:
    kept = KeptTokens(AzureCliCredential(additionally_allowed_tenants=["*"]))
    tokens = {kept.get_token(ARM).token for _ in range(8)}
    assert (len(tokens), az.count_starts(programs)) == (1, 1)
    kept.get_token(STORAGE)
    kept.get_token(ARM, tenant_id=TENANT)
    assert az.count_starts(programs) == 3


def test_threads_that_ask_at_once_start_az_once(programs: Path) -> None:
    kept, gate = KeptTokens(AzureCliCredential()), threading.Barrier(8)

    def ask() -> str:
        gate.wait()
        return kept.get_token(ARM).token

    with ThreadPoolExecutor(8) as pool:
        tokens = {asked.result() for asked in [pool.submit(ask) for _ in range(8)]}
    assert (len(tokens), az.count_starts(programs)) == (1, 1)


def test_a_token_is_renewed_some_minutes_before_it_ends(programs: Path) -> None:
    ahead_s = 0.0
    kept = KeptTokens(AzureCliCredential(), clock=lambda: time.time() + ahead_s)
    first = kept.get_token(ARM)
    ahead_s = az.LIFE_S - MARGIN_S - 30
    assert kept.get_token(ARM) is first
    ahead_s = az.LIFE_S - MARGIN_S + 1
    kept.get_token(ARM)
    assert az.count_starts(programs) == 2


def test_an_az_that_is_signed_out_is_asked_again_at_once(programs: Path) -> None:
    kept = KeptTokens(AzureCliCredential())
    az.choose(programs, state="expired")
    with pytest.raises(ClientAuthenticationError, match="AADSTS700082"):
        kept.get_token(ARM)
    az.choose(programs, state="signed in")
    assert kept.get_token(ARM).token


def test_a_renewal_that_fails_leaves_a_token_for_as_long_as_it_is_good(programs: Path) -> None:
    ahead_s = 0.0
    kept = KeptTokens(AzureCliCredential(), clock=lambda: time.time() + ahead_s)
    first = kept.get_token(ARM)
    az.choose(programs, state="expired")
    ahead_s = az.LIFE_S - 60
    assert [kept.get_token(ARM) is first for _ in range(3)] == [True] * 3
    assert az.count_starts(programs) == 2, "and az is not tried at each ask"
    ahead_s = az.LIFE_S + 1
    with pytest.raises(ClientAuthenticationError, match="AADSTS700082"):
        kept.get_token(ARM)


def test_a_token_is_in_no_words_about_the_credential(programs: Path) -> None:
    kept = KeptTokens(AzureCliCredential())
    token = kept.get_token(ARM).token
    assert token not in f"{kept!r} {vars(kept)!r}"
