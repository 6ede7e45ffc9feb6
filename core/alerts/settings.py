"""What an operator chose: the events, and one webhook. One file of the home (0600): its address is a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from core import home
from core.alerts.address import parse_address
from core.alerts.events import EVENTS
from core.errors import BadInput
from core.locks import held
from core.stored import parse_fields

_RETIRED = ".webhook.office.com"  # connectors of Office 365 in Teams ended in 2026


class Kind(StrEnum):
    """What listens at a webhook's address."""

    SLACK = "Slack"
    TEAMS = "Teams"
    JSON = "JSON"


@dataclass(frozen=True)
class Webhook:
    """Where alerts are sent. url and secret are never shown, logged or put into an error."""

    kind: Kind
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    """What signs plain JSON; "" for none."""
    inside: bool = False
    """Whether it may lead into the operator's own network."""

    @property
    def host(self) -> str:
        """All of the address that is shown."""
        return parse_address(self.url, inside=True).host


@dataclass(frozen=True)
class AlertSettings:
    """The events that are told of, and where to."""

    events: tuple[str, ...] = tuple(name for name, event in EVENTS.items() if event.default)
    webhook: Webhook | None = None


def read_settings(of: home.Home | None = None) -> AlertSettings:
    """Return what was chosen; the defaults where nothing was, or where the file makes no sense: see `find_problem`."""
    try:
        return _read(of)
    except BadInput:
        return AlertSettings()


def find_problem() -> BadInput | None:
    """Return why this home's choice cannot be read, None where it can."""
    try:
        _read(None)
    except BadInput as problem:
        return problem
    return None


def save_webhook(kind: Kind, url: str, secret: str = "", *, inside: bool = False) -> None:
    """Keep where alerts are sent, in place of what was kept; raises BadInput for an address that is not used.

    Like all that changes the choice, it raises BadInput where the file cannot be read, and leaves that as it is.
    """
    place = parse_address(url, inside=inside)
    if kind is Kind.TEAMS and place.host.endswith(_RETIRED):
        raise BadInput(
            "This is a connector of Office 365, which Teams no longer has.",
            'Add the workflow "When a Teams webhook request is received" to the channel, and copy its address.',
        )
    _change(webhook=Webhook(kind, url.strip(), secret.strip(), inside))


def remove_webhook() -> None:
    """Forget where alerts are sent."""
    _change(webhook=None)


def save_events(**told: bool) -> None:
    """Keep for each of these events, by name, whether it is told of; the others stay as they are kept."""
    _change(told=told)


def _change(told: Mapping[str, bool] | None = None, **changes: Webhook | None) -> None:
    """Change a part of the choice as it is kept now: what another tab or program changes at once stays too."""
    with held(home.current().create().path / "alerts.lock"):
        kept = _read(None)
        wanted = dict.fromkeys(kept.events, True) | dict(told or {})
        events = tuple(name for name in EVENTS if wanted.get(name))
        text = json.dumps(asdict(replace(kept, events=events, **changes)))
        home.write_atomically(_path(None), text, 0o600)


def _read(of: home.Home | None) -> AlertSettings:
    path = _path(of)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        webhook = parse_fields(Webhook, stored["webhook"]) if stored["webhook"] else None
        return AlertSettings(tuple(stored["events"]), webhook)
    except FileNotFoundError:
        return AlertSettings()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"The file {path.name} in the home folder cannot be read, so alerts go nowhere.",
            f"Repair or remove {path}: it holds which events are told of, and where to.",
            type(problem).__name__,  # its words may quote the webhook's address
        ) from None


def _path(of: home.Home | None) -> Path:
    return (of or home.current()).path / "alerts.json"
