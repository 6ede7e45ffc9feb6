"""What pages know of a workspace: snapshots, read off the script thread. Draws nothing.

A page never waits: the first `read` answers "loading", and the frame draws the page again when the value is there.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from core import home, overview
from core.azureml import connection as connections
from core.azureml import reader
from core.azureml.connection import Connection
from core.azureml.local_process import ensure_local
from core.azureml.reader import Snapshot
from core.azureml.settings import LOCAL, find_settings
from core.catalog.catalogue import Found
from core.errors import NotFound, TunedeckError, Unreachable
from core.runs import metrics
from core.runs.index import RunList
from core.runs.metrics import RunMetrics
from core.runs.states import Run
from pages.parts.kit.guard import fault
from pages.parts.kit.state import Watch, ui

T = TypeVar("T")
_KEPT_WORKS = 64
_FINAL_S = 600.0  # how long what does not change any more is taken as it is
_lock = threading.Lock()
_pool = ThreadPoolExecutor(4, thread_name_prefix="pages")
_works: dict[tuple[str, str], _Work] = {}


class _Work:
    """One piece of background work and its outcome."""

    def __init__(self, fn: Callable[[], Any], pool: ThreadPoolExecutor) -> None:
        self._ended_at: datetime | None = None
        self._future: Future[Any] = pool.submit(self._run, fn)  # not kept: it may hold much

    def _run(self, fn: Callable[[], Any]) -> Any:
        try:
            return fn()
        finally:
            self._ended_at = datetime.now(UTC)

    def snapshot(self) -> Snapshot[Any]:
        if not self._future.done() or self._ended_at is None:
            return LOADING
        error = self._future.exception()
        if error is None:
            age_s = (datetime.now(UTC) - self._ended_at).total_seconds()
            return Snapshot(self._future.result(), self._ended_at, None, age_s, False)
        return failed(error if isinstance(error, TunedeckError) else fault(error))


LOADING: Snapshot[Any] = Snapshot(None, None, None, None, True)


def failed(error: TunedeckError) -> Snapshot[Any]:
    """Return the snapshot of something that cannot be read."""
    return Snapshot(None, None, error, None, False, 1)


def find_connection(alias: str | None = None) -> Connection | None:
    """Return the connection of this session (or of another alias), or None where none is chosen or known.

    Makes no request. The first use of the local workspace in this process also sees to it that it runs.
    """
    alias = alias or ui().alias
    settings = find_settings(alias) if alias else None
    if settings is None:
        return None
    if alias == LOCAL and find_work("start-local", _home()) is None:
        start_local()
    return connections.connect(settings)


def warm_up() -> None:
    """Import off the page what takes long: the SDK by building a client, which sends nothing, charts and tables."""
    for name in ("pages.parts.kit.charts", "pandas"):  # which Streamlit imports for the first table it draws
        run_once(f"warm-up-{name}", _home(), partial(importlib.import_module, name))
    settings = find_settings(LOCAL)
    if settings is not None:
        place = connections.connect(settings)
        run_once("warm-up", _home(), lambda: place.workspace)


def start_local() -> None:
    """See to it that the local workspace runs, off the page; what waits for it is read at once afterwards."""

    def start() -> None:
        settings = ensure_local()
        reader.reader_for(connections.connect(settings)).drop()

    end_work("start-local", _home())
    run_once("start-local", _home(), start)


def starting_local() -> Snapshot[Any] | None:
    """Return how far `start_local` is, or None where it was not asked for."""
    return find_work("start-local", _home())


def read(
    fn: Callable[..., T], *args: Any, max_age_s: float = 2.0, alias: str | None = None, phase: object = None
) -> Snapshot[T]:
    """Return what is known of `fn(connection, *args)` at once; read it again, off the page, when that is too old, or
    was read in another phase (`Reader.read`).
    """
    alias = alias or ui().alias
    key = _key(fn, args)

    def again() -> Snapshot[T]:
        found = find_connection(alias)
        if found is None:
            return failed(NotFound(*_nowhere(alias)))
        seen = reader.reader_for(found).read(key, lambda connection: fn(connection, *args), max_age_s, phase)
        return _wait_for_start(seen) if alias == LOCAL and seen.error and not seen.has_value else seen

    return watch(f"{alias}:{key}", again)


def _wait_for_start(snapshot: Snapshot[T]) -> Snapshot[T]:
    """Return what was asked of the local workspace before it was up as still being read, while it is being started."""
    starting = starting_local()
    return LOADING if starting and starting.loading and isinstance(snapshot.error, Unreachable) else snapshot


def read_runs() -> Snapshot[RunList]:
    """Return the runs; while more of them are to be read, the next look begins at once."""
    found = read(overview.read_runs)
    more = found.value is not None and not found.value.complete
    return read(overview.read_runs, max_age_s=0.0) if more else found


def look(name: str, fn: Callable[..., Found], *args: Any) -> Found | None:
    """Return what a search in what this home keeps finds now, None without a connection; the page is drawn again while
    it finds more.
    """

    def again() -> Snapshot[Found]:
        place = find_connection()
        if place is None:
            return failed(NotFound(*_nowhere(ui().alias)))
        found = fn(place, *args)
        return Snapshot(found, datetime.now(UTC), None, 0.0, found.moving)

    return watch(f"{ui().alias}:{name}", again).value


def read_measures(run: Run, max_age_s: float = 2.0) -> Snapshot[RunMetrics]:
    """Return what a run measured; kept for long once it is final (`is_final`)."""
    if run.recorded:
        return Snapshot(RunMetrics(run.name), datetime.now(UTC), None, 0.0, False)
    found = read(metrics.read_metrics, run.name, max_age_s=_FINAL_S if run.settled else max_age_s, phase=_phase_of(run))
    if found.value is not None and not found.value.complete:
        return read(metrics.read_metrics, run.name, max_age_s=0.0, phase=_phase_of(run))
    return found


def is_final(run: Run, measured: Snapshot[RunMetrics]) -> bool:
    """Whether nothing more can come: the measures were read after the run had ended and the last of them were there."""
    whole = measured.value is not None and measured.value.complete
    return run.recorded or (run.settled and whole and measured.phase == _phase_of(run))


def _phase_of(run: Run) -> tuple[str, bool]:
    return run.state, run.settled


def forget(*fns: Callable[..., Any]) -> None:
    """Have these read anew at the next look, after something was changed."""
    if found := find_connection():
        for fn in fns:
            reader.reader_for(found).drop(_key(fn, ()))


def work(name: str, key: str, fn: Callable[[], T], *, alone: bool = False) -> Snapshot[T]:
    """Run `fn` once in the background for this `key` and return how it stands; for what is not read off a workspace.

    alone: the outcomes of other keys of this name are forgotten; for what is large.
    """
    if alone:
        with _lock:
            for other in [one for one in _works if one[0] == name and one[1] != key]:
                del _works[other]
    return watch(f"{name}:{key}", lambda: run_once(name, key, fn))


def keep_shown(name: str, snapshot: Snapshot[T]) -> Snapshot[T]:
    """Return the snapshot, or the last one that this page had under the name while that is still loading.

    For work whose key changes while somebody uses the page: its fields would go for a moment, and what is in them.
    """
    shown: Snapshot[T] = ui().view.get(f"shown-{name}", snapshot) if snapshot.loading else snapshot
    ui().view[f"shown-{name}"] = shown
    return shown


def run_once(name: str, key: str, fn: Callable[[], T], *, apart: bool = False) -> Snapshot[T]:
    """As `work`, without drawing the page again when it ends. apart: for what waits for a person, in its own thread."""
    with _lock:
        if (name, key) not in _works:
            while len(_works) >= _KEPT_WORKS:
                _works.pop(next(iter(_works)))
            _works[name, key] = _Work(fn, ThreadPoolExecutor(1, f"pages-{name}") if apart else _pool)
        return _works[name, key].snapshot()


def find_work(name: str, key: str) -> Snapshot[Any] | None:
    """Return how a piece of work stands that was begun, or None."""
    with _lock:
        found = _works.get((name, key))
    return found.snapshot() if found else None


def end_work(name: str, key: str) -> None:
    """Forget a piece of work, so that it can be begun again."""
    with _lock:
        _works.pop((name, key), None)


def watch(name: str, again: Callable[[], Snapshot[T]]) -> Snapshot[T]:
    """Read now, and have the frame draw the page again when the answer comes, or when a failure ends."""
    snapshot = again()
    if not ui().in_live:  # the first look of a script run stays: what it drew is old even if a later look saw more
        ui().watched.setdefault(name, Watch(again, snapshot)).in_dialog |= ui().in_dialog
    return snapshot


def is_waiting(snapshot: Snapshot[Any]) -> bool:
    """Whether another look at it soon may say something new."""
    return snapshot.loading or snapshot.error is not None


def has_changed(before: Snapshot[Any], now: Snapshot[Any]) -> bool:
    """Whether a page that drew `before` is worth drawing again. The age alone is not."""
    return (before.has_value, before.is_stale, str(before.error), before.value) != (
        now.has_value,
        now.is_stale,
        str(now.error),
        now.value,
    )


def _key(fn: Callable[..., Any], args: tuple[Any, ...]) -> str:
    return f"{fn.__module__}.{fn.__qualname__}:" + "|".join(map(repr, args))


def _home() -> str:
    return str(home.default_path())


def _nowhere(alias: str | None) -> tuple[str, str]:
    if not alias:
        return ("No workspace is chosen.", "Choose one on the page Connect.")
    return (f"There is no connection '{alias}' on this machine.", "Choose a workspace on the page Connect.")
