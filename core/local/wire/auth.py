"""Who may call what: one table of route families and their credentials.

family      credential                                                 checked
bearer      a token signed with the home's secret, made for this port  here
storage     SharedKey or a shared access signature (blobs)             here, by storage_key.py
link        a signed query that expires (log files)                    here
endpoint    the key of the endpoint that is called (scoring)           by the scoring route, which knows the keys
identity    a header made of the home's secret (tokens for scripts)    here
open        none: what says only where this server is                  -
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import jwt
from starlette.requests import Request

from core.local.wire import storage_key
from core.local.wire.errors import BEARER_CHALLENGE, WireError

ISSUER = "tunedeck-local"
LINK_LIFETIME_S = 3600
SCRIPT_TOKEN_LIFETIME_S = 12 * 3600  # as a managed identity's: plain MLflow clients ask for one once
KEPT_TOKENS = 256

Family = Literal["bearer", "storage", "link", "endpoint", "identity", "open"]

# The first prefix that fits, whatever its capitals, decides; everything else needs a bearer token, unknown routes too.
FAMILIES: tuple[tuple[str, Family], ...] = (
    (f"/{storage_key.ACCOUNT}/", "storage"),
    (f"/{storage_key.TLS_ACCOUNT}/", "storage"),
    ("/logs/", "link"),
    ("/endpoints/", "endpoint"),
    ("/identity/token", "identity"),
    ("/metadata/endpoints", "open"),  # which clouds there are: asked before there can be a token
    ("/discovery", "open"),  # the SDK asks it without a token before it reads run history
    ("/studio", "open"),
)


@dataclass(frozen=True)
class Gatekeeper:
    """Checks requests against one home's secret and addresses; `tls_port` is 0 where there is no TLS listener."""

    secret: str
    port: int
    tls_port: int = 0

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """Return the names under which this server is itself and not a rebound DNS name."""
        ports = filter(None, (self.port, self.tls_port))
        return tuple(f"{name}:{port}" for port in ports for name in ("127.0.0.1", "localhost"))

    @cached_property
    def identity_header(self) -> str:
        """Return what a foreign script of this home proves itself with when it asks for a token."""
        return hmac.new(self.secret.encode(), b"identity", hashlib.sha256).hexdigest()

    def is_own_audience(self, audience: str) -> bool:
        """Tell whether a token for `audience` is for this workspace.

        Where azure-ai-ml has its cloud from ARM's list, it makes `https://ml.azure.` and what follows the second dot of
        the portal's address the audience of the token that goes with a job.
        """
        host = _netloc(audience)
        return host in self.hosts or host.replace("ml.azure.", "127.0.", 1) in self.hosts

    def sign_token(self, audience: str, lifetime_s: int) -> str:
        """Return a bearer token for `audience`."""
        claims = {"iss": ISSUER, "aud": audience, "tid": "local", "oid": "local", "exp": int(time.time()) + lifetime_s}
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def check_host(self, request: Request) -> None:
        """Refuse a request that was meant for another host or sent by another site's page; raises 403."""
        if request.headers.get("host", "").lower() not in self.hosts:
            raise WireError(403, "ForeignHost", "The local workspace answers only to its own address on 127.0.0.1.")
        origin = request.headers.get("origin")
        if origin is not None and _netloc(origin) not in self.hosts:
            raise WireError(403, "ForeignOrigin", "The local workspace does not answer to pages of other sites.")

    def check(self, request: Request) -> float | None:
        """Check the credential of the request's family; raises 401, or 403 in the storage family as Azure does.

        Returns when a bearer token was issued (seconds since 1970) where it says so.
        """
        family = family_of(request.scope["path"])
        if family == "bearer":
            if second := request.headers.get("x-azureml-token"):  # sent beside the first when a job is submitted
                self._check_bearer(f"Bearer {second}")
            return self._check_bearer(request.headers.get("authorization", ""))
        if family == "storage":
            storage_key.check(request, storage_key.derive(self.secret))
        elif family == "link":
            self._check_link(request)
        elif family == "identity":
            shown = request.headers.get("x-identity-header", "")
            if not hmac.compare_digest(self.identity_header.encode(), shown.encode()):
                raise _unauthorized("The request does not carry the identity header of this home.")
        return None

    def sign_link(self, path: str, lifetime_s: int = LINK_LIFETIME_S) -> str:
        """Return `path` with a query that opens it for a while without a token."""
        expires = str(int(time.time()) + lifetime_s)
        return f"{path}?se={expires}&sig={self._link_signature(path, expires)}"

    def _link_signature(self, path: str, expires: str) -> str:
        return hmac.new(self.secret.encode(), f"link\n{path}\n{expires}".encode(), hashlib.sha256).hexdigest()

    def _check_link(self, request: Request) -> None:
        expires, signature = request.query_params.get("se", ""), request.query_params.get("sig", "")
        wanted = self._link_signature(request.scope["path"], expires)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise _unauthorized("The link is not signed by this workspace.")
        if not expires.isdecimal() or int(expires) < time.time():
            raise _unauthorized("The link has expired. Ask for the run's details again.")

    def _check_bearer(self, header: str) -> float | None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("The request carries no bearer token.")
        try:
            claims = _read_token(token.strip(), self.secret)
            if int(claims["exp"]) <= time.time():  # it was good when it was read first
                raise jwt.ExpiredSignatureError
        except jwt.ExpiredSignatureError as error:
            raise _unauthorized("The bearer token has expired.") from error
        except jwt.PyJWTError as error:
            raise _unauthorized("The bearer token was not signed for this home.") from error
        if not self.is_own_audience(str(claims["aud"])):
            raise _unauthorized("The bearer token was made for another workspace's address.")
        return float(claims["iat"]) if "iat" in claims else None


def family_of(path: str) -> Family:
    """Return the family of a path."""
    return next((family for prefix, family in FAMILIES if path.lower().startswith(prefix)), "bearer")


@lru_cache(maxsize=KEPT_TOKENS)
def _read_token(token: str, secret: str) -> dict[str, Any]:
    """Return the claims of a token that this secret signed; its issuer, and that it has an end, are looked at here.

    Remembered, since a client sends one token for an hour and reading it is a quarter of what an answer takes. A token
    that is refused is not.
    """
    # A token signed here that seems to come from the future was made before the clock was set back.
    options: Any = {"require": ["exp", "iss", "aud"], "verify_aud": False, "verify_iat": False}
    return jwt.decode(token, secret, algorithms=["HS256"], issuer=ISSUER, options=options)


def _netloc(address: str) -> str:
    """Return host and port of an address in small letters, "" of what is none."""
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _unauthorized(message: str) -> WireError:
    return WireError(401, "AuthenticationFailed", message, headers=BEARER_CHALLENGE)
