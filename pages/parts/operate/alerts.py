"""Alerts on a page: what was told and what became of it, which events are told of, and where to."""

from __future__ import annotations

import streamlit as st

from core.alerts import delivery, settings
from core.alerts.book import AlertBook
from core.alerts.events import EVENTS, TEST
from core.alerts.settings import AlertSettings, Kind, Webhook
from pages.parts.kit import fields, words
from pages.parts.kit.action import action, draw_error_of
from pages.parts.kit.elements.notifier import draw_permission
from pages.parts.kit.notices import draw_error
from pages.parts.kit.state import ui

_URL, _SECRET, _TESTED = "webhook-url", "webhook-secret", "webhook-tested"
_WHENCE = {
    Kind.SLACK: 'An app of Slack with "Incoming Webhooks" on; its address begins with https://hooks.slack.com/.',
    Kind.TEAMS: 'The workflow "When a Teams webhook request is received" of a channel or chat.',
    Kind.JSON: "Whatever takes a POST with JSON; with a secret it is signed as standardwebhooks.com says.",
}


def draw_alerts(connection: str | None) -> None:
    """Draw what was told of a workspace, and the settings, which are those of this home."""
    st.header("Alerts", anchor=False)
    draw_permission()
    if problem := settings.find_problem():
        draw_error(problem, key="alert-file")
    else:
        _draw_settings(settings.read_settings(), connection)
    _draw_told(connection)


def _draw_settings(chosen: AlertSettings, connection: str | None) -> None:
    with st.expander("Events", icon=":material/notifications:", key="alert-events"):
        _choose_events(chosen)
    webhook = chosen.webhook
    title = f"Webhook · {webhook.kind} at {webhook.host}" if webhook else "Webhook"
    with st.expander(words.plain(title), icon=":material/webhook:", key="webhook"):
        _draw_webhook(webhook, connection or "") if webhook else _draw_form()


def _choose_events(chosen: AlertSettings) -> None:
    st.caption("For all workspaces of this machine. Failures and money are told of unless you take them out.")
    for name, event in EVENTS.items():
        field = fields.place(f"alert-{name}", name in chosen.events)
        st.checkbox(event.words, field.value, **fields.follow(field, event.words, _save_event, name))
        draw_error_of(field.name)


def _save_event(on: bool, name: str) -> None:
    settings.save_events(**{name: on})


def _draw_webhook(webhook: Webhook, connection: str) -> None:
    network = " It may lead into your own network." if webhook.inside else ""
    st.text(f"Alerts go to {webhook.host}, from whichever Tunedeck of this machine runs.{network}")
    with st.container(horizontal=True):
        action("Send a test message", _send_test, webhook, connection, key="test-webhook", icon="send")
        action("Remove", settings.remove_webhook, key="remove-webhook", icon="delete_forever")
    if ui().view.get(_TESTED) == webhook:
        st.text("It was taken. See whether it arrived.")


def _send_test(webhook: Webhook, connection: str) -> None:
    ui().view.pop(_TESTED, None)
    delivery.send_test(connection)
    ui().view[_TESTED] = webhook


def _draw_form() -> None:
    st.caption("It is told with no browser open, while a dashboard of this machine or a sweep runs.")
    kind = st.radio("What listens there", list(Kind), key="webhook-kind", horizontal=True)
    st.caption(words.plain(_WHENCE[kind or Kind.SLACK]))
    with st.form("webhook-form", border=False):
        st.text_input("Address", key=_URL, type="password", autocomplete="off", help="Kept here, and not shown again.")
        if kind == Kind.JSON:
            st.text_input("Secret to sign with; empty for none", key=_SECRET, type="password", autocomplete="off")
        st.checkbox("Inside my network", key="webhook-inside", help="Without this, private addresses are refused.")
        action("Save", _save, key="save-webhook", icon="save", in_form=True)


def _save() -> None:
    given = st.session_state
    kind, secret = Kind(given.get("webhook-kind") or Kind.SLACK), str(given.get(_SECRET) or "")
    settings.save_webhook(kind, str(given.get(_URL) or ""), secret, inside=bool(given.get("webhook-inside")))
    for key in (_URL, _SECRET):
        given.pop(key, None)


def _draw_told(connection: str | None) -> None:
    entries = AlertBook().list_entries(connection)
    if not entries:
        st.caption("Nothing has been told yet.")
        return
    rows = [
        {
            "When": words.moment(each.at),
            "Outcome": " · ".join(filter(None, (each.state, each.host, each.outcome))),
            "Alert": words.visible(each.alert.text),
            "Event": EVENTS.get(each.alert.event, TEST).words,
        }
        for each in entries
    ]
    alt = f"{words.plural(len(rows), 'alert')}; the newest is {rows[0]['Alert']}, {rows[0]['Outcome']}"
    st.dataframe(rows, hide_index=True, alt=alt)
