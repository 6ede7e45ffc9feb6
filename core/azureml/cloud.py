"""The local workspace as a cloud and its credential, what a token says, and what the SDK keeps of clouds.

What azure-ai-ml keeps for the whole process, and what guards it:

* A cloud's address, remembered by the cloud's name for good: a local cloud's name holds its port.
* "The current cloud", a variable of the process (CURRENT_CLOUD): clients are built inside `using()`. A pipeline job is
  sent inside `sending_job()`, which holds the same lock until the SDK asks for the job's own token or sends the job:
  never while it is being sent. A credential refuses to make a token for a cloud that is not its own.
* The stack of pipelines being defined (`dsl.pipeline`): not used: two threads cannot share one
  (core/launch/pipeline.py).
* Standard output, into which its polling threads print (core/azureml/polling.py).
"""

from __future__ import annotations

import getpass
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

# Not late: threads that load this package and a module in it at once may end in Python's _DeadlockError.
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from core.azureml.addresses import CLOUDS, Cloud
from core.home import Home

CURRENT_CLOUD = "AZUREML_CURRENT_CLOUD"  # read and written by azure-ai-ml
LOCAL_CLOUD = "TunedeckLocal"
_lock = threading.RLock()
_sending = threading.local()  # `release`: what a thread that sends a job calls once the variable has been read


def local_cloud(home: Home) -> Cloud:
    """Return the cloud that the local workspace of a home is to the SDK."""
    url = home.url()
    return Cloud(
        name=f"{LOCAL_CLOUD}{home.port()}",
        title="This machine",
        resource_manager=url,
        login=f"{url}/aad",
        portal=f"{url}/studio",
        job_audience=f"{url}/aml",
        storage=LOCAL_CLOUD.lower(),
        registry_discovery=url,
        services="",
        is_local=True,
    )


@contextmanager
def using(cloud: Cloud) -> Iterator[None]:
    """Hold the process's current cloud while clients are built."""
    with _lock:
        load_sdk()
        os.environ[CURRENT_CLOUD] = cloud.name
        yield


@contextmanager
def sending_job(cloud: Cloud) -> Iterator[None]:
    """Hold the process's current cloud while a job is made ready; `let_go_of_cloud` ends that before the job is sent.

    At most one bounded request falls under the lock: the SDK's first look at the workspace.
    """
    with ExitStack() as held:
        held.enter_context(using(cloud))
        _sending.release = held.close
        try:
            yield
        finally:
            _sending.release = None


def let_go_of_cloud() -> None:
    """End this thread's `sending_job` hold: what the SDK reads of the current cloud it has read."""
    if release := getattr(_sending, "release", None):
        _sending.release = None
        release()


def load_sdk() -> None:
    """Import azure-ai-ml, which takes over a second the first time: never on a page's path."""
    with _lock:
        if "azure.ai.ml" not in sys.modules and os.environ.get(CURRENT_CLOUD) not in (None, *CLOUDS):
            del os.environ[CURRENT_CLOUD]  # inherited; while it is imported the SDK would look that name up on the net
        import azure.ai.ml  # noqa: F401


def check_scopes(cloud: Cloud, scopes: tuple[str, ...]) -> None:
    """Raise where a token for another cloud is asked of this one's credential."""
    for scope in scopes:
        wanted = scope.removesuffix(".default").rstrip("/")
        if not any(wanted == own or wanted.startswith(f"{own}/") for own in cloud.audiences):
            raise ClientAuthenticationError(f"A token for {wanted} was asked of the credential of {cloud.name}.")


class LocalCredential:
    """Signs tokens for the local workspace with the secret of the home."""

    lifetime_s = 3600

    def __init__(self, home: Home) -> None:
        self._home = home
        self._cloud = local_cloud(home)

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """Return a token for the one scope asked for."""
        import jwt

        check_scopes(self._cloud, scopes)
        if scopes[0].startswith(self._cloud.job_audience):
            let_go_of_cloud()
        now = int(time.time())
        claims = {
            "iss": "tunedeck-local",
            "aud": scopes[0].removesuffix("/.default"),
            "tid": "local",
            "oid": "local",
            "name": user_name(),
            "iat": now,
            "exp": now + self.lifetime_s,
        }
        return AccessToken(jwt.encode(claims, self._home.secret(), algorithm="HS256"), now + self.lifetime_s)

    def forget(self) -> None:
        """Do nothing: each token is made anew."""

    look_anew = forget
    source = "this home"
    identities: tuple[()] = ()


def read_claims(token: str) -> dict[str, Any]:
    """Return what a token says of its owner; its signature is the service's business."""
    import jwt

    try:
        return dict(jwt.decode(token, options={"verify_signature": False, "verify_aud": False, "verify_exp": False}))
    except jwt.PyJWTError:
        return {}


def whom(claims: dict[str, Any]) -> str:
    """Return the name of a token's owner: a person's address; an application's id, or a managed identity's name."""
    if resource := claims.get("xms_mirid"):
        return f"managed identity '{str(resource).rpartition('/')[2]}'"
    names = ("upn", "preferred_username", "unique_name", "name", "app_displayname")
    if person := next((str(claims[name]) for name in names if claims.get(name)), ""):
        return person
    application = claims.get("appid") or claims.get("azp")
    return f"service principal {application}" if application else str(claims.get("oid") or "?")


def expiry_of(claims: dict[str, Any]) -> datetime | None:
    """Return until when a token is good."""
    return datetime.fromtimestamp(claims["exp"], UTC) if isinstance(claims.get("exp"), int | float) else None


def user_name() -> str:
    """Return the name of the machine's user, "operator" where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "operator"
