"""How torch computes fastest on this machine: in which number format, and with how many threads."""

from __future__ import annotations

import time


def choose_number_format(rows: int = 256) -> tuple[str, str]:
    """Return "bfloat16" or "float32", whichever multiplies faster here, and the reason in words.

    rows: how many tokens go through a layer at once: some hundreds when training, 1 when generating. Processors
    without bf16 instructions are faster in fp32, so it is measured: a tenth of a second.
    """
    import torch

    if torch.cuda.is_available():
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bfloat16", "the GPU computes in bf16") if good else ("float32", "the GPU has no bf16")
    seconds = _time_products(rows)
    faster = min(seconds, key=lambda name: seconds[name])
    ratio = max(seconds.values()) / min(seconds.values())
    return faster, f"measured {ratio:.1f} times as fast as the other on this processor ({rows} rows at a time)"


class Threads:
    """Sets how many threads torch computes with, by what is measured every few seconds.

    All cores are fastest on an idle machine. Where a browser and a dashboard want them too, threads that wait for each
    other a thousand times a second can be ten times slower than half as many (measured on two busy cores: 13 s instead
    of 0.8 s for a training step). A try costs a tenth of a second for each of the two counts.
    """

    TRY_EVERY_S = 6.0
    TRY_FOR_S = 0.06
    WORTH = 1.15

    def __init__(self, cores: int, *, fixed: bool = False) -> None:
        self.counts = (cores, cores if fixed else max(1, cores // 2))
        self.tried_at = float("-inf")
        self.adapt()

    def adapt(self) -> None:
        """Choose anew if it is time to; call it between pieces of work, in the thread that does the work."""
        import torch

        many, few = self.counts
        if many == few:
            torch.set_num_threads(many)
        elif time.perf_counter() - self.tried_at >= self.TRY_EVERY_S:
            worth = self._measure(many) > self.WORTH * self._measure(few)
            torch.set_num_threads(many if worth else few)
            self.tried_at = time.perf_counter()

    def _measure(self, count: int) -> float:
        """Return small matrix products per second."""
        import torch

        torch.set_num_threads(count)
        left, right = torch.ones(128, 576), torch.ones(576, 576)
        started, done = time.perf_counter(), 0
        while time.perf_counter() - started < self.TRY_FOR_S:
            torch.nn.functional.linear(left, right)
            done += 1
        return done / (time.perf_counter() - started)


def _time_products(rows: int) -> dict[str, float]:
    """Return the best of twelve tries in each format, on one thread and in turns: a busy machine misleads less.

    A format that is left far behind after three is not tried again: without bf16 instructions a try takes a tenth of a
    second, and a run waits for it.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = ("bfloat16", "float32")
    wide = 1024 if rows > 1 else 32 * 1024  # one row at a time reads all weights from memory: no cache may hold them
    pairs = {name: [torch.ones(size, 1024, dtype=getattr(torch, name)) for size in (rows, wide)] for name in names}
    best = dict.fromkeys(names, float("inf"))
    for number in range(12):
        for name, (left, right) in pairs.items():
            if number >= 3 and best[name] > 2 * min(best.values()):
                continue
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[name] = min(best[name], time.perf_counter() - started)
    torch.set_num_threads(threads)
    return best
