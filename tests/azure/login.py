"""The login host: where tenants are found, and tokens given for a device code, a client's secret or a refresh token."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from tests.azure.rules import Answer
from tests.azure.tokens import encode, make_token

TENANT = "72f9a1c4-0d5e-4b8a-9c61-5a2d8e7f3b10"  # the workspace's
OTHER_TENANT = "0b7d53e2-91ac-4f0e-8d27-6c3e1f9a4d58"
CLIENT_SECRET = "the-right-secret"
CODE = "H7KQP2XV"

# How the endpoint for tokens calls a refusal, where it is not "invalid_grant".
_OAUTH_NAMES = {
    "70016": "authorization_pending",
    "70018": "bad_verification_code",
    "70020": "expired_token",
    "90002": "invalid_request",
    "700016": "unauthorized_client",
    "7000215": "invalid_client",
    "7000222": "invalid_client",
}
PENDING = "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling."
WRONG_SECRET = (
    "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
    "value, not the client secret ID."
)
DECLINED = {"error": "access_denied", "error_description": "AADSTS65004: User declined to consent to access the app."}
EXPIRED_LOGIN = "AADSTS700082: The refresh token has expired due to inactivity."


@dataclass
class Login:
    """Who signs in, and how that goes. All of it may be changed while it serves."""

    user: str = "ada@contoso.com"
    token_life_s: int = 3600
    code_life_s: int = 300
    code_was_entered: bool = False
    """Whether the operator has typed the device code on the other device."""
    refusal: str = ""
    """What every request for a token is refused with: "AADSTS700082: The refresh token …", as the service says it."""
    machine: str = ""
    """The resource id of the managed identity of the machine, "" for none."""
    claims: str = ""
    """What a request for a token last wanted it to prove: JSON."""
    in_browser: Literal["finished", "closed", "declined"] = "finished"
    """What the operator does with the page in the browser."""
    code_scope: str = ""
    """What the device code was asked for: the request for its token does not say that again."""
    nonce: str = ""
    """What the browser's page was asked for with: the id token that follows has to say it again."""

    def answer(self, host: str, path: str, form: dict[str, str]) -> Answer:
        """Answer a request to the login host. form: of its body or query."""
        tenant = path.split("/")[1]
        if "discovery/instance" in path:
            return Answer.of(_instances(host, form.get("authorization_endpoint", "")))
        if tenant not in (TENANT, OTHER_TENANT, "common", "organizations"):
            return _refuse(
                f"AADSTS90002: Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            )
        if path.endswith("openid-configuration"):
            return Answer.of(_endpoints(host, tenant))
        if path.endswith("/devicecode"):
            return self._give_code(form.get("scope", ""))
        if path.endswith("/authorize"):
            return self._page(form)
        return self._give_token(tenant, form) if path.endswith("/token") else Answer(404)

    def give_machine_token(self, resource: str) -> Answer:
        """Answer as a virtual machine's service for identities does."""
        if not self.machine:
            return Answer.of({"error": "invalid_request", "error_description": "Identity not found"}, 400)
        claims = {"xms_mirid": self.machine, "appid": "machine-app", "oid": "machine", "idtyp": "app"}
        token = make_token(resource, TENANT, self.token_life_s, **claims)
        until, kind = str(int(time.time()) + self.token_life_s), "Bearer"
        told = {"access_token": token, "expires_in": str(self.token_life_s), "expires_on": until, "token_type": kind}
        return Answer.of({**told, "resource": resource})

    def _give_code(self, scope: str) -> Answer:
        self.code_scope = scope
        return Answer.of(
            {
                "user_code": CODE,
                "device_code": "a-device-code",
                "verification_uri": "https://microsoft.com/devicelogin",
                "expires_in": self.code_life_s,
                "interval": 1,
                "message": f"To sign in, use a web browser to open https://microsoft.com/devicelogin, code {CODE}.",
            }
        )

    def _page(self, asked: dict[str, str]) -> Answer:
        """Answer with the page that a browser is sent to, once the operator is through: it posts a code, or why not."""
        self.code_scope, self.nonce = asked["scope"], asked["nonce"]
        sent = {"code": "an-authorization-code"} if self.in_browser == "finished" else DECLINED
        if self.in_browser == "closed":
            return Answer(200, b"<p>Pick an account</p>", {"Content-Type": "text/html"})
        fields = {**sent, "state": asked["state"], "client_info": encode({"uid": "ada", "utid": TENANT})}
        inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
        page = f'<form method="POST" action="{asked["redirect_uri"]}">{inputs}</form>'
        return Answer(200, page.encode(), {"Content-Type": "text/html"})

    def _give_token(self, tenant: str, form: dict[str, str]) -> Answer:
        grant = form.get("grant_type", "")
        self.claims = form.get("claims") or self.claims
        if self.refusal:
            return _refuse(self.refusal)
        if grant.endswith("device_code") and not self.code_was_entered:
            return _refuse(PENDING)
        if grant == "client_credentials" and form.get("client_secret") != CLIENT_SECRET:
            return _refuse(WRONG_SECRET)
        home = TENANT if tenant in ("common", "organizations") else tenant
        scope = form.get("scope") or self.code_scope
        audience = (scope.split() or [""])[0].removesuffix("/.default")
        who = {"appid": form["client_id"]} if grant == "client_credentials" else {"upn": self.user, "oid": "ada"}
        given: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": self.token_life_s,
            "access_token": make_token(audience, home, self.token_life_s, **who),
            "scope": scope,
        }
        if grant != "client_credentials":
            given |= {
                "refresh_token": "a-refresh-token",
                "id_token": make_token(
                    form.get("client_id", ""), home, preferred_username=self.user, sub="ada", nonce=self.nonce
                ),
                "client_info": encode({"uid": "ada", "utid": home}),
            }
        return Answer.of(given)


def _refuse(words: str) -> Answer:
    """Refuse with a message that begins by its AADSTS code."""
    found = re.match(r"AADSTS(\d+)", words)
    code = found[1] if found else "50000"
    name = _OAUTH_NAMES.get(code, "invalid_grant")
    trace = "Trace ID: 00000000-0000-0000-0000-000000000001 Timestamp: 2026-11-28 12:00:00Z"
    told = {"error": name, "error_description": f"{words} {trace}", "error_codes": [int(code)]}
    return Answer.of(told, 401 if name == "invalid_client" else 400)


def _endpoints(host: str, tenant: str) -> dict[str, Any]:
    base = f"https://{host}/{tenant}"
    own = TENANT if tenant in ("common", "organizations") else tenant
    return {
        "issuer": f"https://{host}/{own}/v2.0",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
    }


def _instances(host: str, asked: str) -> dict[str, Any]:
    tenant = asked.split("/")[3] if asked.count("/") > 2 else "common"
    return {
        "tenant_discovery_endpoint": f"https://{host}/{tenant}/v2.0/.well-known/openid-configuration",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }
