"""Compare a tuned model with its base on held-out conversations: the loss of every row, and answers to a few questions.

Runs here and, unchanged, as a command job on Azure: beside torch and transformers it needs what EVALUATION_PROGRAM
(core/engine) lists, and nothing else of this repository.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.engine.answers import is_learned
from core.engine.chat_template import BadConversation, Message, Tools
from core.engine.chat_tokens import ChatTokens, check_messages, find_tools, load_chat_tokens
from core.engine.compute_speed import Threads, choose_number_format

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = 2048
ROWS_PER_BATCH = 8
FOLDER_VARIABLE = "TUNEDECK_STEP_FOLDER"
BEST, WORST, RANDOM = "best", "worst", "random"


class CannotEvaluate(Exception):
    """What was given cannot be evaluated; the text is a sentence."""


@dataclass(frozen=True)
class Options:
    """How to evaluate."""

    answers: int = 12
    seed: int = 42
    max_new_tokens: int = 64
    cores: int = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)  # as many as the compute's size names


@dataclass(frozen=True)
class Question:
    """A row's conversation up to its last answer, and that answer. row: counted from 1. why: why it was picked."""

    row: int
    messages: list[Message]
    expected: str
    tools: Tools = None
    why: str = RANDOM


class Reporter:
    """Progress lines, and the files of a local step where there is one."""

    def __init__(self, total: int) -> None:
        self.folder = os.environ.get(FOLDER_VARIABLE)
        self.total, self.done = total, 0

    def say(self, line: str) -> None:
        """Add a line to the log."""
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    def advance(self, phase: str = "evaluating") -> None:
        """Count one more piece of work."""
        self.done = min(self.done + 1, self.total)
        if self.folder:
            body = {"step": self.done, "total_steps": self.total, "epoch": 0.0, "phase": phase}
            _replace(Path(self.folder) / "progress.json", {**body, "at": time.time_ns() // 1_000_000})

    def log_metric(self, key: str, value: float) -> None:
        """Append a metric."""
        if self.folder:
            row = {"key": key, "value": value, "step": 1, "timestamp": time.time_ns() // 1_000_000}
            with (Path(self.folder) / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def evaluate(base: Path, tuned: Path, test: Path, output: Path, options: Options) -> dict[str, Any]:
    """Write output/evaluation.json and return what it holds; raises CannotEvaluate."""
    started = time.perf_counter()
    base, tuned = _weights_folder(base), _weights_folder(tuned)
    rows = _read_rows(test)
    tokens = _load_tokens(base)
    encoded = _encode(tokens, rows)
    batches = _plan_batches(encoded)
    reporter = Reporter(total=2 * (len(batches) + min(options.answers, sum(map(_is_answered, rows)))))
    reporter.say(f"{len(encoded)} rows, {sum(len(each.ids) for each in encoded)} tokens.")
    results: dict[str, Any] = {}
    losses: dict[str, dict[int, float]] = {}
    answers: dict[str, list[str]] = {}
    questions: list[Question] = []
    threads = Threads(options.cores)
    for kind, folder in (("tuned", tuned), ("base", base)):  # the tuned model's losses say which rows are shown
        model = _load_model(kind, folder, reporter)
        sums = _measure_losses(model, tokens, batches, threads, reporter)
        losses[kind] = {line: total / count for line, (total, count) in sums.items()}
        loss = sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values())
        results[kind] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        reporter.log_metric(f"{kind}_eval_loss", loss)
        reporter.say(f"{kind}: loss {loss:.4f}, perplexity {results[kind]['perplexity']:.2f}")
        questions = questions or _pick_questions(rows, losses["tuned"], options)
        answers[kind] = _answer(model, tokens, questions, options.max_new_tokens, reporter)
        del model
    body = {
        "rows": len(encoded),
        "tokens": sum(len(each.ids) for each in encoded),
        "learned_tokens": sum(sum(each.learned) for each in encoded),
        **results,
        "answers": [
            {
                "row": each.row,
                "why": each.why,
                "prompt": str(each.messages[-1].get("content") or ""),
                "messages": each.messages,
                "expected": each.expected,
                **{kind: answers[kind][number] for kind in answers},
                **{f"{kind}_loss": losses[kind].get(each.row) for kind in losses},
            }
            for number, each in enumerate(questions)
        ],
        "seed": options.seed,
        "max_new_tokens": options.max_new_tokens,
        "seconds": round(time.perf_counter() - started, 2),
    }
    output.mkdir(parents=True, exist_ok=True)
    _replace(output / "evaluation.json", body)
    reporter.say(f"Evaluated in {body['seconds']:.0f} s.")
    return body


def _weights_folder(folder: Path) -> Path:
    """Return the folder with config.json: the one given, or the one inside an MLflow model."""
    for candidate in (folder, folder / "model", folder / "data" / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise CannotEvaluate(f"The model folder {folder.name} holds no config.json.")


def _load_tokens(folder: Path) -> ChatTokens:
    try:
        return load_chat_tokens(folder)
    except BadConversation as error:
        raise CannotEvaluate(str(error)) from error


class _Row(NamedTuple):
    line: int
    messages: list[Message]
    tools: Tools


def _read_rows(test: Path) -> list[_Row]:
    """Return conversations with their line; rows without one are left out, as in training."""
    files = sorted(test.glob("*.jsonl")) if test.is_dir() else [test]
    if not files or not files[0].is_file():
        raise CannotEvaluate(f"The test data {test.name} was not found.")
    rows: list[_Row] = []
    with files[0].open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                messages = row.get("messages")
            except (ValueError, AttributeError) as error:
                raise CannotEvaluate(f"Line {line} of {files[0].name} is not a JSON object.") from error
            if not messages or len(messages) < 2:
                continue
            if problem := check_messages(messages):
                raise CannotEvaluate(f"Line {line} of {files[0].name}: {problem}")
            rows.append(_Row(line, messages, find_tools(row)))
    if not rows:
        raise CannotEvaluate(f"{files[0].name} holds no conversation.")
    return rows


class _Encoded(NamedTuple):
    line: int
    ids: list[int]
    learned: list[bool]


def _encode(tokens: ChatTokens, rows: list[_Row]) -> list[_Encoded]:
    try:
        encoded = tokens.encode_conversations([row.messages for row in rows], [row.tools for row in rows])
    except BadConversation as error:
        raise CannotEvaluate(str(error)) from error
    limit = tokens.context_length
    cut = [_Encoded(row.line, each.ids[:limit], each.learned[:limit]) for row, each in zip(rows, encoded, strict=True)]
    kept = [each for each in cut if any(each.learned[1:])]
    if not kept:
        raise CannotEvaluate("The test data holds no answer of the assistant.")
    return kept


def _is_answered(row: _Row) -> bool:
    return bool(is_learned(row.messages[-1]) and row.messages[-1].get("content"))


def _pick_questions(rows: list[_Row], losses: dict[int, float], options: Options) -> list[Question]:
    """Draw rows at random, the same for the same seed; then those with the lowest and the highest loss.

    Of all answers a quarter is of the best, a quarter of the worst; random ones stand in the file's order.
    """
    answered = [row for row in rows if _is_answered(row)]
    count = min(options.answers, len(answered))
    ends = count // 4
    drawn = random.Random(options.seed).sample(answered, count - 2 * ends)
    lines = {row.line for row in drawn}
    ranked = sorted(
        (row for row in answered if row.line not in lines and row.line in losses), key=lambda row: losses[row.line]
    )
    picked = [(RANDOM, row) for row in sorted(drawn, key=lambda row: row.line)]
    picked += [(BEST, row) for row in ranked[:ends]]
    picked += [(WORST, row) for row in ranked[::-1][: min(ends, len(ranked) - ends)]]
    return [
        Question(row.line, row.messages[:-1], str(row.messages[-1]["content"]), row.tools, why) for why, row in picked
    ]


def _plan_batches(encoded: list[_Encoded]) -> list[list[_Encoded]]:
    """Return batches of rows of similar length, bounded in rows and tokens."""
    batches: list[list[_Encoded]] = []
    for each in sorted(encoded, key=lambda row: -len(row.ids)):
        last = batches[-1] if batches else []
        if not last or len(last) >= ROWS_PER_BATCH or (len(last) + 1) * len(last[0].ids) > TOKENS_PER_BATCH:
            batches.append([each])
        else:
            last.append(each)
    return batches


def _load_model(kind: str, folder: Path, reporter: Reporter) -> Any:
    import torch

    from core.engine.pretrained import load_pretrained  # it imports torch

    name, _ = choose_number_format()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_pretrained(folder, name, device)
    reporter.say(f"{kind} loaded in {name} on {device}.")
    return model


def _measure_losses(
    model: Any, tokens: ChatTokens, batches: list[list[_Encoded]], threads: Threads, reporter: Reporter
) -> dict[int, tuple[float, int]]:
    """Return by line the summed cross-entropy (nats) of the tokens the assistant wrote, and how many they are."""
    import torch

    found: dict[int, tuple[float, int]] = {}
    with torch.inference_mode():
        for batch in batches:
            width = len(batch[0].ids)
            rows = [each.ids + [tokens.pad_id] * (width - len(each.ids)) for each in batch]
            marks = [each.learned + [False] * (width - len(each.learned)) for each in batch]
            ids = torch.tensor(rows, device=model.device)
            learned = torch.tensor(marks, device=model.device)[:, 1:]
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            losses = _losses(logits[learned], ids[:, 1:][learned])
            counts = learned.sum(dim=1).tolist()
            for each, count, part in zip(batch, counts, torch.split(losses, counts), strict=True):
                found[each.line] = (float(part.sum()), count)
            threads.adapt()
            reporter.advance()
    return found


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return cross-entropies in fp32, some hundred positions at a time."""
    import torch

    pieces = zip(torch.split(logits, 256), torch.split(targets, 256), strict=True)
    return torch.cat([torch.nn.functional.cross_entropy(each.float(), to, reduction="none") for each, to in pieces])


def _answer(
    model: Any, tokens: ChatTokens, questions: list[Question], max_new_tokens: int, reporter: Reporter
) -> list[str]:
    """Return greedy answers: all questions of similar length at once, padded on the left."""
    import torch

    room = tokens.context_length - max_new_tokens
    prompts = [tokens.encode_prompt(each.messages, each.tools)[-room:] for each in questions]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), ROWS_PER_BATCH * 2):
        chosen = order[start : start + ROWS_PER_BATCH * 2]
        width = max(len(prompts[number]) for number in chosen)
        pads = [[tokens.pad_id] * (width - len(prompts[number])) for number in chosen]
        ids = torch.tensor([pad + prompts[number] for pad, number in zip(pads, chosen, strict=True)])
        mask = torch.tensor([[0] * len(pad) + [1] * (width - len(pad)) for pad in pads])
        with torch.inference_mode():
            made = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=list(tokens.stop_ids),
                pad_token_id=tokens.pad_id,
            )
        for number, row in zip(chosen, made[:, width:].tolist(), strict=True):
            answers[number] = tokens.decode(row).strip()
            reporter.advance()
    return answers


def _replace(path: Path, body: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(body, indent=2, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def main() -> int:
    """Read the command line and evaluate; a failure that is understood is one sentence and status 1."""
    parser = argparse.ArgumentParser(description="Compare a tuned model with its base on held-out conversations.")
    for name in ("base", "tuned", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--answers", type=int, default=Options.answers)
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--max-new-tokens", type=int, default=Options.max_new_tokens)
    parser.add_argument("--cores", type=int, default=Options.cores)
    given = parser.parse_args()
    options = Options(given.answers, given.seed, given.max_new_tokens, given.cores)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        evaluate(given.base, given.tuned, given.test, given.output, options)
    except (CannotEvaluate, BadConversation) as error:
        print(f"ERROR {error}", file=sys.stderr, flush=True)
        if folder := os.environ.get(FOLDER_VARIABLE):
            _replace(Path(folder) / "error.json", {"code": "UserError", "message": str(error), "hint": ""})
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # torch's clean-up takes longer than the answer is worth
