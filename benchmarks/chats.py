"""`make bench`: chats with the real base model, four at once and turn after turn, beside one alone and plain generate.

    python -m benchmarks.chats [--rounds 5]

Four at once are asked over HTTP of a scorer as a deployment has it, in turns with one alone, each question new to it.
The rest is held against transformers' own generate in one process, in turns too: what answers were written with, one at
a time and each prompt anew, before they were written together. Medians, and of first tokens of four the latest's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import torch

from core import home as homes
from core.engine.compute_speed import choose_number_format
from core.engine.generation import ChatModel, Sampling, load_chat_model
from core.engine.pretrained import load_pretrained
from core.home import REPOSITORY
from core.local.base_model import NAME, VERSION

SECRET, TOKENS, PROMPT_TOKENS, AT_ONCE, SAME = "for this benchmark", 48, 195, 4, 20
Talk = list[dict[str, str]]


def main() -> int:
    """Measure and print; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chats", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of one chat alone and four at once")
    rounds = parser.parse_args().rounds
    model, cores = homes.current().base_models / NAME / VERSION, os.cpu_count() or 1
    questions = _read_questions()
    with _serve(model, cores) as url:
        figures = _measure_many(url, questions, rounds)
    figures |= _measure_beside_generate(model, cores, questions, rounds)
    print(f"{cores} cores, load average {os.getloadavg()[0]:.1f}; {TOKENS} tokens an answer, medians of {rounds}\n")
    print("| figure | ratio | bar |\n|---|---|---|")
    missed = False
    for name, (ratio, bar, least) in figures.items():
        good = ratio >= bar if least else ratio <= bar
        missed |= not good
        print(f"| {name} | {ratio:.2f}{'' if good else ' !'} | {'at least' if least else 'at most'} {bar:g} |")
    return int(missed)


def _read_questions() -> Iterator[str]:
    lines = (REPOSITORY / "core" / "dataset" / "sample" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return iter(dict.fromkeys(json.loads(line)["messages"][0]["content"] for line in lines))


@contextmanager
def _serve(model: Path, cores: int) -> Iterator[str]:
    """Serve the model as a deployment does; gives its address."""
    with tempfile.TemporaryDirectory(prefix="tunedeck-bench-") as folder:
        ready = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "core.engine.score", "--model", str(model), "--folder", folder]
        with subprocess.Popen(
            [*command, "--cores", str(cores)], env={**os.environ, "SCORE_SECRET": SECRET}, stdout=subprocess.DEVNULL
        ) as scorer:
            try:
                while not ready.exists():
                    if scorer.poll() is not None:
                        sys.exit("The scorer ended before it answered.")
                    time.sleep(0.1)
                yield f"http://127.0.0.1:{json.loads(ready.read_text(encoding='utf-8'))['port']}/v1/chat/completions"
            finally:
                scorer.terminate()


def _ask(url: str, question: str) -> tuple[float, int]:
    """Return when the first token came, in seconds, and how many there were."""
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS, "temperature": 0, "stream": True}
    began, first, tokens = time.perf_counter(), 0.0, 0
    with requests.post(url, json=body, headers={"X-Score-Secret": SECRET}, stream=True, timeout=120) as answer:
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data: {"):
                event = json.loads(line.removeprefix(b"data: "))
                if not first and event["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - began
                tokens = event.get("usage", {}).get("completion_tokens", tokens)
    return first, tokens


def _measure_many(url: str, questions: Iterator[str], rounds: int) -> dict[str, tuple[float, float, bool]]:
    rates, firsts = dict[int, list[float]](), dict[int, list[float]]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for many in [1, AT_ONCE] * rounds:
            began = time.perf_counter()
            heard = list(pool.map(_ask, itertools.repeat(url), itertools.islice(questions, many)))
            rates.setdefault(many, []).append(sum(tokens for _, tokens in heard) / (time.perf_counter() - began))
            firsts.setdefault(many, []).append(max(first for first, _ in heard))
    rate, first = ({many: statistics.median(each) for many, each in known.items()} for known in (rates, firsts))
    print(f"One chat {rate[1]:.1f} tokens/s, four {rate[AT_ONCE]:.1f}; first token {first[1] * 1000:.0f} ms alone,")
    print(f"{first[AT_ONCE] * 1000:.0f} ms for the last of four.")
    return {
        "tokens/s of four chats at once, of one's": (rate[AT_ONCE] / rate[1], 2.5, True),
        "first token of the last of four, of one's": (first[AT_ONCE] / first[1], 2.5, False),
    }


def _measure_beside_generate(
    folder: Path, cores: int, questions: Iterator[str], rounds: int
) -> dict[str, tuple[float, float, bool]]:
    chat = load_chat_model(folder, cores)
    plain = load_pretrained(folder, choose_number_format(rows=1)[0], chat.model.device)
    seconds: dict[str, tuple[list[float], list[float]]] = {}

    def time_both(name: str, prompt: list[int], tokens: int) -> None:
        ours, theirs = seconds.setdefault(name, ([], []))
        began = time.perf_counter()
        _start(chat, prompt, tokens).result()
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        _generate(chat, plain, prompt, tokens)
        theirs.append(time.perf_counter() - began)

    def begin_talk() -> Talk:
        system = {"role": "system", "content": f"{next(questions)} You are the keeper of the harbour office."}
        talk = [system, {"role": "user", "content": next(questions)}]
        while len(encode(talk)) < PROMPT_TOKENS:
            talk[-1]["content"] += f" {next(questions)}"
        return talk

    encode = chat.tokens.encode_prompt
    for _ in range(rounds):
        talk = begin_talk()
        time_both(f"first token of a new prompt of {PROMPT_TOKENS} tokens", encode(talk), 1)
        answer = _start(chat, encode(talk), TOKENS).result().text
        talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": next(questions)}]
        time_both("first token of a second turn", encode(talk), 1)
        time_both(f"{TOKENS} tokens of one chat", encode(begin_talk()), TOKENS)
    prompts = [encode([{"role": "user", "content": next(questions)}]) for _ in range(SAME)]
    alone = [_start(chat, prompt, TOKENS).result().text for prompt in prompts]
    together = [each.result().text for each in [_start(chat, prompt, TOKENS) for prompt in prompts]]
    same = sum(map(operator.eq, alone, together))
    chat.close()
    bars = (1.03, 0.25, 1.03)
    compared = {}
    for (name, (ours, theirs)), bar in zip(seconds.items(), bars, strict=True):
        own, other = statistics.median(ours), statistics.median(theirs)
        print(f"{name}: {own * 1000:.0f} ms, generate {other * 1000:.0f} ms")
        compared[f"{name}, of generate's time"] = (own / other, bar, False)
    return compared | {f"of {SAME} greedy answers, as when asked one at a time": (same / SAME, 1, True)}


def _start(chat: ChatModel, prompt: list[int], tokens: int) -> Any:
    return chat.start(prompt, Sampling(tokens), lambda _piece: None, threading.Event())


@torch.inference_mode()
def _generate(chat: ChatModel, plain: Any, prompt: list[int], tokens: int) -> None:
    ids = torch.tensor([prompt], device=plain.device)
    ends = {"eos_token_id": list(chat.tokens.stop_ids), "pad_token_id": chat.tokens.pad_id}
    drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, **ends, **drawn)


if __name__ == "__main__":
    sys.exit(main())
