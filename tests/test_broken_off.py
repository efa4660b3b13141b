"""Ctrl-C in the middle of `main`: nothing is half-made, and the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import (
    Store,
    options_of,
)

INTERRUPTED = {
    "runs": 16,
    "target_steps": 60,
    "hypernet_steps": 60,
    "max_retain_gap": 1,
    "max_forget_gap": 1,
    "max_forget_distance": 1,
}
IN_THE_MIDDLE_OF = {  # a line that the step prints before it has finished
    "targets": "population: ",
    "hypernet": "hypernetwork: ",
    "evaluate": "prompt sweep: ",
    "forget": "forget 7: candidate",
    "export": "== export",
}


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_each_step_leaves_nothing_half_made_and_main_goes_on(tmp_path: Path) -> None:
    """Interrupts `main` again and again, each time one step further on, until it comes through.

    `mlflow run` passes Ctrl-C on in its own way; once that was seen, the command by itself is quicker to start.
    """
    store, output, parameters = Store(tmp_path), "", {**INTERRUPTED, "output": tmp_path / "exported"}
    by_itself = [sys.executable, "-m", "projects.main", *options_of(parameters)]
    for number, (step, line) in enumerate(IN_THE_MIDDLE_OF.items()):
        output = interrupt_at(store, by_itself if number else store.command("main", **parameters), line)
        assert output.count("re-used the finished run") == max(0, number - 1), output
        assert ("going on from the checkpoint" in output) == (step == "evaluate"), output
        assert "interrupted: nothing is half-made" in output, output
        assert output.count("Traceback") == output.count("Exception ignored in"), output  # Python tells of swallowed ones
        runs = [run for run in store.client.search_runs(["0"]) if run.data.tags["hf_mlops.step"] == step]
        assert all(run.info.status != "FINISHED" for run in runs) and (runs or step == "export")
        versions, aliases = store.state()
        whole = [("hyperforget", 1)] * (number > 1) + [("hyperforget-classifier", 1)] * (number > 3)
        assert versions == whole and len(aliases) == len(whole)
        partial = [path.name for path in tmp_path.rglob("*.partial")]
        assert not partial
    done = store.run("main", **parameters)
    assert done.returncode == 0 and done.stdout.count("re-used the finished run") == 4
    assert (tmp_path / "exported" / "forget-7" / "classifier.onnx").exists()


def interrupt_at(store: Store, command: list[str], beginning: str) -> str:
    """Sends Ctrl-C to a command's whole process group at an output line that starts so, and gives all its output."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=store.environment,
        cwd=store.folder,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if line.startswith(beginning) and not any(earlier.startswith(beginning) for earlier in lines):
                os.killpg(process.pid, signal.SIGINT)
                late = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
                late.start()
            lines.append(line)
        late.cancel()
        assert process.wait() not in (0, -signal.SIGKILL), "".join(lines)
    return "".join(lines)
