"""Alerts from the end of an operation to the webhook's other end, which is a real server of this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import stat
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from core.alerts import delivery
from core.alerts.book import COOL_DOWN_S, GATHER_S, SENDING_S, AlertBook, AlertState, Entry
from core.alerts.delivery import deliver, deliver_all, send_test
from core.alerts.events import EVENTS, Alert
from core.alerts.settings import Kind, read_settings, remove_webhook, save_events, save_webhook
from core.errors import BadInput, TunedeckError
from core.home import REPOSITORY, Home
from core.locks import held
from core.support_bundle import write_report
from tests.core.alerts.listener import Listener, listening
from tests.soak import Soak
from tests.waiting import wait_until

EVIL = "<!channel> *bold* [see](http://evil.example) <at>all</at>\u202e & @here"


@pytest.fixture
def listener(home: Home) -> Iterator[Listener]:
    assert home.path
    with listening() as known:
        yield known


def note(*texts: str, event: str = "run_failed") -> None:
    for number, text in enumerate(texts):
        AlertBook().note(Alert("local", event, f"run-{number}-{text}", text))


def entries() -> list[Entry]:
    return AlertBook().list_entries()


def test_slack_takes_no_markup_and_no_mention_from_a_name(listener: Listener) -> None:
    save_webhook(Kind.SLACK, listener.url, inside=True)
    note(EVIL)
    deliver_all()
    [body] = listener.bodies
    assert "<" not in body["text"]
    assert "&lt;!channel&gt;" in body["text"]
    assert (body["mrkdwn"], body["parse"], body["link_names"]) == (False, "none", False)
    [block] = body["blocks"]
    assert block["text"]["type"] == "plain_text"
    assert block["text"]["text"].startswith("local: <!channel> *bold*")
    assert "\\u202e" in block["text"]["text"]


def test_teams_gets_an_adaptive_card_whose_text_is_no_markdown(listener: Listener) -> None:
    save_webhook(Kind.TEAMS, listener.url, inside=True)
    listener.answers = [(202, {})]
    note(EVIL)
    deliver_all()
    [body] = listener.bodies
    [attachment] = body["attachments"]
    assert body["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    [block] = attachment["content"]["body"]
    assert (block["type"], block["inlines"][0]["type"]) == ("RichTextBlock", "TextRun")  # neither reads Markdown
    assert "msteams" not in attachment["content"]  # where mentions would stand
    assert [each.state for each in entries()] == [AlertState.SENT]


@pytest.mark.parametrize(
    ("secret", "key"), [("plain words", b"plain words"), ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24)]
)
def test_plain_json_is_signed_over_its_id_time_and_body(listener: Listener, secret: str, key: bytes) -> None:
    save_webhook(Kind.JSON, listener.url, secret, inside=True)
    note("It failed.")
    deliver_all()
    [(path, headers, body)] = listener.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert path == "/services/T000/B000/the-secret-part"
    [alert] = listener.bodies[0]["alerts"]
    assert (alert["event"], alert["workspace"], alert["text"]) == ("run_failed", "local", "It failed.")


def test_what_comes_at_once_is_one_message_with_an_end(listener: Listener) -> None:
    save_webhook(Kind.JSON, listener.url, inside=True)
    note(*(f"Number {number}." for number in range(13)))
    deliver_all()
    [body] = listener.bodies
    lines = body["text"].splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("13 things happened", "local: Number 0.", "and 3 more")
    assert len(body["alerts"]) == 13
    assert {each.state for each in entries()} == {AlertState.SENT}


def test_the_same_of_one_thing_is_told_once_and_again_only_after_a_while(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_webhook(Kind.JSON, listener.url, inside=True)
    book, began = AlertBook(), time.time()
    for key, later_s in (("first", 0.0), ("first", 1.0), ("second", 2.0), ("third", COOL_DOWN_S + 60.0)):
        monkeypatch.setattr(time, "time", lambda later_s=later_s: began + later_s)
        book.note(Alert("local", "cap_reached", "kettle-1", "Its cap is reached.", key))
        deliver_all()
    assert [each.state for each in entries()] == [AlertState.SENT, AlertState.HELD, AlertState.SENT]
    assert len(listener.requests) == 2


def test_only_chosen_events_are_told_and_by_default_failures_and_money(listener: Listener) -> None:
    save_webhook(Kind.JSON, listener.url, inside=True)
    for event in EVENTS:
        AlertBook().note(Alert("local", event, "thing", event))
    deliver_all()
    told = {alert["event"] for alert in listener.bodies[0]["alerts"]}
    assert told == set(EVENTS) - {"run_completed", "run_cancelled", "deployment_live"}
    save_events(**{name: name == "run_completed" for name in EVENTS})
    note("It failed.")
    note("It completed.", event="run_completed")
    deliver_all()
    assert [alert["text"] for alert in listener.bodies[1]["alerts"]] == ["It completed."]


def test_two_who_choose_different_events_at_once_are_both_heard(home: Home) -> None:
    with ThreadPoolExecutor(3) as pool, held(home.path / "alerts.lock"):
        waiting = [
            pool.submit(save_events, deleted=True),
            pool.submit(save_events, run_failed=False),
            pool.submit(save_webhook, Kind.JSON, "https://hooks.example/1"),
        ]
        assert not wait(waiting, timeout=0.3).done, "who changes a part reads it only once the others have written"
    assert not any(each.exception() for each in waiting)
    chosen = read_settings()
    assert ("deleted" in chosen.events, "run_failed" in chosen.events) == (True, False)
    assert chosen.webhook is not None


def test_a_file_that_cannot_be_read_is_told_of_and_stays_as_it_is(home: Home) -> None:
    file = home.path / "alerts.json"
    file.write_text('{"events": ["run_failed"], "webhook": {"url": "https://hooks.example/s3cret"', encoding="utf-8")
    for change in (lambda: save_events(deleted=True), remove_webhook):
        with pytest.raises(BadInput, match=r"The file alerts.json in the home folder cannot be read") as refused:
            change()
        assert "s3cret" not in f"{refused.value.message}{refused.value.hint}{refused.value.detail}"
    assert "s3cret" in file.read_text(encoding="utf-8")


def test_without_a_webhook_alerts_are_kept_for_open_tabs_and_none_is_sent_later(listener: Listener) -> None:
    note("It failed.")
    deliver_all()
    assert [each.state for each in entries()] == [AlertState.NOTED]
    save_webhook(Kind.JSON, listener.url, inside=True)
    deliver_all()
    assert listener.requests == []
    note("Another.")
    deliver()  # it waits for what comes with it
    remove_webhook()
    deliver_all()
    assert [each.state for each in entries()] == [AlertState.NOTED] * 2


@pytest.mark.parametrize(
    ("status", "headers", "state", "pause_s"),
    [
        (429, {"Retry-After": "120"}, AlertState.DUE, 120.0),
        (503, {}, AlertState.DUE, delivery.FIRST_PAUSE_S),
        (404, {}, AlertState.FAILED, None),
        (302, {"Location": "http://127.0.0.1:1/"}, AlertState.FAILED, None),
        (504, {}, AlertState.UNKNOWN, None),
        (0, {}, AlertState.UNKNOWN, None),
    ],
)
def test_only_what_surely_did_not_arrive_is_sent_again(
    listener: Listener, status: int, headers: dict[str, str], state: AlertState, pause_s: float | None
) -> None:
    save_webhook(Kind.JSON, listener.url, inside=True)
    listener.answers = [(status, headers)]
    note("It failed.")
    now = time.time()
    deliver(now=now)
    now += GATHER_S
    deliver(now=now)
    assert [each.state for each in entries()] == [state]
    deliver(now=now + (pause_s or 0.0) - 1.0 if pause_s else now + 7200.0)
    assert len(listener.requests) == 1
    deliver(now=now + (pause_s or 7200.0))
    assert len(listener.requests) == (2 if pause_s else 1)
    assert entries()[0].state == (AlertState.SENT if pause_s else state)


def test_who_cannot_be_reached_is_given_up_after_some_tries(listener: Listener) -> None:
    save_webhook(Kind.JSON, "http://127.0.0.1:1/nobody", inside=True)
    note("It failed.")
    for turn in range(delivery.TRIES + 2):
        deliver(now=time.time() + turn * 7200.0)
    [entry] = entries()
    assert (entry.state, entry.tries) == (AlertState.FAILED, delivery.TRIES)
    assert entry.outcome == f"it cannot be reached (ConnectionRefusedError); given up after {delivery.TRIES} tries"


def test_what_its_sender_did_not_settle_is_not_sent_again(listener: Listener) -> None:
    """As after kill -9 between the record and the answer: it may have arrived."""
    save_webhook(Kind.JSON, listener.url, inside=True)
    note("It failed.")
    book, settings, now = AlertBook(), read_settings(), time.time()
    book.take(settings, now)
    assert len(book.take(settings, now + GATHER_S)) == 1
    deliver(now=now + GATHER_S + SENDING_S + 1.0)
    assert [each.state for each in entries()] == [AlertState.UNKNOWN]
    assert listener.requests == []


_SENDER = """
import sys, time
from core.alerts.delivery import deliver
for turn, _ in enumerate(sys.stdin):
    for look in range(12):
        deliver(now=time.time() + 9000.0 * turn + 700.0 * look)
    print("rests", flush=True)
"""
ANSWERS = (200, 200, 503, 429, 404, 0)


class Sender:
    """A process that looks for what is due as soon as it is told to, at times that run on by hours."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, "-c", _SENDER], cwd=REPOSITORY, **pipes)  # type: ignore[call-overload]

    def go(self, count: int = 1) -> None:
        self._process.stdin.write("go\n" * count)
        self._process.stdin.flush()

    def rest(self) -> None:
        assert self._process.stdout.readline() == "rests\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.mark.soak
def test_of_two_processes_one_sends_each_alert_and_none_twice(listener: Listener) -> None:
    """Both look at once, the other end fails at random, and in every third round one of them is killed -9."""
    save_webhook(Kind.JSON, listener.url, inside=True)
    senders = [Sender(), Sender()]
    with Soak("alerts", quick=4, long=200, what="alerts by two senders, one killed -9 in every third round") as soak:
        for number, chance in soak.rounds():
            listener.answers = [(chance.choice(ANSWERS), {}) for _ in range(chance.randrange(4))]
            note(*(f"{number} {each}." for each in range(chance.randrange(1, 5))))
            for sender in senders:
                sender.go()
            if number % 3 == 2:
                heard = len(listener.requests)
                wait_until(lambda heard=heard: len(listener.requests) > heard, "a message on its way")
                senders.pop(chance.randrange(2)).kill()
                senders.append(Sender())
                senders[1].go(number + 2)  # to the time where the other one is
                for _ in range(number + 1):
                    senders[1].rest()
                soak.add("kills")
            for sender in senders:
                sender.rest()
        for sender in senders:
            sender.kill()
        for look in range(delivery.TRIES + 1):  # what the killed ones had in hand, and what is to be tried again
            deliver(now=time.time() + 9000.0 * soak.total + 4000.0 * look)
        arrived = Counter(
            alert["text"]
            for body, status in zip(listener.bodies, listener.statuses, strict=True)
            for alert in body["alerts"]
            if status in (200, 0)  # taken, or perhaps
        )
        found = AlertBook().list_entries(limit=10_000)
        for entry in found:
            assert arrived[entry.alert.text] <= 1, entry
            assert entry.state is not AlertState.SENT or arrived[entry.alert.text] == 1, entry
            assert entry.state in {AlertState.SENT, AlertState.UNKNOWN, AlertState.FAILED}, entry
            soak.add(str(entry.state))


def test_a_test_message_says_what_became_of_it(listener: Listener) -> None:
    save_webhook(Kind.SLACK, listener.url, inside=True)
    assert send_test("local") == "taken (200)"
    listener.answers = [(403, {})]
    with pytest.raises(TunedeckError, match=r"127\.0\.0\.1: refused \(403\): it may not be used any more"):
        send_test("local")
    assert [each.state for each in entries()] == [AlertState.FAILED, AlertState.SENT]


def test_the_address_stands_in_one_file_and_nowhere_else(
    home: Home, listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    save_webhook(Kind.JSON, listener.url, "the-signing-key", inside=True)
    note("It failed.")
    listener.answers = [(500, {}), (404, {})]
    deliver_all()
    deliver(now=time.time() + 60.0)
    kept = home.path / "alerts.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (home.logs / "dashboard.log").write_text(f"POST {listener.url} the-signing-key", encoding="utf-8")
    with zipfile.ZipFile(write_report(home, tmp_path / "out")) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist()]
    texts += [str(read_settings()), str(entries()), caplog.text]
    texts += [path.read_bytes().decode("latin-1") for path in home.path.glob("ledger.db*")]
    for text in texts:
        assert "the-secret-part" not in text
        assert "the-signing-key" not in text
