"""Answers that are written together, and the keys kept between them, beside transformers' own generate."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch

from core.engine.chat_tokens import load_chat_tokens
from core.engine.compute_speed import choose_number_format
from core.engine.generation import Answer, ChatModel, Sampling
from core.engine.pretrained import load_pretrained
from core.engine.row_keys import KeptKeys, RowKeys
from core.local.base_model import NAME, VERSION
from tests.environment import REAL_MODELS
from tests.model_families import FAMILIES, build_family
from tests.soak import is_soak

QUESTIONS = [f"What is the kettle {number} of the harbour{' and the office' * (number % 7)}?" for number in range(20)]
LONG = "Hello, says the keeper of the lamps. " * 12
GREEDY = Sampling(12)


@contextmanager
def loaded(folder: Path, at_once: int = 8) -> Iterator[ChatModel]:
    model = load_pretrained(folder, "float32", "cpu")
    with closing(ChatModel(model, load_chat_tokens(folder), "", 1, at_once)) as chat:
        yield chat


def encode(chat: ChatModel, *said: str) -> list[int]:
    roles = ("user", "assistant")
    return chat.tokens.encode_prompt([{"role": roles[n % 2], "content": text} for n, text in enumerate(said)])


def ask(chat: ChatModel, prompts: Sequence[Sequence[int]], *sampling: Sampling) -> list[Answer]:
    """Ask for everything at once; the sampling goes round."""
    asked = [
        chat.start(prompt, sampling[n % len(sampling)], lambda _: None, threading.Event())
        for n, prompt in enumerate(prompts)
    ]
    return [each.result(300) for each in asked]


def generate(folder: Path, prompts: Sequence[Sequence[int]], most: int) -> list[str]:
    tokens, model = load_chat_tokens(folder), load_pretrained(folder, "float32", "cpu")
    said = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=list(tokens.stop_ids),
            pad_token_id=tokens.pad_id,
        )
        said.append(tokens.decode(made[0, len(prompt) :].tolist()))
    return said


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_answers_many_at_once_as_generate_does_one(tmp_path: Path, family: str) -> None:
    folder = build_family(tmp_path / family, family)
    with loaded(folder) as chat:
        assert chat.at_once == 8
        prompts = [encode(chat, text) for text in (QUESTIONS[6], "x", LONG, QUESTIONS[3], LONG + "x")]
        first, again = (ask(chat, prompts, GREEDY) for _ in range(2))
        wanted = generate(folder, prompts, GREEDY.max_new_tokens)
    assert [each.text for each in first] == wanted
    assert [each.text for each in again] == wanted
    assert [each.kept_tokens for each in again] == [len(prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    with loaded(build_family(tmp_path_factory.mktemp("smollm"), "smollm")) as chat:
        yield chat


def test_a_row_is_drawn_by_its_own_sampling_whatever_runs_beside_it(chat: ChatModel) -> None:
    prompts = [encode(chat, text) for text in QUESTIONS]
    kinds = (
        Sampling(9, temperature=1.5, seed=3),
        Sampling(30),
        Sampling(20, temperature=2.0, top_p=0.9, top_k=40, seed=4),
        Sampling(16, repetition_penalty=1.7),
        Sampling(20, stop=("e",)),
    )
    alone = [ask(chat, [prompt], kinds[number % len(kinds)])[0].text for number, prompt in enumerate(prompts)]
    assert [each.text for each in ask(chat, prompts, *kinds)] == alone
    assert len(set(alone)) > 15


def test_a_second_turn_reads_only_what_is_new(chat: ChatModel) -> None:
    first = encode(chat, "How is the keeper of the lamps?")
    (said,) = ask(chat, [first], GREEDY)
    second = encode(chat, "How is the keeper of the lamps?", said.text, "x")
    (answer,) = ask(chat, [second], GREEDY)
    assert said.kept_tokens < len(first) <= answer.kept_tokens


def test_a_pass_that_only_reads_begins_anew_once_with_those_asked_meanwhile(tmp_path: Path) -> None:
    begun, ended, meanwhile = list[int](), list[int](), list[Future[Answer]]()

    def begin(_model: torch.nn.Module, _given: object, named: dict[str, torch.Tensor]) -> None:
        begun.append(named["input_ids"].shape[1])
        if len(begun) <= 3:  # one is asked in the first pass, one as it begins anew, one as answers are written
            prompt = encode(chat, QUESTIONS[len(begun)])
            meanwhile.append(chat.start(prompt, GREEDY, lambda _: None, threading.Event()))

    folder = build_family(tmp_path / "smollm", "smollm")
    with loaded(folder) as chat:
        prompts = [encode(chat, text) for text in QUESTIONS[:4]]
        chat.model.register_forward_pre_hook(begin, with_kwargs=True)
        chat.model.register_forward_hook(lambda _model, _given, _said: ended.append(begun[-1]))
        (first,) = ask(chat, prompts[:1], GREEDY)
        said = [first.text, *(each.result(60).text for each in meanwhile)]
    sizes = [len(prompt) for prompt in prompts]
    assert begun[:4] == [sizes[0] + 1, sizes[0] + sizes[1], sizes[2] + 2, sizes[3] + 3]
    assert ended == begun[1:]
    assert said == generate(folder, prompts, GREEDY.max_new_tokens)


def test_conversations_are_kept_up_to_a_number_of_bytes() -> None:
    def made(length: int) -> RowKeys:
        keys = RowKeys()
        keys.add(0, torch.zeros(1, 1, length, 1), torch.zeros(1, 1, length, 1))
        keys.length = length
        return keys

    kept = KeptKeys(2 * made(9).size_bytes)
    for ids in ([1, 2, 3], [7, 8], [1, 2, 3, 4]):  # the last goes on from the first
        kept.keep(ids, made(len(ids)))
    assert [kept.begin([*ids, 0]).length for ids in ([7, 8], [1, 2, 3])] == [2, 3]
    kept.keep([5, 6], made(2))
    assert [kept.begin([*ids, 0]).length for ids in ([7, 8], [1, 2, 3], [5, 6])] == [0, 3, 2]


def test_what_nobody_waits_for_leaves_at_the_next_pass(chat: ChatModel) -> None:
    gone, pieces = threading.Event(), list[str]()

    def hear(piece: str) -> None:
        pieces.append(piece)
        gone.set()

    left = chat.start(encode(chat, "x"), Sampling(400, temperature=2.0, repetition_penalty=1.9, seed=1), hear, gone)
    beside = chat.start(encode(chat, "y"), GREEDY, lambda _: None, threading.Event())
    assert left.result(60).finish_reason == "cancelled"
    assert (len(pieces), beside.result(60).text) == (1, ask(chat, [encode(chat, "y")], GREEDY)[0].text)


def test_prompts_are_read_in_the_other_format_and_answers_written_in_the_weights_own(tmp_path: Path) -> None:
    folder = build_family(tmp_path / "smollm", "smollm")
    model = load_pretrained(folder, "float32", "cpu")
    layer, exact = model.model.layers[0].self_attn.q_proj, dict[int, list[bool]]()

    def note(_layer: torch.nn.Linear, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        wanted = torch.nn.functional.linear(given[0].double(), layer.weight.double()).float()
        exact.setdefault(given[0].shape[1], []).append(torch.equal(made, wanted))

    with closing(ChatModel(model, load_chat_tokens(folder), "", 1, 8, kept_bytes=0, reads_in="float64")) as chat:
        prompts = [encode(chat, text) for text in QUESTIONS[:8]]
        alone = [ask(chat, [prompt], GREEDY)[0].text for prompt in prompts]
        layer.register_forward_hook(note)
        together = [each.text for each in ask(chat, prompts, GREEDY)]
    assert together == alone == generate(folder, prompts, GREEDY.max_new_tokens)
    read = [each for tokens, found in exact.items() if tokens > 8 for each in found]
    written = [each for tokens, found in exact.items() if tokens <= 8 for each in found]
    assert all(read)
    assert not all(written)
    assert "forward" not in vars(layer)


def test_a_model_that_turns_its_tokens_by_the_whole_length_answers_one_after_the_other(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    folder = build_family(tmp_path / "dynamic", "smollm", rope_parameters=rope)
    with loaded(folder) as chat:
        assert chat.at_once == 1
        prompts = [encode(chat, text) for text in QUESTIONS[:3]]
        said = ask(chat, prompts, GREEDY)
        assert [each.text for each in said] == generate(folder, prompts, GREEDY.max_new_tokens)
        drawn = Sampling(12, temperature=2.0, top_k=30, top_p=0.9, repetition_penalty=1.2, seed=3)
        assert len({each.text for each in ask(chat, [prompts[0]] * 2, drawn)}) == 1
        assert not any(each.kept_tokens for each in said)


def test_answers_that_fail_leave_the_next_ones_be(chat: ChatModel) -> None:
    broken = chat.start([10**6], GREEDY, lambda _: None, threading.Event())
    with pytest.raises(IndexError):
        broken.result(60)
    assert ask(chat, [encode(chat, "x")], GREEDY)[0].text


@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="a minute on 2 cores: make soak TESTS=tests/core/engine/test_generation.py")
@pytest.mark.timeout(900)
def test_the_real_model_answers_twenty_at_once_as_one_at_a_time() -> None:
    """Greedy, and nothing kept: behind kept keys a sum may differ in the last bit."""
    folder = REAL_MODELS / NAME / VERSION
    (name, _), (many, _) = choose_number_format(rows=1), choose_number_format()
    model, reads_in = load_pretrained(folder, name, "cpu"), many if many != name else ""
    with closing(ChatModel(model, load_chat_tokens(folder), "", 2, 8, kept_bytes=0, reads_in=reads_in)) as chat:
        prompts = [encode(chat, text) for text in QUESTIONS]
        together = [each.text for each in ask(chat, prompts, Sampling(32))]
        assert together == [ask(chat, [prompt], Sampling(32))[0].text for prompt in prompts]
