"""One Connection per workspace: its clients, its calls and their errors, its storage.

The only module that tells the local workspace from Azure. Everything else speaks to both in the same way.
"""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from azure.core.exceptions import ClientAuthenticationError

from core import home as homes
from core.azureml import cloud as clouds
from core.azureml import storage
from core.azureml.client import build_client, checking_job, patience_of
from core.azureml.cloud import LocalCredential
from core.azureml.failures import Place
from core.azureml.heard import open_session
from core.azureml.identities import AzureCredential
from core.azureml.service_errors import (
    decode_claims,
    explain,
    read_answer,
    read_challenge,
    service_exceptions,
    translate,
)
from core.azureml.settings import Settings
from core.azureml.tags import parse_policy_tags
from core.errors import NotFound, SignInFailed, TunedeckError
from core.home import Home

if TYPE_CHECKING:
    import requests
    from azure.ai.ml import MLClient
    from azure.storage.blob import ContainerClient

T = TypeVar("T")


@dataclass(frozen=True)
class WorkspaceFacts:
    """Who, where, on what. `machine` is "2 cores · 24 GB · no GPU" for the local workspace, else "".

    kind: the service's word, "hub" and the like; "" where it does not say.
    tracking_url: where MLflow's REST API of this workspace is, below which "/api/2.0/mlflow/…" stands.
    """

    name: str
    resource_group: str
    subscription_id: str
    region: str
    user: str
    tenant: str
    tracking_url: str
    machine: str
    token_valid_until: datetime | None
    kind: str = ""


class Blobs(NamedTuple):
    """The default datastore: `container, datastore = conn.blobs()`."""

    container: ContainerClient
    datastore: str

    def uri(self, path: str) -> str:
        """Return how a job names a blob of this datastore."""
        return f"azureml://datastores/{self.datastore}/paths/{path}"


@dataclass(frozen=True)
class Room:
    """What this machine has, in bytes."""

    disk: int
    """Free where a run writes its files."""
    memory: int
    free_memory: int
    card: int = 0
    """Memory of its smallest GPU, 0 where there is none or nobody says."""


class Connection:
    """One workspace and its registry. Whatever builds a client imports the SDK: use it in a reader or an operation."""

    def __init__(self, settings: Settings, home: Home, credential: AzureCredential | None = None) -> None:
        self.settings = settings
        self.home = home
        self.alias = settings.alias
        self.cloud = clouds.local_cloud(home) if settings.kind == "local" else settings.cloud
        self.credential: LocalCredential | AzureCredential = (
            LocalCredential(home)
            if self.cloud.is_local
            else credential or AzureCredential(self.cloud, settings.tenant_id)
        )
        self._blobs_lock = threading.Lock()
        self._workspace: MLClient | None = None
        self._registry: MLClient | None = None
        self._tracking_url = ""
        self._blobs: Blobs | None = None
        self._sessions = threading.local()
        self._remembered: dict[str, tuple[float, Any]] = {}
        self._key_locks: dict[str, threading.RLock] = {}
        self._remembering = threading.Lock()
        self._told_time: tuple[datetime, float] | None = None

    @property
    def now(self) -> datetime:
        """Return the workspace's time: that of its last answer, counted on by what no setting of a clock moves.

        Before its first answer it is this machine's.
        """
        if self._told_time is None:
            return datetime.now(UTC)
        told, at = self._told_time
        return told + timedelta(seconds=time.monotonic() - at)

    @property
    def title(self) -> str:
        """Return "Local" or "Azure · ml-dev"."""
        return "Local" if self.cloud.is_local else f"Azure · {self.settings.workspace_name}"

    @property
    def costs_money(self) -> bool:
        """Tell whether what is started here can cost money: on Azure, not on this machine."""
        return not self.cloud.is_local

    @property
    def workspace_path(self) -> str:
        """Return "/subscriptions/…/workspaces/…", the workspace's id."""
        settings = self.settings
        return (
            f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace_name}"
        )

    @property
    def policy_tags(self) -> dict[str, str]:
        """Return what a company's policy wants on all that is made here, for the tags of a resource."""
        return parse_policy_tags(self.settings.policy_tags)

    @property
    def workspace(self) -> MLClient:
        """Return the workspace's client."""
        if self._workspace is None:
            with clouds.using(self.cloud):  # the one lock for building
                settings = self.settings
                self._workspace = self._workspace or build_client(
                    self.cloud,
                    self.credential,
                    {
                        "subscription_id": settings.subscription_id,
                        "resource_group_name": settings.resource_group,
                        "workspace_name": settings.workspace_name,
                    },
                )
        return self._workspace

    @property
    def registry(self) -> MLClient:
        """Return the registry's client; the first use asks the registry where it is."""
        if self._registry is None:
            with clouds.using(self.cloud):
                name = self.settings.registry_name
                self._registry = self._registry or self.call(
                    "read", f"registry '{name}'", build_client, self.cloud, self.credential, {"registry_name": name}
                )
        return self._registry

    def call(self, doing: str, what: str, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run an SDK call; every Azure or requests error becomes a TunedeckError.

        doing: a verb ("read", "create", "delete"); what: a noun phrase ("compute 'gpu-1'"). Lists the SDK pages lazily
        are to be made inside: `conn.call("read", "computes", lambda: list(conn.workspace.compute.list()))`.
        """
        try:
            return fn(*args, **kwargs)
        except service_exceptions() as error:
            raise self._completed(translate(error, self.place, doing, what)) from error

    def submit(self, what: str, job: Any, check: Callable[[dict[str, Any]], None]) -> Any:
        """Send a job; `check` is shown the properties that are about to be sent, and keeps them back by raising.

        The SDK reads the audience of a job's token from a variable of the process: what leads to it is done by one
        thread at a time, the sending itself is not.
        """
        send = self.workspace.jobs.create_or_update
        with clouds.sending_job(self.cloud), checking_job(str(job.name), check):
            return self.call("start", what, send, job)

    def http(
        self,
        method: str,
        url: str,
        *,
        doing: str = "read",
        what: str = "the workspace",
        authenticated: bool = True,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> requests.Response:
        """Send a request with this connection's token and return a good answer (2xx), else raise a TunedeckError.

        url: absolute, or a path below the resource manager. kwargs as of requests. A token goes to no foreign host.
        """
        target = url if "://" in url else self.cloud.resource_manager + url
        headers = dict(kwargs.pop("headers", None) or {})
        patience = patience_of(self.cloud)
        timeout = (patience["connection_timeout"], timeout_s or patience["read_timeout"])

        def send() -> requests.Response:
            if authenticated:
                headers["Authorization"] = f"Bearer {self._token_for(target)}"
            return self._session().request(method, target, headers=headers, timeout=timeout, **kwargs)

        answer = self.call(doing, what, send)
        if target.startswith(self.cloud.resource_manager):
            self._note_time(answer.headers.get("Date"))
        if authenticated and answer.status_code == 401 and self._proves(read_challenge(answer.headers)):
            answer = self.call(doing, what, send)
        if answer.ok:
            return answer
        failure = read_answer(answer.status_code, answer.headers, answer.text)
        raise self._completed(explain(failure, self.place, doing, what))

    def pages(self, url: str, what: str) -> Iterator[requests.Response]:
        """Yield the answers that make up a list: each names the address of the next."""
        while url:
            yield (answer := self.http("GET", url, what=what))
            url = answer.json().get("nextLink") or ""

    def facts(self) -> WorkspaceFacts:
        """Ask the workspace who and where it is."""
        settings = self.settings
        found = self.call(
            "read",
            f"workspace '{settings.workspace_name}'",
            lambda: self.workspace.workspaces.get(settings.workspace_name),
        )
        claims = clouds.read_claims(self.call("read", "the sign-in", self.credential.get_token, self.cloud.scope).token)
        return WorkspaceFacts(
            name=settings.workspace_name,
            resource_group=settings.resource_group,
            subscription_id=settings.subscription_id,
            region=found.location,
            user=clouds.whom(claims),
            tenant=str(claims.get("tid") or ""),
            tracking_url=_to_tracking_url(found.mlflow_tracking_uri or ""),
            machine=self._machine_words(),
            token_valid_until=clouds.expiry_of(claims),
            kind=str(found._kind or ""),  # the SDK shows it nowhere else
        )

    def tracking_url(self) -> str:
        """Return where MLflow's REST API of this workspace is; asked once."""
        if not self._tracking_url:
            self._tracking_url = self.facts().tracking_url
        return self._tracking_url

    def remember(self, key: str, fn: Callable[[], T], max_age_s: float) -> T:
        """Return what `fn` gave less than `max_age_s` ago: for what changes rarely and is long, as a region's sizes.

        Threads that ask for one key at the same time get the same object; the others wait for the first.
        """
        with self._remembering:
            lock = self._key_locks.setdefault(key, threading.RLock())
        with lock:
            at, kept = self._remembered.get(key, (0.0, None))
            fresh = at and time.monotonic() - at <= max_age_s
            value: T = kept if fresh else fn()
            if not fresh:
                self._remembered[key] = (time.monotonic(), value)
            return value

    def blobs(self) -> Blobs:
        """Return the default datastore's container, opened by identity where it can, else by its key or signature."""
        self.workspace  # noqa: B018  built before this lock is taken: building takes the process's own
        with self._blobs_lock:
            if self._blobs is None or storage.is_stale(self._blobs.container):
                identity = None if self.cloud.is_local else self.credential
                self._blobs = Blobs(*storage.open_default(self.workspace, identity, self.call))
            return self._blobs

    @property
    def place(self) -> Place:
        """Return the words that errors of this connection use."""
        settings = self.settings
        return Place(
            service="the local workspace" if self.cloud.is_local else "Azure",
            workspace=settings.workspace_name,
            resource_group=settings.resource_group,
            subscription_id=settings.subscription_id,
            address=self.cloud.host,
            is_local=self.cloud.is_local,
        )

    def _note_time(self, date: str | None) -> None:
        try:
            self._told_time = (parsedate_to_datetime(date or "").astimezone(UTC), time.monotonic())
        except ValueError:
            return  # an answer without its time tells nothing of it

    def _session(self) -> requests.Session:
        """Return this thread's session: one session is not made for several threads."""
        if not hasattr(self._sessions, "session"):
            self._sessions.session = open_session(with_proxies=not self.cloud.is_local)
        session: requests.Session = self._sessions.session
        return session

    def _token_for(self, url: str) -> str:
        if not self.cloud.owns(url):
            raise SignInFailed(
                f"The token of '{self.settings.workspace_name}' is not sent to another host.",
                "Connect the workspace again.",
                url.split("?")[0],
            )
        return self.credential.get_token(self.cloud.scope).token

    def _proves(self, challenge: str) -> bool:
        """Tell whether the identity gives, without a question, the token that a service asks for, as the SDK asks."""
        if not challenge:
            return False
        try:
            self.credential.get_token(self.cloud.scope, claims=decode_claims(challenge))
        except ClientAuthenticationError:
            return False  # the service's answer tells more than that
        return True

    def _completed(self, error: TunedeckError) -> TunedeckError:
        """Add the closest name where the workspace itself was not found; keep no token that was refused."""
        if isinstance(error, SignInFailed):
            self.credential.forget()
        if not isinstance(error, NotFound) or not error.message.startswith("Workspace "):
            return error
        group = self.workspace_path.rsplit("/workspaces/", 1)[0]
        try:
            answer = self._session().get(
                f"{self.cloud.resource_manager}{group}/workspaces",
                params={"api-version": "2024-10-01-preview"},
                headers={"Authorization": f"Bearer {self._token_for(self.cloud.resource_manager)}"},
                timeout=(2, 10),
            )
            names = [str(one["name"]) for one in answer.json().get("value", [])]
        except service_exceptions():
            return error  # the first error is what matters; a suggestion is only a kindness
        except (ValueError, KeyError, AttributeError):  # an answer of another form
            return error
        close = difflib.get_close_matches(self.settings.workspace_name, names, n=1, cutoff=0.5)
        hint = f"Check the name. Did you mean '{close[0]}'?" if close else f"{error.hint} There is: {', '.join(names)}."
        return NotFound(error.message, hint if names else error.hint, error.detail)

    def list_faults(self) -> tuple[str, ...]:
        """Return the faults that somebody switched on in the local workspace, in words; Azure has none on demand."""
        if not self.cloud.is_local:
            return ()
        return tuple(self.http("GET", "/health", what="the local workspace").json().get("faults") or ())

    def find_room(self) -> Room | None:
        """Return what this machine has room for, None where the workspace brings its own machines."""
        if not self.cloud.is_local:
            return None
        told = self.http("GET", "/health", what="the local workspace").json()
        machine = told.get("machine") or {}
        total, card = (int(float(machine.get(name) or 0) * 2**30) for name in ("memory_gib", "card_gib"))
        return Room(int(told.get("free_bytes") or 0), total, int(told.get("free_memory_bytes") or total), card)

    def _machine_words(self) -> str:
        if not self.cloud.is_local:
            return ""
        machine = self.http("GET", "/health", what="the local workspace").json().get("machine") or {}
        cores, gpus = machine.get("cores", 0), machine.get("gpus") or []
        return " · ".join(
            [
                f"{cores} core" if cores == 1 else f"{cores} cores",
                f"{machine.get('memory_gib', 0):.0f} GB",
                ", ".join(gpus) or "no GPU",
            ]
        )


_connections: dict[tuple[Settings, str], Connection] = {}
_connections_lock = threading.Lock()


def connect(settings: Settings, *, home: Home | None = None) -> Connection:
    """Return the one Connection of these settings in this process; at once, nothing is imported or sent yet."""
    home = home or homes.current()
    key = (settings, str(home.path))
    with _connections_lock:
        if key not in _connections:
            _connections[key] = Connection(settings, home)
        _connections[key].settings = settings  # equal, but what was chosen for it may be new
        return _connections[key]


def keep(conn: Connection) -> None:
    """Let this be the one Connection of its settings: the operator has signed in to it."""
    with _connections_lock:
        _connections[conn.settings, str(conn.home.path)] = conn


def challenge_to(settings: Settings) -> str:
    """Return what a service asked of the identity in use and it could not prove: the claims of the next sign-in."""
    return str(getattr(connect(settings).credential, "claims", ""))


def _to_tracking_url(uri: str) -> str:
    """Return an https address for Azure's azureml:// form, whose REST API stands under v2.0 as in azureml-mlflow."""
    if uri.startswith("azureml://"):
        uri = uri.replace("azureml://", "https://", 1).replace("/mlflow/v1.0/", "/mlflow/v2.0/", 1).split("?")[0]
    return uri.rstrip("/")
