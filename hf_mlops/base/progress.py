"""Progress of long work: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Counts steps of known number on standard error; a context manager.

    Without a terminal it prints a line at the first step, then one every so many seconds, and one at the end.

    Args:
        what: the work, in two or three words.
        total: number of steps.
        unit: what one step is.
        every: seconds between plain lines where there is no terminal.
        done: steps done before.
        delay: seconds to stay silent at first, for work that is mostly short.
    """

    def __init__(self, what: str, total: int, unit: str = "step", every: float = 10.0, done: int = 0, delay: float = 0.0):
        self.what, self.total, self.unit, self.every, self.delay = what, total, unit, every, delay
        self.done, self.note = done, ""
        self.in_terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, desc=what, unit=unit, delay=delay, disable=not self.in_terminal)
        self.started, self.last = time.monotonic(), float("-inf")

    def __enter__(self) -> Progress:
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Tells that `steps` more are done; `note` is shown behind the count."""
        self.done += steps
        self.note = note or self.note
        self.bar.update(steps)
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        if not self.in_terminal and time.monotonic() - self.last > self.every:
            self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self.started
        if seconds < self.delay:
            return
        self.last = time.monotonic()
        print(
            f"{self.what}: {self.done}/{self.total} {self.unit}s, {seconds:.0f} s  {self.note}".rstrip(),
            file=sys.stderr,
            flush=True,
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()
        if not self.in_terminal:
            self._line()
