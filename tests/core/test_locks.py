from __future__ import annotations

import fcntl
import subprocess
import threading
from pathlib import Path

import pytest

from core import locks


def test_a_lock_is_held_for_the_block_and_free_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    assert not locks.is_held(path), "there is no file yet"
    with locks.tried(path) as first, locks.tried(path) as second:
        assert (first, second, locks.is_held(path)) == (True, False, True)
    assert not locks.is_held(path)
    with locks.held(path):
        assert locks.is_held(path)


def test_who_must_wait_is_told_and_a_child_that_inherits_a_lock_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locks.held(path, on_wait=lambda: pytest.fail("nobody else holds it")) as lock:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock])
    assert locks.is_held(path)
    with locks.held(path, on_wait=lambda: child.communicate()):
        assert child.returncode == 0


def test_who_only_looks_does_not_make_another_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look is held until the other has tried in vain once."""
    path = tmp_path / "a.lock"
    path.touch()
    tried_in_vain = threading.Event()
    take = locks._take

    def take_and_tell(file: object) -> bool:
        mine = take(file)  # type: ignore[arg-type]
        if not mine:
            tried_in_vain.set()
        return mine

    monkeypatch.setattr(locks, "_take", take_and_tell)
    with path.open("rb") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        thread = threading.Thread(target=lambda: (tried_in_vain.wait(10), fcntl.flock(look, fcntl.LOCK_UN)))
        thread.start()
        with locks.tried(path) as mine:
            assert mine
        thread.join()
