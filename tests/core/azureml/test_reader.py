from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.reader import NOTHING_LASTS_S, Reader, Snapshot, reader_for
from core.azureml.settings import local_settings
from core.errors import NotFound, Unreachable
from core.home import Home
from tests.waiting import wait_until


@pytest.fixture
def reader(home: Home) -> Reader:
    return Reader(connect(local_settings(), home=home))


def look(reader: Reader, key: str, fn: Callable[[Connection], object], wanted: Callable[[Snapshot], bool]) -> Snapshot:
    def read() -> Snapshot | None:
        found = reader.read(key, fn, max_age_s=0.0)
        return found if wanted(found) else None

    return wait_until(read, f"{key} as wanted", every_s=0.005)


def test_reading_returns_at_once_and_the_value_comes_later(reader: Reader) -> None:
    gate = threading.Event()

    def slow(conn: Connection) -> str:
        gate.wait(60)
        return conn.title

    reader.read("warm", lambda conn: 1)
    first = reader.read("title", slow)
    assert (first.value, first.loading, first.has_value, first.age_s) == (None, True, False, None)
    gate.set()
    found = look(reader, "title", slow, lambda snapshot: snapshot.has_value)
    assert found.value == "Local"
    assert found.age_s is not None


def test_one_key_is_read_once_at_a_time_however_many_ask(reader: Reader) -> None:
    gate, calls = threading.Event(), []

    def slow(_: Connection) -> int:
        calls.append(1)
        gate.wait(5)
        return len(calls)

    for _ in range(100):
        reader.read("key", slow, max_age_s=0.0)
    gate.set()
    look(reader, "key", slow, lambda snapshot: snapshot.has_value)
    assert len(calls) <= 2


def test_a_fresh_value_is_not_read_again(reader: Reader) -> None:
    calls: list[int] = []
    reader.wait("key", lambda _: calls.append(1))
    for _ in range(10):
        reader.read("key", lambda _: calls.append(1), max_age_s=60)
    assert calls == [1]


def test_a_failure_keeps_the_last_good_value_its_age_and_the_error(reader: Reader) -> None:
    assert reader.wait("key", lambda _: 5).value == 5

    def gone(_: Connection) -> int:
        raise NotFound("It is gone.")

    found = look(reader, "key", gone, lambda snapshot: snapshot.error is not None)
    assert (found.value, found.failures, found.is_stale) == (5, 1, False)
    assert str(found.error) == "It is gone."
    assert reader.wait("key", lambda _: 6).error is None


def test_after_errors_the_pause_grows(reader: Reader) -> None:
    calls: list[float] = []

    def failing(_: Connection) -> None:
        calls.append(time.monotonic())
        raise NotFound("It is gone.")

    look(reader, "key", failing, lambda snapshot: snapshot.failures == 3)
    first, second, third = calls
    assert second - first >= 1
    assert third - second >= 2


def test_while_nothing_answers_one_key_at_a_time_asks_again(reader: Reader) -> None:
    busy, most, calls, lock = 0, 0, 0, threading.Lock()

    def stopped(_: Connection) -> None:
        nonlocal busy, most, calls
        with lock:
            busy += 1
            most = max(most, busy)
            calls += 1
        time.sleep(0.01)  # as long as another thread would need to begin too
        with lock:
            busy -= 1
        raise Unreachable("No answer.")

    look(reader, "first", stopped, lambda snapshot: snapshot.error is not None)
    most = calls = 0

    def read_all() -> bool:
        for number in range(20):
            reader.read(f"key {number}", stopped)
        return calls >= 20

    wait_until(read_all, "a read of each key")
    assert most == 1


def test_dropping_a_prefix_reads_again_and_keeps_the_value_meanwhile(reader: Reader) -> None:
    reader.wait("runs/a", lambda _: 1)
    reader.wait("computes", lambda _: 1)
    reader.drop("runs")
    assert reader.read("runs/a", lambda _: 2, max_age_s=60).value == 1
    assert look(reader, "runs/a", lambda _: 2, lambda snapshot: snapshot.value == 2)
    assert reader.read("computes", lambda _: 2, max_age_s=60).loading is False


def test_what_was_read_in_another_phase_is_old_whatever_its_age_and_whenever_it_lands(reader: Reader) -> None:
    gate = threading.Event()

    def slow(_: Connection) -> str:
        gate.wait(5)
        return "empty, as it was while the run waited"

    reader.read("loss", slow, 600, phase="Queued")  # still on its way when the run has ended
    assert reader.read("loss", slow, 600, phase="Completed").phase is None
    gate.set()
    ended = look_in(reader, "Completed")
    assert (ended.value, ended.phase) == (1.02, "Completed")
    assert not reader.read("loss", lambda _: 5.0, 600, phase="Completed").loading


def look_in(reader: Reader, phase: str) -> Snapshot[object]:
    def read() -> Snapshot[object] | None:
        found = reader.read("loss", lambda _: 1.02, 600, phase=phase)
        return found if found.phase == phase else None

    return wait_until(read, f"the loss in the phase {phase}", every_s=0.005)


def test_nothing_yet_is_looked_at_again_however_long_a_value_may_be_kept(reader: Reader) -> None:
    reader.wait("evaluation", lambda _: None)
    reader.wait("other", lambda _: 0)
    for key in ("evaluation", "other"):
        reader._entries[key].good_at -= NOTHING_LASTS_S + 1
    assert reader.read("evaluation", lambda _: 1, 600).loading
    assert not reader.read("other", lambda _: 1, 600).loading


def test_a_mistake_in_a_reading_is_shown_and_the_threads_go_on(reader: Reader) -> None:
    found = reader.wait("key", lambda _: 1 / 0)
    assert found.error is not None
    assert "ZeroDivisionError" in found.error.message
    assert "Traceback" in found.error.detail
    assert [reader.wait(f"key {number}", lambda _: 7).value for number in range(5)] == [7] * 5


def test_there_is_one_reader_per_connection(reader: Reader) -> None:
    assert reader_for(reader.connection) is reader_for(reader.connection)
