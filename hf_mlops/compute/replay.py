"""Many small kernels launched as one: else a GPU waits for Python, which launches them more slowly than they run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PLAIN_CALLS = 3  # before a function is recorded: libraries make what they need in the first


class Replayed:
    """A function of tensors that, on a GPU, is recorded once as a CUDA graph and replayed from then on.

    It must do the same work for all tensors of the same shapes, and change nothing; what it reads beside them must stay where
    it is in memory. Calls with other shapes than the first run as they are, and so do all calls of a function that cannot be
    recorded, as where a user's own network makes tensors on the CPU. On a CPU nothing is recorded.

    Args:
        function: of tensors on one device.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]):
        self._function = function
        self._given: list[Tensor] = []  # where a recorded function finds its arguments
        self._plain_calls = 0
        self._run: Callable[[], tuple[Tensor, ...]] | None = None

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """What the function gives; the next call may overwrite it."""
        if given[0].device.type == "cpu":
            return self._function(*given)
        self._given = self._given or [tensor.clone() for tensor in given]
        alike = all(one.shape == other.shape for one, other in zip(given, self._given, strict=True))
        if not alike or self._plain_calls < PLAIN_CALLS:
            self._plain_calls += 1
            return self._function(*given)
        for place, tensor in zip(self._given, given, strict=True):
            place.copy_(tensor)
        self._run = self._run or self._recorded()
        return self._run()

    def _recorded(self) -> Callable[[], tuple[Tensor, ...]]:
        """Runs the function on what was given: by a graph, if there can be one."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                results = self._function(*self._given)
        except RuntimeError:
            torch.cuda.set_stream(stream)  # a recording that fails leaves its own
            return lambda: self._function(*self._given)

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return results

        return replay
