"""What goes wrong behind a request, in the middle of it: it says what, the registry is whole, and the next request works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
import pytest
import requests
from click.testing import Result
from commands import ROOT, Store, options_of, tracking
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from benchmarks.faults import state
from benchmarks.servers import Postgres, Server, tracking_server
from hf_mlops.base.errors import OutOfReach
from hf_mlops.registry import liveness
from hf_mlops.steps.forget import Forget

pytestmark = pytest.mark.slow  # servers are started first

LOOSE = {"n_samples": 1, "max_forget_gap": 1, "max_retain_gap": 1, "max_forget_distance": 1, "force": "yes"}
AT_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # is given up what does not answer


@dataclass
class Behind:
    """A tracking server on PostgreSQL, which can be started anew."""

    store: Store
    postgres: Postgres
    server: Server
    start: Callable[[], Server]

    def start_server(self) -> None:
        self.server = self.start().wait()

    def full(self, largest: int) -> None:
        """Lets the server write no file beyond this size, in bytes; the disk says so as it does when it is full."""
        for process in [psutil.Process(self.server.process.pid), *psutil.Process(self.server.process.pid).children(True)]:
            process.rlimit(psutil.RLIMIT_FSIZE, (largest, psutil.RLIM_INFINITY))


@pytest.fixture(scope="module")
def reached(s3: dict[str, str]) -> Iterator[None]:
    """Lets commands reach the object store, where one test has the runs of an experiment kept."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def behind(
    postgres: Postgres, reached: None, register: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    folder, database = tmp_path_factory.mktemp("server"), postgres.database("faults")
    server = tracking_server(folder, database=database).wait()
    store = Store(tmp_path_factory.mktemp("typed-in"), f"http://{server.address}")
    behind = Behind(store, postgres, server, lambda: tracking_server(folder, port=server.port, database=database))
    try:
        with tracking(store.uri):
            register(folder)
        assert forget(store, "7").exit_code == 0
        yield behind
    finally:
        behind.server.kill()


def forget(store: Store, spec: str, **options: object) -> Result:
    with tracking(store.uri):
        return store.in_process("forget", *options_of({"forget": spec, **LOOSE, **options}))


@contextmanager
def in_the_middle(happens: Callable[[], object], of: type = Forget, method: str = "_register") -> Iterator[None]:
    """Lets something happen within the block, once, right before a method is called; by default before `forget` registers."""
    before, left = getattr(of, method), [happens]

    def after_that(self: object, *arguments: object, **named: object) -> object:
        while left:
            left.pop()()
        return before(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, method, after_that)
        yield


def require_whole(store: Store) -> None:
    with tracking(store.uri):
        found = state(set())
        assert found["aliases on a version that is not whole"] == found["half-registered"] == 0


def fails_and_the_next_works(behind: Behind, broken: Callable[[], object], mended: Callable[[], object], method: str) -> str:
    """What a request says in the middle of which something breaks; afterwards all is as it was, and another is answered."""
    before = behind.store.state()
    of = mlflow.MlflowClient if method != "_register" else Forget
    with pytest.MonkeyPatch.context() as patch, in_the_middle(broken, of, method):
        for name, value in AT_ONCE.items():
            patch.setenv(name, value)
        done = forget(behind.store, "7")
    mended()
    assert done.exit_code == OutOfReach.status and done.stderr.count("\nError: ") + done.stderr.startswith("Error: ") == 1
    versions, aliases = behind.store.state()
    assert aliases == before[1] and set(versions) >= set(before[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liveness, "lives", lambda pid, started: False)  # by now the process of that command would be gone
        assert forget(behind.store, "7").exit_code == 0
    require_whole(behind.store)
    served = "hyperforget-classifier@forget-7"
    assert int(behind.store.state()[1][served]) > int(aliases[served])
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    return said


HALFWAY = "update_model_version"  # of MLflow's client: the version is there, and not whole yet


@pytest.mark.parametrize("method", ["_register", HALFWAY])
def test_a_server_that_is_killed_in_the_middle_and_started_again(behind: Behind, method: str) -> None:
    said = fails_and_the_next_works(behind, behind.server.kill, behind.start_server, method)
    assert said.startswith(f"Error: the server at {behind.store.uri} is out of reach: Connection re")  # fused, or set by peer


@pytest.mark.parametrize("method", ["_register", HALFWAY])
def test_a_database_that_is_stopped_in_the_middle_and_started_again(behind: Behind, method: str) -> None:
    said = fails_and_the_next_works(behind, behind.postgres.stop, behind.postgres.start, method)
    assert said.startswith(f"Error: the server at {behind.store.uri} is out of reach: too many 503 error responses (")
    assert "a database that is down? the server's log says" in said


def test_a_database_that_is_restarted_between_two_requests_or_in_the_middle_of_one_is_not_noticed(behind: Behind) -> None:
    def restart() -> None:
        behind.postgres.stop()
        behind.postgres.start()

    restart()
    assert forget(behind.store, "3").exit_code == 0
    with in_the_middle(restart):
        done = forget(behind.store, "3")
    assert done.exit_code == 0, done.output
    require_whole(behind.store)


def test_a_server_that_is_restarted_in_the_middle_of_a_request_is_not_noticed(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")  # minutes: how long it takes to start decides nothing

    def restart() -> None:
        behind.server.kill()
        behind.server = behind.start()  # it is not waited for until it answers

    with in_the_middle(restart):
        done = forget(behind.store, "3")
    assert done.exit_code == 0, done.output
    require_whole(behind.store)


AT_ONE_MOMENT = """
import sys, time
from pathlib import Path
import hf_mlops.steps.forget as step
from projects.forget import command
audit = step.audit_samples
def together(*arguments):
    Path("at_work", sys.argv[1]).touch()
    until = time.monotonic() + 240
    while len(list(Path("at_work").iterdir())) < 3:
        assert time.monotonic() < until, "the others have not come so far"
        time.sleep(0.05)
    return audit(*arguments)
step.audit_samples = together  # by now each has found that nobody has made its version before
command(sys.argv[2:])
"""


def test_of_the_same_requests_at_one_moment_one_makes_the_version_that_answers_all(behind: Behind) -> None:
    (behind.store.folder / "at_work").mkdir()
    environment = {**behind.store.environment, "PYTHONPATH": str(ROOT)}
    asked = options_of({"forget": "8", **LOOSE, "force": "no"})
    children = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONE_MOMENT, number, *asked],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=behind.store.folder,
        )
        for number in "123"
    ]
    said = "".join(child.communicate()[0] for child in children)
    assert [child.returncode for child in children] == [0, 0, 0], said
    made = re.findall(r"^registered +hyperforget-classifier version (\d+)", said, re.MULTILINE)
    answered = re.findall(r"^answered +hyperforget-classifier/(\d+)", said, re.MULTILINE)
    assert len(made) == 1 and answered == made * 2, said
    assert str(behind.store.state()[1]["hyperforget-classifier@forget-8"]) == made[0]
    require_whole(behind.store)


def test_a_disk_that_is_full_in_the_middle(behind: Behind) -> None:
    said = fails_and_the_next_works(behind, lambda: behind.full(100), lambda: behind.full(psutil.RLIM_INFINITY), "_register")
    assert said.startswith(f"Error: the artifact store behind the server at {behind.store.uri} is out of reach:")


def test_a_bucket_that_may_only_be_read_in_the_middle(
    behind: Behind, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself reaches it: runs of this experiment are kept there."""
    with tracking(behind.store.uri):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", mlflow.create_experiment("kept in a bucket", "s3://direct/runs"))

    def asks_for_rights(after: str) -> None:
        requests.post(f"{s3['MLFLOW_S3_ENDPOINT_URL']}/moto-api/reset-auth", data=after, timeout=60).raise_for_status()

    said = fails_and_the_next_works(behind, lambda: asks_for_rights("0"), lambda: asks_for_rights("inf"), "_register")
    assert said.startswith(f"Error: the artifact store at {s3['MLFLOW_S3_ENDPOINT_URL']} is out of reach:") and "Denied" in said


def test_a_withdrawal_that_finds_the_disk_full_goes_on_once_it_is_not(behind: Behind) -> None:
    store, withdraw = behind.store, ("withdraw", "--reason=it is over")
    assert forget(store, "5").exit_code == 0
    version = store.client.get_model_version_by_alias("hyperforget-classifier", "forget-5")
    named = f"--version=hyperforget-classifier/{version.version}"
    behind.full(100)
    broken = store.in_process(*withdraw, named)
    behind.full(psutil.RLIM_INFINITY)
    assert broken.exit_code == OutOfReach.status, broken.output
    assert "hyperforget-classifier@forget-5" not in store.state()[1]
    again = store.in_process(*withdraw, named)
    assert again.exit_code == 0 and "already withdrawn" in again.stdout, again.output
    with tracking(store.uri):
        place = store.client.get_model_version_download_uri(version.name, version.version)
        assert {file.path for file in get_artifact_repository(place).list_artifacts()} == {"MLmodel", "withdrawn.py"}
