"""The report that a user may hand on: what helps is in it, and nothing that is nobody's business."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from core.azureml.settings import make_settings, save_settings
from core.home import Home
from core.support_bundle import Redactor, write_report

TENANT = "11111111-2222-3333-4444-555555555555"
KEY = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"


def fill(home: Home) -> list[str]:
    """Put secrets into the logs of a home; return them."""
    save_settings(make_settings("99999999-8888-7777-6666-555555555555", "rg-payroll", "ml-payroll", TENANT))
    secrets = [
        home.secret(),
        TENANT,
        "anna@contoso.example",
        "rg-payroll",
        "ml-payroll",
        str(home.path),
        KEY,
        "eyJhbGciOi.eyJhdWQiOi.c2lnbmF0dXJl",
        "sigvalue123",
    ]
    lines = [f"2026-11-23 ERROR core.local.server it failed: {secret}" for secret in secrets[:-1]]
    lines.append("GET https://a.blob.core.windows.net/c/b?sv=1&sig=sigvalue123&se=2")
    (home.logs / "server.log").write_text("\n".join(lines), encoding="utf-8")
    step = home.runs / "brave-otter" / "finetune"
    step.mkdir(parents=True)
    (step / "error.json").write_text('{"message": "The loss is not a number."}', encoding="utf-8")
    return secrets


def test_a_report_holds_versions_logs_and_errors_and_no_secret(home: Home, tmp_path: Path) -> None:
    secrets = fill(home)
    path = write_report(home, tmp_path / "out")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert "azure-ai-ml 1." in parts["versions.txt"]
    assert "torch 2." in parts["versions.txt"]
    assert parts["logs/server.log"].count("core.local.server it failed") == len(secrets) - 1
    assert "not a number" in parts["runs/brave-otter-finetune.json"]
    assert "runs: 1 files" in parts["home.txt"]
    for secret in secrets:
        assert all(secret not in text and secret not in name for name, text in parts.items()), secret


def test_the_same_name_has_the_same_stand_in(home: Home) -> None:
    fill(home)
    clean = Redactor(home).clean
    assert clean("ml-payroll and ml-payroll-2") == "workspace-1 and ml-payroll-2"
    assert clean(f"{TENANT} {TENANT.upper()}").split(" ")[0] == clean(TENANT)


def test_a_home_nobody_has_used_gives_a_report_too(home: Home) -> None:
    assert write_report(home).exists()
