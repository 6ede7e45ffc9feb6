"""An alert as each kind of webhook wants it. What stands in it is text everywhere: no markup, no mention."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.alerts.book import Entry
from core.alerts.settings import Kind, Webhook
from core.words import plural, visible

MOST_LINES = 10
_LONGEST_LINE = 400


def make_body(webhook: Webhook, entries: Sequence[Entry]) -> bytes:
    """Return the request's body: one message, however many alerts it tells."""
    body = _SHAPES[webhook.kind](entries)
    return json.dumps(body, ensure_ascii=False).encode()


def make_headers(webhook: Webhook, message_id: str, body: bytes, now: float) -> dict[str, str]:
    """Return the request's headers; plain JSON is signed as https://www.standardwebhooks.com lays down."""
    headers = {"Content-Type": "application/json", "User-Agent": "Tunedeck"}
    if webhook.kind is not Kind.JSON:
        return headers
    headers |= {"webhook-id": message_id, "webhook-timestamp": f"{now:.0f}"}
    if webhook.secret:
        signed = f"{message_id}.{now:.0f}.".encode() + body
        digest = hmac.digest(_key_of(webhook.secret), signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key_of(secret: str) -> bytes:
    """Return the key in a secret: after "whsec_" it is base64, anything else is the key itself."""
    try:
        return (
            base64.b64decode(secret.removeprefix("whsec_"), validate=True)
            if secret[:6] == "whsec_"
            else secret.encode()
        )
    except ValueError:
        return secret.encode()


def make_lines(entries: Sequence[Entry]) -> list[str]:
    """Return what is told, a line each, the workspace first; above many lines stands how many."""
    lines = [visible(f"{each.place}: {each.alert.text}").replace("\n", " ")[:_LONGEST_LINE] for each in entries]
    if len(lines) == 1:
        return lines
    rest = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return [f"{plural(len(lines), 'thing')} happened", *lines[:MOST_LINES], *rest]


def _to_slack(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """See docs.slack.dev/messaging/formatting-message-text: `plain_text` knows no markup, the fallback is escaped."""
    text = "\n".join(make_lines(entries))
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    block = {"type": "section", "text": {"type": "plain_text", "text": text[:3000], "emoji": False}}
    return {"text": escaped, "mrkdwn": False, "parse": "none", "link_names": False, "blocks": [block]}


def _to_teams(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """An Adaptive Card in a message: a TextBlock would read Markdown, the runs of a RichTextBlock do not."""
    body = [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line}]} for line in make_lines(entries)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": "Tunedeck",
        "body": body,
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def _to_json(entries: Sequence[Entry]) -> Mapping[str, Any]:
    alerts = [
        {
            "event": each.alert.event,
            "workspace": each.place,
            "thing": each.alert.thing,
            "text": each.alert.text,
            "at": each.at_text,
        }
        for each in entries
    ]
    return {"text": "\n".join(make_lines(entries)), "alerts": alerts}


_SHAPES = {Kind.SLACK: _to_slack, Kind.TEAMS: _to_teams, Kind.JSON: _to_json}
