"""The one error of the local workspace's wire: a status, and Azure's code and message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from core.home import LOCATION

BEARER_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tunedeck-local", error="invalid_token"'}


class WireError(Exception):
    """What a request is refused with. `details` are (code, message) pairs."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = dict(headers or {})

    def to_wire(self, request_id: str = "") -> dict[str, Any]:
        """Return the envelope of the management front end."""
        info = {
            "ComponentName": "managementfrontend",
            "Correlation": {"operation": request_id, "request": request_id},
            "Environment": LOCATION,
            "Location": LOCATION,
            "Time": datetime.now(UTC).isoformat(),
        }
        error = {
            "code": self.code,
            "message": self.message,
            "details": [{"code": code, "message": message} for code, message in self.details],
            "additionalInfo": [{"type": name, "info": {"value": value}} for name, value in info.items()],
        }
        return {"error": error}


def expired_token() -> WireError:
    """Return the refusal of a token that was good once, in Azure's words for that."""
    return WireError(401, "ExpiredAuthenticationToken", "The access token has expired.", headers=BEARER_CHALLENGE)
