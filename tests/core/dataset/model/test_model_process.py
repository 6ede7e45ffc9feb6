"""A model's own files come from anyone: whatever is in them ends, within limits, in a sentence, and the next one works.

About 7 s: two templates burn the seconds of the processor that they are given, and one takes 2 GiB.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import dataset
from core.dataset import Severity
from core.dataset.model.model_view import view_as_model
from core.errors import BadInput
from core.home import Home
from tests.tiny_model import TEMPLATE, build_tiny_model, make_conversations
from tests.waiting import wait_until

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
ENDLESS = {
    "a macro that doubles": "{% macro f(n) %}{% if n %}{{ f(n - 1) + f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a power": "{{ (messages | length) ** 9 ** 9 ** 9 }}",
}
DOUBLING = "{% set n = namespace(a='a') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}"
REFUSED = {
    "a string without end": "{{ 'a' * 10 ** 10 }}",
    "a string of messages": "{{ messages[0].content * 10 ** 10 }}",
    "a wide format": "{{ '%9999999999d' | format(messages | length) }}",
    "a list without end": "{{ [0] * 10 ** 10 }}",
    "a centred text": "{{ messages[0].content.center(10 ** 10) }}",
    "a large range": "{% for a in range(10 ** 9) %}{{ a }}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "an unknown variable": "{{ nothing.of.that }}",
    "a refusal": "{{ raise_exception('Roles must alternate') }}",
    "a refusal of no text": "{{ raise_exception(messages) }}",
    "division": "{{ 1 // 0 }}",
    "a wrong type": "{{ messages + 1 }}",
    "a key": "{{ messages[7].content.x }}",
    "an attribute": "{{ ''.__class__.__mro__ }}",
    "an include": "{% include 'other' %}",
    "a number of many digits": "{{ (messages | length) ** 20000 }}",
    "half a character": "{{ '\\ud800' }}",
    "a date": "{{ strftime_now(1) }}",
    "json": "{{ raise_exception | tojson }}",
    "an encoding": "{{ messages[0].content.encode('nonsense') }}",
}
UNREADABLE: dict[str, tuple[str, bytes]] = {
    "template syntax": ("chat_template.jinja", b"{% for m in"),
    "template nesting": ("chat_template.jinja", b"{% for m in messages %}" * 60 + b"{% endfor %}" * 60),
    "template brackets": ("chat_template.jinja", b"{{ " + b"(" * 5000 + b"1" + b")" * 5000 + b" }}"),
    "template bytes": ("chat_template.jinja", b"\xff\xfe\0"),
    "tokenizer empty": ("tokenizer.json", b""),
    "tokenizer truncated": ("tokenizer.json", b'{"version": "1.0", "model": {"type": "BPE"'),
    "tokenizer list": ("tokenizer.json", b"[]"),
    "tokenizer types": ("tokenizer.json", b'{"version": 1, "model": {"vocab": 7, "merges": {}}, "added_tokens": "x"}'),
    "tokenizer number": ("tokenizer.json", b'{"version": "1.0", "truncation": {"max_length": 1e999}, "model": 10e400}'),
    "tokenizer depth": ("tokenizer.json", b'{"model": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "tokenizer bytes": ("tokenizer.json", b"\xff" * 1000),
    "configuration truncated": ("tokenizer_config.json", b'{"eos_token": '),
    "configuration list": ("tokenizer_config.json", b"[1]"),
    "configuration depth": ("tokenizer_config.json", b"[" * 100_000),
    "configuration bytes": ("tokenizer_config.json", b"\xff\xfe"),
    "configuration number": ("tokenizer_config.json", b"1" * 5000),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "tiny-chat" / "1"))


def read_refusal(folder: Path) -> BadInput:
    """Return how the conversation is refused; in words of ours, with something to do."""
    with pytest.raises(BadInput) as caught:
        view_as_model(TALK, folder)
    shown = f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint
    assert not any(word in shown for word in ("Error", "Exception", "Traceback", "' object", "NoneType", "codec"))
    shown.encode()
    return caught.value


def assert_the_next_one_works(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    assert view_as_model(TALK, folder).learned


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_an_end_is_ended(folder: Path, name: str) -> None:
    (folder / "chat_template.jinja").write_text(ENDLESS[name], encoding="utf-8")
    begun = time.monotonic()
    refusal = read_refusal(folder)
    assert "tiny-chat" in refusal.message or "refuses this row" in refusal.message
    assert time.monotonic() - begun < 60
    assert_the_next_one_works(folder)


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_template_cannot_do_is_a_sentence_about_the_row(folder: Path, name: str) -> None:
    (folder / "chat_template.jinja").write_text(REFUSED[name], encoding="utf-8")
    assert "refuses this row" in read_refusal(folder).message
    assert_the_next_one_works(folder)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_model_file_that_cannot_be_read_names_model_and_file(folder: Path, name: str) -> None:
    file, content = UNREADABLE[name]
    (folder / file).write_bytes(content)
    if file == "tokenizer_config.json":  # then the template is in it
        (folder / "chat_template.jinja").unlink()
    refusal = read_refusal(folder)
    assert refusal.message.startswith("The model 'tiny-chat' cannot be used: its ")
    assert file in refusal.message or "chat template" in refusal.message


def test_a_data_set_stays_when_the_model_cannot_be_used(home: Home, folder: Path) -> None:
    content = b"\n".join(json.dumps(row).encode() for row in make_conversations(20))
    (folder / "chat_template.jinja").write_text(LOOP, encoding="utf-8")
    taken: Any = dataset.start_upload("faq.jsonl", content, tokenizer=folder).dataset
    first = taken.findings[0]
    assert (first.code, first.kind.severity, taken.usable, taken.rows) == ("bad_model", Severity.ERROR, False, 18)
    assert first.example.startswith("The model 'tiny-chat' cannot be used: its chat template or tokenizer does not")
    assert taken.words == first.example, "why it cannot be used, at the button and in the check before a start"
    assert dataset.find_dataset(taken.key).usable, "with another model it can be used"  # type: ignore[union-attr]
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    counted = dataset.count_tokens_with(taken, folder)
    assert (counted.usable, counted.stats.length_unit) == (True, "tokens")


def _is_reader(process: psutil.Process) -> bool:
    try:
        return "core.dataset.model.model_reader" in process.cmdline()
    except psutil.ZombieProcess:  # one that was ended just now
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the process is looked at, which takes the memory first")
def test_memory_that_no_template_may_take_is_not_taken(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(DOUBLING, encoding="utf-8")
    read_refusal(folder)
    assert_the_next_one_works(folder)
    [reader] = [one for one in psutil.Process().children() if _is_reader(one)][-1:]
    assert reader.memory_info().rss < 1 << 29


def test_a_process_that_ended_while_it_was_idle_is_replaced(folder: Path) -> None:
    assert view_as_model(TALK, folder).learned
    idle = [one for one in psutil.Process().children() if _is_reader(one)]
    assert idle
    for reader in idle:
        reader.kill()
    wait_until(lambda: all(one.status() == psutil.STATUS_ZOMBIE for one in idle))
    assert view_as_model(TALK, folder).learned
