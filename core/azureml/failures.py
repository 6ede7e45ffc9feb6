"""What is known of a failed call, and the form of a rule that finds words for it. It holds no rule itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.errors import TunedeckError

NO_ANSWER = 0  # "status" of a request that never got one
NO_TOKEN = -1  # "status" where no credential gave a token
NOT_SENT = -2  # "status" of what the SDK itself refused to send


@dataclass(frozen=True)
class Place:
    """Words about where a call went. `service` is "Azure" or "the local workspace"."""

    service: str
    workspace: str
    resource_group: str
    subscription_id: str
    address: str
    is_local: bool


@dataclass(frozen=True)
class Failure:
    """What is known of a failed call, whichever library reported it. `code` joins the answer's codes."""

    status: int
    code: str = ""
    message: str = ""
    detail: str = ""
    pause_s: float | None = None


@dataclass(frozen=True)
class Rule:
    """Words for some failures. statuses () fits any; `code` is searched in the codes and the message, case ignored."""

    error: type[TunedeckError]
    message: str
    hint: str
    statuses: tuple[int, ...] = ()
    code: str = ""
    local: bool | None = None

    def fits(self, failure: Failure, place: Place) -> bool:
        """Tell whether this rule speaks of that failure."""
        if self.statuses and failure.status not in self.statuses:
            return False
        if self.local is not None and self.local is not place.is_local:
            return False
        code = self.code.replace("{workspace}", re.escape(place.workspace))
        return not code or bool(re.search(code, f"{failure.code} {failure.message}", re.IGNORECASE))
