"""What an operator chose: the events, and one webhook. One file of the home (0600): its address is a secret."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from core import home
from core.alerts.address import parse_address
from core.alerts.events import EVENTS
from core.errors import BadInput
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
    """Return what was chosen; the defaults where nothing was, or where the file makes no sense."""
    try:
        stored = json.loads(_path(of).read_text(encoding="utf-8"))
        webhook = parse_fields(Webhook, stored["webhook"]) if stored["webhook"] else None
        return AlertSettings(tuple(stored["events"]), webhook)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return AlertSettings()


def save_webhook(kind: Kind, url: str, secret: str = "", *, inside: bool = False) -> None:
    """Keep where alerts are sent, in place of what was kept; raises BadInput for an address that is not used."""
    place = parse_address(url, inside=inside)
    if kind is Kind.TEAMS and place.host.endswith(_RETIRED):
        raise BadInput(
            "This is a connector of Office 365, which Teams no longer has.",
            'Add the workflow "When a Teams webhook request is received" to the channel, and copy its address.',
        )
    _save(replace(read_settings(), webhook=Webhook(kind, url.strip(), secret.strip(), inside)))


def remove_webhook() -> None:
    """Forget where alerts are sent."""
    _save(replace(read_settings(), webhook=None))


def save_events(names: Iterable[str]) -> None:
    """Keep which events are told of."""
    wanted = set(names)
    _save(replace(read_settings(), events=tuple(name for name in EVENTS if name in wanted)))


def _save(settings: AlertSettings) -> None:
    home.write_atomically(_path(None), json.dumps(asdict(settings)), 0o600)


def _path(of: home.Home | None) -> Path:
    return (of or home.current()).path / "alerts.json"
