"""Keeps a credential's tokens until shortly before they end: `az` keeps none, each ask starts it for about a second.

Tokens are held in memory only. It does not know whose they are, nor whether a service still takes them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError

MARGIN_S = 300  # azure-core's own pipelines ask for a new token this long before the end
RETRY_S = 30  # after a renewal that failed while the token is still good


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: AccessToken | None = field(default=None, repr=False)
    renew_at: float = 0.0


class KeptTokens:
    """A credential that asks another one once per scope and tenant, and again when a token is about to end."""

    def __init__(self, credential: TokenCredential, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        self._clock = clock
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        self._lock = threading.Lock()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token; threads that ask for the same at once wait for one answer."""
        key = (scopes, options.get("tenant_id"), bool(options.get("enable_cae")))
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
        with kept.lock:
            # With claims a service says that the token it was sent no longer does.
            if kept.token is None or self._clock() >= kept.renew_at or options.get("claims"):
                self._renew(kept, scopes, options)
            assert kept.token is not None
            return kept.token

    def forget(self) -> None:
        """Ask anew from now on: a service refused a token, or another account may have signed in."""
        with self._lock:
            self._kept.clear()

    def _renew(self, kept: _Kept, scopes: tuple[str, ...], options: dict[str, Any]) -> None:
        now = self._clock()
        try:
            token = self._credential.get_token(*scopes, **options)
        except AzureError:
            if options.get("claims") or kept.token is None or kept.token.expires_on <= now:
                raise
            kept.renew_at = now + RETRY_S
            return
        # One that lives shorter than the margin is used for half its life.
        kept.token, kept.renew_at = token, max(token.expires_on - MARGIN_S, (now + token.expires_on) / 2)
