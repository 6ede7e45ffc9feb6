"""What runs as `az`: the two commands that a sign-in needs, answered as the folder's az.json says. And a browser.

az.json: "state" is signed in or one of REFUSALS; "tenant" and "user" are whom a token is for. Each start adds a
line to az.starts: its arguments. Only the standard library is imported: a start should cost no more than it must.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.azure.tokens import make_token

REFUSALS = {
    "no such tenant": "ERROR: AADSTS90002: Tenant 'x' not found. Check to make sure you have the correct tenant ID.",
    "signed out": "ERROR: Please run 'az login' to setup account.",
    "expired": (
        "ERROR: AADSTS700082: The refresh token has expired due to inactivity. The token was issued on 2026-05-04 and "
        "was inactive for 90.00:00:00.\nInteractive authentication is needed. Please run:\naz login"
    ),
}
LIFE_S = 3600


def install(folder: Path, **choices: str) -> Path:
    """Write `az` and `azd` into a folder and return it; it belongs at the front of the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    repository = Path(__file__).parents[2]
    start = f'PYTHONPATH="{repository}" exec "{sys.executable}" -S -m tests.azure.'
    _write_program(folder / "az", f'{start}az "{folder}" "$@"')
    _write_program(folder / "browser", f'{start}browser "$@"')
    _write_program(folder / "azd", "echo 'ERROR: not logged in, run `azd auth login` to login' >&2; exit 1")
    choose(folder, **choices)
    return folder


def choose(folder: Path, **choices: str) -> None:
    """Change what `az` says from now on."""
    path = folder / "az.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**kept, **choices}), encoding="utf-8")


def count_starts(folder: Path) -> int:
    """Return how often `az` was started."""
    path = folder / "az.starts"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Answer one command line; print the answer and return the exit status."""
    with (folder / "az.starts").open("a", encoding="utf-8") as file:
        file.write(" ".join(arguments) + "\n")
    known = json.loads((folder / "az.json").read_text(encoding="utf-8"))
    if refusal := REFUSALS.get(known["state"]):
        print(refusal, file=sys.stderr)
        return 1
    if list(arguments[:2]) == ["account", "get-access-token"]:
        answer = _token(known, _option(arguments, "--resource") or "https://management.core.windows.net/")
    elif list(arguments[:2]) == ["account", "show"]:
        answer = _account(known)
    else:
        print(f"ERROR: '{' '.join(arguments)}' is misspelled or not recognized by the system.", file=sys.stderr)
        return 2
    print(json.dumps(answer, indent=2))
    return 0


def _token(known: dict[str, str], resource: str) -> dict[str, Any]:
    until = int(time.time()) + LIFE_S
    return {
        "accessToken": make_token(resource, known["tenant"], LIFE_S, upn=known["user"], oid="az-user"),
        "expiresOn": datetime.fromtimestamp(until).strftime("%Y-%m-%d %H:%M:%S.000000"),
        "expires_on": until,
        "subscription": known["subscription"],
        "tenant": known["tenant"],
        "tokenType": "Bearer",
    }


def _account(known: dict[str, str]) -> dict[str, Any]:
    return {
        "environmentName": "AzureCloud",
        "id": known["subscription"],
        "isDefault": True,
        "name": "ML development",
        "state": "Enabled",
        "tenantId": known["tenant"],
        "user": {"name": known["user"], "type": "user"},
    }


def _option(arguments: Sequence[str], name: str) -> str:
    return next((value for key, value in pairwise(arguments) if key == name), "")


def _write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
