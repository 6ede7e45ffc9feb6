"""core/local/COVERAGE.md says what is so: all of the SDK's operations, what the server has routes for, who tests it."""

from __future__ import annotations

from tests.contract import coverage


def test_the_table_is_what_the_sources_say() -> None:
    assert coverage.TABLE.read_text(encoding="utf-8") == coverage.make_table(), (
        "run `python -m tests.contract.coverage` and read what changed"
    )


def test_no_operation_of_the_sdk_is_left_out() -> None:
    assert sorted(coverage.read_requests()) == sorted(coverage.list_operations())


def test_what_is_done_is_tested() -> None:
    tests = coverage.find_tests()
    done = [each for each in coverage.list_operations() if coverage.state_of(each) == "yes"]
    assert [each for each in done if not tests.get(each)] == []
