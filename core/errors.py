"""What can go wrong, as sentences.

TunedeckError
├── BadInput                what the operator gave cannot be used
├── NotFound                a named thing is not there
├── Conflict                a named thing is there already, or is in use
├── AccessDenied            signed in, but not allowed (403)
├── SignInFailed            no credential, or it was refused (401)
├── ServiceRefused          the workspace answered with an error of its own
│   ├── QuotaExceeded       no cores or money left for it
│   ├── ServiceFailed       it failed on its own side (408, 5xx): the same may work in a minute
│   └── Throttled           asked to wait (429)
└── Unreachable             no answer came
    └── LocalWorkspaceDown  the local workspace does not run
"""

from __future__ import annotations


class TunedeckError(Exception):
    """An error an operator can read.

    message: what happened to which named thing, one sentence. hint: what to do now. detail: status, request id,
    body; shown folded, never a secret.
    """

    def __init__(self, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadInput(TunedeckError):
    """What the operator gave cannot be used."""


class NotFound(TunedeckError):
    """A named thing is not there."""


class Conflict(TunedeckError):
    """A named thing is there already, or is in use."""


class AccessDenied(TunedeckError):
    """Signed in, but not allowed."""


class SignInFailed(TunedeckError):
    """No credential was found, or it was refused."""


class ServiceRefused(TunedeckError):
    """The workspace answered with an error of its own. pause_s: how long it asked to wait, None where it did not."""

    pause_s: float | None = None


class QuotaExceeded(ServiceRefused):
    """No cores are left for it."""


class ServiceFailed(ServiceRefused):
    """The workspace failed on its own side; whether a write was done is not known."""


class Throttled(ServiceRefused):
    """The workspace asked to wait."""


class Unreachable(TunedeckError):
    """No answer came."""


class LocalWorkspaceDown(Unreachable):
    """The local workspace does not run or does not answer."""
