from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from core.engine.answers import mark_learned
from core.engine.chat_template import BadConversation
from core.engine.chat_tokens import ChatTokens, Conversation, check_messages, load_chat_tokens
from core.engine.compute_speed import Threads, choose_number_format
from core.engine.import_model import import_model
from core.engine.validate import validate
from core.errors import BadInput
from core.runs.failures import explain
from tests.core.dataset.model.test_model_process import LOOP, REFUSED, UNREADABLE
from tests.core.engine.conftest import Workbench
from tests.core.engine.talks import CALLS
from tests.tiny_model import make_conversations, write_jsonl

TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "What is the kettle?"},
    {"role": "assistant", "content": " It is blue.\n"},
    {"role": "user", "content": "assistant"},
    {"role": "assistant", "content": "ü 🎣"},
]


def learned_text(tokens: ChatTokens, row: Conversation) -> list[str]:
    """Return the learned stretches as text, special tokens included."""
    stretches: list[list[int]] = [[]]
    for token, learned in zip(row.ids, row.learned, strict=True):
        if learned:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [tokens.tokenizer.decode(ids, skip_special_tokens=False) for ids in stretches if ids]


def test_only_what_the_assistant_says_and_the_end_of_it_is_learned(tiny_model: Path) -> None:
    tokens = load_chat_tokens(tiny_model)
    row = tokens.encode_conversations([TALK])[0]
    assert learned_text(tokens, row) == [" It is blue.\n<|im_end|>", "ü 🎣<|im_end|>"]


@pytest.mark.parametrize("weight", [0, 0.0, False])
def test_an_answer_of_weight_0_is_read_but_not_learned(tiny_model: Path, weight: object) -> None:
    tokens = load_chat_tokens(tiny_model)
    weighed = [*TALK[:2], TALK[2] | {"weight": weight}, TALK[3], TALK[4] | {"weight": 1}]
    [plain], [row] = tokens.encode_conversations([TALK]), tokens.encode_conversations([weighed])
    assert row.ids == plain.ids
    assert learned_text(tokens, row) == ["ü 🎣<|im_end|>"]


def test_a_template_is_not_told_the_weight_of_an_answer(tiny_model: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m | tojson }}<|im_end|>{% endfor %}"
    tokens = other_template(tiny_model, tmp_path / "model", template)
    assert tokens.template.render([TALK[4] | {"weight": 1}]) == tokens.template.render([TALK[4]])


def test_ids_are_those_of_transformers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tiny_model)
    tokens = load_chat_tokens(tiny_model)
    assert tokens.encode_conversations([TALK])[0].ids == theirs.apply_chat_template(TALK, return_dict=False)
    asked = theirs.apply_chat_template(TALK[:2], add_generation_prompt=True, return_dict=False)
    assert tokens.encode_prompt(TALK[:2]) == asked


def test_a_trained_row_begins_with_the_very_prompt_that_serving_sends(tiny_model: Path) -> None:
    tokens = load_chat_tokens(tiny_model)
    row = tokens.encode_conversations([TALK[:3]])[0]
    prompt = tokens.encode_prompt(TALK[:2])
    assert row.ids[: len(prompt)] == prompt
    assert row.learned.index(True) == len(prompt)


def other_template(tiny_model: Path, folder: Path, template: str) -> ChatTokens:
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return load_chat_tokens(folder)


def test_a_template_that_drops_thoughts_from_earlier_turns_still_finds_the_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}"
        "{% if loop.last and m.role == 'assistant' %} now{% endif %}\n{{ m.content.strip() }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokens = other_template(tiny_model, tmp_path / "model", template)
    row = tokens.encode_conversations([TALK])[0]
    assert learned_text(tokens, row) == ["It is blue.<|im_end|>", "ü 🎣<|im_end|>"]


# As models publish them, with the marks by which transformers finds what the assistant wrote.
MARKED = {
    "chatml": (
        "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' -%}"
        "{%- generation -%}{{ m.content + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}"
        "{%- else -%}{{ m.content + '<|im_end|>\n' }}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
    ),
    "phi": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content + '<|endoftext|>' }}{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ m.content + '<|end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "llama": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m.role + '<|stop|>\n\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m.content | trim + '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\n\n' }}{% endif %}"
    ),
}


@pytest.mark.parametrize("name", MARKED)
def test_tokens_and_loss_mask_are_those_of_transformers(tiny_model: Path, tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    row = other_template(tiny_model, tmp_path / "model", MARKED[name]).encode_conversations([TALK])[0]
    judge = AutoTokenizer.from_pretrained(tmp_path / "model")
    theirs = judge.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    assert row.ids == theirs["input_ids"]
    assert row.learned == [bool(learned) for learned in theirs["assistant_masks"]]
    assert any(row.learned)
    assert not all(row.learned)


def test_a_token_is_learned_where_it_holds_a_character_of_an_answer() -> None:
    starts, answers = [0, 3, 3, 7, 5, 9, 4, 12], [(3, 6), (10, 12)]
    offsets = [(start, start + 2) for start in starts]
    assert [at for at, learned in enumerate(mark_learned(offsets, answers)) if learned] == [1, 2, 4, 5, 6]
    assert mark_learned([(3, 3), (3, 4)], [(3, 6)]) == [False, True], "nothing is learned of no character"
    assert mark_learned([], [(0, 3)]) == []


def test_what_the_template_refuses_is_a_sentence(tiny_model: Path, tmp_path: Path) -> None:
    tokens = other_template(tiny_model, tmp_path / "model", "{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(BadConversation, match="chat template refuses the conversation: Roles must alternate"):
        tokens.template.render(TALK)


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_template_cannot_do_is_a_sentence_and_the_next_one_works(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    tokens = other_template(tiny_model, tmp_path / "model", REFUSED[name])
    with pytest.raises(BadConversation, match=r"^The model's chat template [a-z0-9' :]+.*\.$") as caught:
        tokens.encode_prompt(TALK)
    assert "Error" not in str(caught.value)
    assert load_chat_tokens(tiny_model).encode_prompt(TALK)


def test_a_template_without_an_end_is_stopped_before_the_training(bench: Workbench) -> None:
    """About 2 s: the time of the processor that a template has. A second row is not tried."""
    model = Path(shutil.copytree(bench.model, bench.folder / "model"))
    (model / "chat_template.jinja").write_text(LOOP)
    train = write_jsonl(bench.folder / "train.jsonl", make_conversations(12))
    step = bench.step("validate", train_file=str(train), model_dir=str(model), parameters={})
    with pytest.raises(BadInput, match="does not come to an end: it was stopped after 2 s") as caught:
        validate(step)
    assert caught.value.hint
    told = explain(caught.value.message, "", {})
    assert (told.cause, told.action[:20]) == (
        "The run stopped: the model's chat template or tokenizer cannot be used.",
        "Choose another model",
    )


CONFIGURED = {
    "words without end": {"vocab_size": 10**12},
    "words of text": {"vocab_size": "many"},
    "half a word": {"vocab_size": 0.5},
    "no width": {"hidden_size": None},
    "a length of text": {"max_position_embeddings": "long"},
    "a length without end": {"max_position_embeddings": 10**30},
    "an end of text": {"eos_token_id": "x"},
    "ends of lists": {"eos_token_id": [[1]]},
}


@pytest.mark.parametrize("name", [*UNREADABLE, *CONFIGURED, "config truncated", "config list", "config depth"])
def test_a_model_folder_with_nonsense_in_a_file_is_refused_in_a_sentence(bench: Workbench, name: str) -> None:
    model = Path(shutil.copytree(bench.model, bench.folder / "model"))
    file, content = UNREADABLE.get(name, ("config.json", b""))
    if name in CONFIGURED:
        content = json.dumps(json.loads((model / "config.json").read_text()) | CONFIGURED[name]).encode()
    elif name.startswith("config "):
        content = {"config truncated": b'{"vocab', "config list": b"[1]", "config depth": b"[" * 100_000}[name]
    (model / file).write_bytes(content)
    train = write_jsonl(bench.folder / "train.jsonl", make_conversations(12))

    def run_both_steps() -> None:
        validate(bench.step("validate", train_file=str(train), model_dir=str(model), parameters={}))
        import_model(bench.step("import_model", model_dir=str(model)))

    with pytest.raises(BadInput) as caught:
        run_both_steps()
    assert "model" in caught.value.message
    assert caught.value.hint
    assert not any(word in caught.value.message for word in ("Error", "Exception", "expected", "line 1 column"))


def test_a_head_of_weights_that_is_nonsense_is_refused_in_a_sentence(bench: Workbench) -> None:
    model = Path(shutil.copytree(bench.model, bench.folder / "model"))
    for head in (b"{", b"[]", b'{"a": 1}', b'{"a": {"data_offsets": [0], "shape": 1}}', b"[" * 90_000, b"\xff"):
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
        with pytest.raises(BadInput, match="is cut short or damaged"):
            import_model(bench.step("import_model", model_dir=str(model)))


def test_a_model_without_a_chat_template_is_no_chat_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(BadConversation, match="has no chat template"):
        load_chat_tokens(tmp_path / "model")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("hello", "must be a list"),
        ([], "must be a list"),
        (["hello"], "Message 1 must be an object"),
        ([{"role": "user"}], "Message 1 needs 'content' as text"),
        ([{"role": "user", "content": 3}], "Message 1 needs 'content' as text"),
        ([{"role": "robot", "content": "x"}], "role 'robot'"),
    ],
)
def test_messages_that_are_not_chat_are_named(messages: object, words: str) -> None:
    assert words in (check_messages(messages) or "")


def test_an_answer_that_calls_tools_needs_no_content(tiny_model: Path) -> None:
    assert check_messages(CALLS) is None
    assert "needs 'content'" in (check_messages([CALLS[0], {"role": "assistant"}]) or "")
    prompt = load_chat_tokens(tiny_model).template.render(CALLS[:2])
    assert prompt.endswith("<|im_start|>assistant\n<|im_end|>\n")


def test_the_number_format_is_measured_and_explained() -> None:
    name, why = choose_number_format()
    assert name in ("bfloat16", "float32")
    assert "GPU" in why or "times as fast" in why


class Machine:
    """A clock that each matrix product moves on, by how fast so many threads are said to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float], kept: Path | None = None) -> None:
        self.now, self.speeds, self.threads, self.tried = 0.0, speeds, 0, list[int]()
        monkeypatch.setattr("core.engine.compute_speed.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("torch.set_num_threads", self.use)
        monkeypatch.setattr("torch.nn.functional.linear", self.multiply)
        monkeypatch.setenv("TUNEDECK_SPEEDS", str(kept or ""))

    def use(self, threads: int) -> None:
        self.threads = threads

    def multiply(self, left: object, right: object) -> None:
        self.now += 1 / self.speeds[self.threads]
        if self.tried[-1:] != [self.threads]:
            self.tried.append(self.threads)

    def go_on(self, threads: Threads) -> int:
        """Let the time pass after which counts are tried again; return how many threads are used then."""
        self.now += Threads.TRY_EVERY_S + 1
        threads.adapt()
        return self.threads


def test_fewer_threads_are_used_while_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {2: 1700, 1: 1000})
    threads = Threads(2)
    assert machine.threads == 2
    machine.speeds = {2: 60, 1: 700}
    threads.adapt()
    assert machine.threads == 2, "it is not tried again at once"
    assert machine.go_on(threads) == 1
    machine.speeds = {2: 1700, 1: 1000}
    assert machine.go_on(threads) == 2


IDLE = {1: 1000, 2: 1900, 3: 2700, 4: 3500, 6: 4800, 8: 5000, 12: 5100}


def test_every_useful_count_is_tried_once_and_the_best_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "speeds.json"
    machine = Machine(monkeypatch, IDLE, kept)
    monkeypatch.setattr("core.engine.compute_speed._count_physical_cores", lambda: 6)
    Threads(12)
    assert machine.tried == [1, 2, 3, 4, 6, 8, 12]
    assert machine.threads == 6, "8 bring 4% where they are a third more"
    machine.tried.clear()
    Threads(12)
    assert (machine.tried, machine.threads) == ([6, 3], 6), "half as many are tried, for the machine may be busy"
    Threads(12, "bfloat16")
    assert machine.tried[2:] == [1, 2, 3, 4, 6, 8, 12]
    for changed in ('{"machine": ["another"], "threads": {"float32 on 12 cores": 2}}', "{half a fi"):
        kept.write_text(changed)
        machine.tried.clear()
        Threads(12)
        assert machine.tried == [1, 2, 3, 4, 6, 8, 12]
    assert [each.name for each in tmp_path.iterdir()] == ["speeds.json"]


def test_a_count_measured_on_a_busy_machine_is_left_behind_when_it_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, {count: 1000 / count for count in IDLE}, tmp_path / "speeds.json")
    threads = Threads(12)
    assert machine.threads == 1
    machine.speeds = IDLE
    used = [machine.go_on(threads) for _ in range(10)]
    assert used == sorted(used)
    assert used[-1] == 6
    machine.speeds = {count: 1000 / count for count in IDLE}
    threads = Threads(12)
    assert machine.threads == 3
    assert [machine.go_on(threads) for _ in range(10)][-1] == 1
    machine.tried.clear()
    machine.speeds = IDLE
    Threads(12)
    assert machine.tried == [6, 3], "what the idle machine told stays"


def test_a_fixed_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, {4: 1, 2: 100})
    Threads(4, fixed=True)
    assert machine.threads == 4
    assert machine.now == 0
