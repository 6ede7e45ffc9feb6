"""Who may call what: one table of route families and their credentials. Knows the home's secret and no resource.

family      credential                                                 checked
bearer      a token signed with the home's secret, made for this port  here
storage     SharedKey or a shared access signature (blobs)             here, by storage_key.py
link        a signed query that expires (log files)                    here
endpoint    the key of the endpoint that is called (scoring)           by the scoring route, which knows the keys
open        none: what says only where this server is                  -
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import jwt
from starlette.requests import Request

from core.local import storage_key
from core.local.wire import WireError

ISSUER = "tunedeck-local"
LINK_LIFETIME_S = 3600

Family = Literal["bearer", "storage", "link", "endpoint", "open"]

# The first prefix that fits decides; everything else needs a bearer token, unknown routes too.
FAMILIES: tuple[tuple[str, Family], ...] = (
    (f"/{storage_key.ACCOUNT}/", "storage"),
    ("/logs/", "link"),
    ("/endpoints/", "endpoint"),
    ("/discovery", "open"),  # the SDK asks it without a token
    ("/studio", "open"),
    ("/discovery", "open"),  # the SDK asks for it without a token before it reads run history
)


@dataclass(frozen=True)
class Gatekeeper:
    """Checks requests against one home's secret and address."""

    secret: str
    port: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the names under which this server is itself and not a rebound DNS name."""
        return (f"127.0.0.1:{self.port}", f"localhost:{self.port}")

    def check_host(self, request: Request) -> None:
        """Refuse a request that was meant for another host or sent by another site's page; raises 403."""
        if request.headers.get("host", "").lower() not in self.hosts:
            raise WireError(403, "ForeignHost", "The local workspace answers only to its own address on 127.0.0.1.")
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() not in self.hosts:
            raise WireError(403, "ForeignOrigin", "The local workspace does not answer to pages of other sites.")

    def check(self, request: Request) -> None:
        """Check the credential of the request's family; raises 401, or 403 in the storage family as Azure does."""
        family = family_of(request.scope["path"])
        if family == "bearer":
            self._check_bearer(request.headers.get("authorization", ""))
            if second := request.headers.get("x-azureml-token"):  # sent beside the first when a job is submitted
                self._check_bearer(f"Bearer {second}")
        elif family == "storage":
            storage_key.check(request, storage_key.derive(self.secret))
        elif family == "link":
            self._check_link(request)

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

    def _check_bearer(self, header: str) -> None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("The request carries no bearer token.")
        try:
            claims = jwt.decode(
                token.strip(),
                self.secret,
                algorithms=["HS256"],
                issuer=ISSUER,
                options={"require": ["exp", "iss", "aud"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise _unauthorized("The bearer token has expired.") from error
        except jwt.PyJWTError as error:
            raise _unauthorized("The bearer token was not signed for this home.") from error
        if urlsplit(str(claims["aud"])).netloc.lower() not in self.hosts:
            raise _unauthorized("The bearer token was made for another workspace's address.")


def family_of(path: str) -> Family:
    """Return the family of a path."""
    return next((family for prefix, family in FAMILIES if path.startswith(prefix)), "bearer")


def _unauthorized(message: str) -> WireError:
    challenge = {"WWW-Authenticate": 'Bearer realm="tunedeck-local", error="invalid_token"'}
    return WireError(401, "AuthenticationFailed", message, headers=challenge)
