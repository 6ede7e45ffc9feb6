from __future__ import annotations

import gzip
import io
import json
import os
import signal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.azureml.connection import Connection
from core.dataset import ChatDataset, Finding, Report, Severity
from core.dataset.workplace import Workplace
from core.errors import BadInput, NotFound, Unreachable
from core.home import Home
from tests.chat_data import finish, from_upload, take
from tests.tiny_model import build_tiny_model
from tests.waiting import wait_until


def rows(count: int, first: int = 0) -> list[str]:
    return [
        f'{{"messages": [{{"role": "user", "content": "q{n}"}}, {{"role": "assistant", "content": "a{n} é"}}]}}'
        for n in range(first, first + count)
    ]


def as_file(lines: list[str], end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode()


def messages_of(found: ChatDataset, path: Path | None) -> list[str]:
    assert path is not None
    return [row.messages[0]["content"] for row in dataset.read_rows(path, 0, 10_000)]


def test_the_sample_is_clean_and_the_same_each_time(home: Home) -> None:
    sample = dataset.load_sample()
    assert (sample.name, sample.source, sample.usable, sample.findings) == ("sample", "bundled sample", True, ())
    assert sample.rows >= 300
    assert sample.test_rows >= 20
    assert dataset.load_sample() == sample == dataset.find_dataset(sample.key)
    assert sample.train_path.parent == home.datasets / sample.key


def test_an_upload_without_a_test_file_is_split_by_content_the_same_way_each_time(home: Home) -> None:
    first = from_upload("support.jsonl", as_file(rows(100)))
    assert (first.name, first.rows, first.test_rows, first.usable) == ("support", 90, 10, True)
    assert "10 of 100 rows, chosen by a hash of their content" in first.split_note
    assert "20% of the training rows for validation" in first.split_note
    turned = from_upload("turned.jsonl", as_file(rows(100)[::-1]))
    assert sorted(messages_of(first, first.test_path)) == sorted(messages_of(turned, turned.test_path))
    both = messages_of(first, first.train_path) + messages_of(first, first.test_path)
    assert sorted(both) == sorted(f"q{n}" for n in range(100))


def test_too_few_rows_are_left_whole_and_the_services_own_rule_is_told(home: Home) -> None:
    found = from_upload("few.jsonl", as_file(rows(10)))
    assert (found.rows, found.test_path) == (10, None)
    assert "80/10/10" in found.split_note


def test_a_test_file_of_ones_own_is_taken_as_it_is(home: Home) -> None:
    found = from_upload("a.jsonl", io.BytesIO(as_file(rows(20))), io.BytesIO(as_file(rows(3, 100))))
    assert (found.rows, found.test_rows, found.usable) == (20, 3, True)


def test_a_broken_line_seven_blocks_and_the_repaired_file_does_not(home: Home) -> None:
    lines = rows(30)
    lines[6] = lines[6][:-1]
    found = from_upload("broken.jsonl", as_file(lines))
    assert not found.usable
    assert found.words == "Fix 1 error first."
    first = found.findings[0]
    assert first.example == f'Line 7 is not JSON: a closing "}}" is missing at character {len(lines[6]) + 1}.'
    assert first.lines == (7,)
    row = dataset.find_row(found.train_path, 7)
    assert row is not None
    assert (row.text, row.messages) == (lines[6], ())
    repaired = from_upload("mended.jsonl", b"\n".join(line for _, line in dataset.repaired_rows(found)))
    assert repaired.usable
    assert repaired.rows + repaired.test_rows == 29


def test_many_errors_are_counted_and_the_first_fifty_lines_kept(home: Home) -> None:
    found = from_upload("bad.jsonl", as_file(["{", *["{}"] * 250]))
    assert found.words == "Fix 251 errors first. Line 1 is the first."
    assert [(one.code, one.count, len(one.lines)) for one in found.findings] == [
        ("no_messages", 250, 50),
        ("not_json", 1, 1),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "The file is empty."),
        (b"\n \n", "The file is empty."),
        (as_file(rows(9)), "The file has 9 rows; training needs at least 10."),
        (b"\0" * 300, "The file is not text: its first bytes hold zeros."),
        (
            as_file([*rows(20), "café"]).replace(b"caf\xc3\xa9", b"caf\xe9"),
            "Line 21 is not UTF-8 text: byte 0xe9 at position 4.",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(home: Home, content: bytes, said: str) -> None:
    found = from_upload("x.jsonl", content)
    assert not found.usable
    assert said in [finding.example for finding in found.findings]


def test_a_byte_order_mark_and_windows_line_ends_are_only_remarked(home: Home) -> None:
    found = from_upload("x.jsonl", b"\xef\xbb\xbf" + as_file(rows(40), "\r\n"))
    assert [(finding.example, finding.kind.severity) for finding in found.findings] == [
        ("The file began with a byte order mark.", Severity.HINT)
    ]
    assert found.usable
    assert not found.train_path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_copies_are_remarked(home: Home) -> None:
    found = from_upload("x.jsonl", as_file(rows(20) + rows(20)), as_file(rows(2, 50)))
    assert found.findings[0].example == "20 rows are copies of an earlier row. Line 21 is the first."
    assert found.usable


def test_blank_lines_keep_line_numbers_true_and_are_no_rows(home: Home) -> None:
    lines = [line for row in rows(12) for line in (row, "")]
    found = from_upload("x.jsonl", as_file(lines), as_file(rows(1, 50)))
    assert found.rows == 12
    assert [row.line for row in dataset.read_rows(found.train_path, 3, 2)] == [7, 9]
    assert dataset.find_row(found.train_path, 8) is None
    assert [row.line for row in dataset.read_page(found.train_path, text="Q11").rows] == [23]


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n"])
def test_many_blank_lines_before_the_rows_are_passed_over(home: Home, blank: bytes) -> None:
    """Under a second each; read one by one, these lines take minutes of processor time."""
    many = 30_000_000
    found = from_upload("x.jsonl.gz", gzip.compress(blank * many + as_file(rows(12)), 1), as_file(rows(1, 50)))
    assert (found.rows, [row.line for row in dataset.read_rows(found.train_path, 0, 1)]) == (12, [many + 1])


def test_lengths_are_estimates_until_a_tokenizer_is_there_and_say_so(home: Home) -> None:
    folder = build_tiny_model(home.base_models)
    assert dataset.find_tokenizer("tiny-chat", "1") == folder
    assert dataset.find_tokenizer("Phi-4", "8") is None
    guessed = dataset.load_sample()
    assert guessed.stats.length_unit == "tokens (estimate: characters / 4)"
    counted = dataset.count_tokens_with(guessed, folder)
    assert counted.stats.length_unit == "tokens"
    assert counted.stats.total_length > guessed.rows
    assert dataset.count_tokens_with(guessed, folder) == counted
    assert dataset.find_dataset(guessed.key, folder) == counted
    stats = counted.stats
    assert sum(count for _, _, count in stats.histogram(10)) == counted.rows
    assert stats.count_longer(stats.longest) == 0 == stats.count_longer(-1)
    assert stats.count_longer(stats.longest - 1) >= 1


def test_a_row_the_models_template_refuses_is_an_error_of_that_line(home: Home) -> None:
    folder = build_tiny_model(home.base_models)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    lines = rows(12)
    lines[4] = lines[4].replace('{"role": "user"', '{"role": "system", "content": "s"}, {"role": "user"')
    found = from_upload("x.jsonl", as_file(lines), as_file(rows(1, 50)), tokenizer=folder)
    assert [finding.example for finding in found.findings] == [
        "Line 5 is refused by the model's chat template: no system role"
    ]


def test_parquet_and_a_json_list_are_taken_too(home: Home) -> None:
    records = [json.loads(line) for line in rows(40)]
    whole = json.dumps(records, indent=1).encode()
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    wanted = from_upload("a.jsonl", as_file(rows(40)))
    for name, content in (
        ("a.json", whole),
        ("b.json", json.dumps(records).encode()),
        ("a.parquet", buffer.getvalue()),
    ):
        found = from_upload(name, content)
        assert (found.usable, found.rows, found.test_rows) == (True, 36, 4), name
        assert sorted(messages_of(found, found.train_path)) == sorted(messages_of(wanted, wanted.train_path))
    with pytest.raises(BadInput, match="The JSON list cannot be read after its object 0"):
        from_upload("cut.json", b"[{" + whole[2:40])
    with pytest.raises(BadInput, match="The Parquet file cannot be read"):
        from_upload("cut.parquet", buffer.getvalue()[:100])


def test_a_big_file_is_checked_by_a_process_of_its_own_and_found_again(home: Home) -> None:
    """About 3 s: 40,000 rows."""
    started = dataset.start_upload("big.jsonl", as_file(rows(40_000)))
    assert not started.state.finished
    done = finish(started)
    assert done.dataset is not None, done
    assert (done.dataset.rows, done.dataset.test_rows) == (36_000, 4_000)
    assert dataset.read_rows(done.dataset.train_path, 35_999, 5)[0].line == 40_000


def test_a_cancelled_check_leaves_no_process_and_no_data(home: Home) -> None:
    started = dataset.start_upload("big.jsonl", as_file(rows(60_000)))
    place = Workplace(started.id)
    assert place.is_alive()
    dataset.cancel_preparation(started.id)
    assert not place.is_alive()
    assert dataset.read_preparation(started.id).state == "cancelled"
    assert not (place.path / "train.jsonl").exists()
    assert dataset.list_datasets() == []


def test_a_check_that_was_killed_is_told_as_failed(home: Home) -> None:
    started = dataset.start_upload("big.jsonl", as_file(rows(60_000)))
    place = Workplace(started.id)
    os.kill(wait_until(lambda: place.read("process").get("pid")), signal.SIGKILL)
    ended = finish(started)
    assert (ended.state, ended.words) == ("failed", "The check of the data ended without a result.")


def test_an_unknown_preparation_or_data_set_is_none(home: Home) -> None:
    with pytest.raises(NotFound):
        dataset.read_preparation("../../etc")
    assert dataset.find_dataset("../../etc") is None
    assert dataset.find_dataset("0" * 64) is None
    dataset.cancel_preparation("../../etc")


def test_a_hub_that_cannot_be_reached_says_what_to_do_instead(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable) as caught:
        take(dataset.start_hub("HuggingFaceH4/ultrachat_200k", split="train_sft", percent=5))
    assert caught.value.message == "127.0.0.1:9 cannot be reached from this machine."
    assert caught.value.hint == "Upload a file, or use the bundled sample."


def test_an_upload_goes_once_under_its_hash_and_is_one_version(conn: Connection) -> None:
    sample, heard = dataset.load_sample(), []
    sent = dataset.upload(conn, sample, lambda done, total: heard.append((done, total)))
    total = sample.train_path.stat().st_size + (sample.test_path.stat().st_size if sample.test_path else 0)
    assert sent.bytes_sent == total
    assert heard[-1] == (total, total)
    assert sample.key in sent.train_uri
    assert dataset.upload(conn, sample).bytes_sent == 0
    first, again = (dataset.register_data(conn, sample, sent) for _ in range(2))
    assert first == again
    assert first.version == "1"
    asset = conn.workspace.data.get("sample-train", "1")
    assert asset.tags["tunedeck.sha256"] == sample.key
    assert (asset.tags["rows"], asset.tags["source"]) == (str(sample.rows), "bundled sample")
    other = from_upload("sample.jsonl", as_file(rows(40)))
    assert dataset.register_data(conn, other, dataset.upload(conn, other)).version == "2"


def test_a_kept_finding_of_a_kind_that_is_no_more_is_passed_over() -> None:
    kept = Report(40, (Finding("duplicate", "Two are the same."), Finding("echo", "It says the same."))).to_json()
    read = Report.from_json(kept.replace('"echo"', '"byte_order_mark"'))
    assert [finding.code for finding in read.findings] == ["duplicate"]
