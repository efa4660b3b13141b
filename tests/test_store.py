"""The store: what its URI is taken for, whether it answers, and one line without a password for each of its errors."""

from __future__ import annotations

import base64
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
import requests
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hf_mlops.base.errors import BadRequest, DamagedArtifact, GateFailure, OutOfReach
from hf_mlops.registry import store
from hf_mlops.registry.store import LIMITS, describe, foreseen, hasten, is_missing, limited, require_store, shown

KILLED_AS_IT_WRITES = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages are in the file before the end
connection.execute("CREATE TABLE t (x)")
connection.execute("BEGIN")
connection.executemany("INSERT INTO t VALUES (?)", [("x" * 4000,)] * 100)
os._exit(9)
"""
NO_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_CREDENTIALS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def use() -> Iterator[Callable[[str], None]]:
    """Makes a URI that of the tracking store and the registry."""
    before = mlflow.get_tracking_uri()
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://host:5000/mlflow", "the server at http://host:5000/mlflow"),
        ("https://me:secret@host", "the server at https://me:***@host"),
        ("sqlite:////x/mlflow.db", "the SQLite database /x/mlflow.db"),
        ("sqlite:///mlflow.db", "the SQLite database {here}/mlflow.db"),
        ("sqlite://", "a SQLite database in memory"),
        ("postgresql+psycopg2://me:secret@db/mlflow", "the database at postgresql+psycopg2://me:***@db/mlflow"),
        ("./mlruns", "the folder {here}/mlruns"),
        ("file:///x/my%20runs", "the folder /x/my runs"),
        ("127.0.0.1:5000", "the folder {here}/127.0.0.1:5000"),
        ("localhost:5000", "a store of the kind 'localhost'"),
        ("databricks://me", "the Databricks workspace databricks://me"),
    ],
)
def test_a_uri_is_described_as_what_mlflow_takes_it_for(uri: str, text: str) -> None:
    assert describe(uri) == text.format(here=Path.cwd())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@host:5000/x failed", "http://me:***@host:5000/x failed"),
        ("postgresql://me:se/cret@db/mlflow", "postgresql://me:***@db/mlflow"),
        ("mysql+pymysql://me:secret@db and http://a:b@c", "mysql+pymysql://me:***@db and http://a:***@c"),
        ("postgresql://db/x?user=me&password=secret&ssl=1", "postgresql://db/x?user=me&password=***&ssl=1"),
        ("http://host:5000 has no models:/hyperforget@champion", "http://host:5000 has no models:/hyperforget@champion"),
        ("http://host:5000/models:/hyperforget@champion", "http://host:5000/models:/hyperforget@champion"),
        ("sqlite:////home/me:us@work/mlflow.db", "sqlite:////home/me:us@work/mlflow.db"),
    ],
)
def test_passwords_in_uris_are_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_the_passwords_in_use_are_not_shown_however_they_are_quoted(
    use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("postgresql://me:se%40cret@db/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-of-mine")
    assert shown("no role me with se@cret (se%40cret), Bearer token-of-mine") == "no role me with *** (***), Bearer ***"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "localhost:5000",
            "'localhost:5000' is taken for a store of the kind 'localhost'; allowed: a server's begins with http://",
        ),
        ("localhost:5000", "http://localhost:5000?"),
        ("127.0.0.1:5000", "is taken for the folder {here}/127.0.0.1:5000, and MLflow works on no folder unless"),
        ("./mlruns", "'./mlruns' is taken for the folder {here}/mlruns, and MLflow works on no folder unless"),
        ("postgres://me:secret@db/x", "'postgres://me:***@db/x' is taken for a store of the kind 'postgres'; allowed"),
        ("mssql+nothing://me:secret@db/x", "'mssql+nothing://me:***@db/x'"),
        ("sqlite:/tmp/x.db", "'sqlite:/tmp/x.db' is not a URI; allowed"),
        ("postgresql+psycopg2://me:secret@db/x", "'postgresql+psycopg2://me:***@db/x' needs the package psycopg2"),
    ],
)
def test_a_uri_that_mlflow_has_no_store_for_is_refused_with_what_it_is_taken_for(
    uri: str, message: str, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    use(uri)
    with pytest.raises(BadRequest, match="MLFLOW_TRACKING_URI = ") as refused:
        require_store()
    assert message.format(here=Path.cwd()) in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_is_a_store_for_who_allows_it(use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    use("./mlruns")
    require_store()


def test_a_database_that_a_killed_process_was_writing_is_in_reach(tmp_path: Path, use: Callable[[str], None]) -> None:
    file = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", KILLED_AS_IT_WRITES, file], check=False)
    assert file.with_name("mlflow.db-journal").exists()
    use(f"sqlite:///{file}")
    require_store()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_registry_of_its_own_is_asked_too(use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    use("sqlite://")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "localhost:5000")
    with pytest.raises(BadRequest, match="MLFLOW_REGISTRY_URI = 'localhost:5000' is taken for"):
        require_store()


def test_a_database_that_cannot_be_used_is_named_at_once_and_left_as_it_is(tmp_path: Path, use: Callable[[str], None]) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    started = time.monotonic()
    for uri, reason in [
        (f"sqlite:///{tmp_path}/text.db", "text.db is out of reach: file is not a database"),
        (f"sqlite:///{tmp_path}", f"{tmp_path} is out of reach: it is a folder"),
        ("sqlite:////proc/here/x.db", "/proc/here/x.db is out of reach: nothing can be written to /proc"),
    ]:
        use(uri)
        with pytest.raises(OutOfReach) as refused:
            require_store()
        assert reason in str(refused.value)
    assert time.monotonic() - started < 5
    with sqlite3.connect(tmp_path / "good.db") as connection:
        connection.execute("CREATE TABLE x (y)")
    for name in ("good.db", "folder/new.db"):
        use(f"sqlite:///{tmp_path}/{name}")
        require_store()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.db", "text.db"]


@contextmanager
def answering(status: int, credentials: str | None = None, wait: float = 0.0) -> Iterator[str]:
    """The address, without http://, of a server that answers every request so, or with 401 if it lacks these credentials."""
    left = threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            left.wait(wait)
            known = credentials is None or self.headers.get("Authorization") == credentials
            body = b"{}" if status == 200 else b"sorry"
            self.send_response(status if known else 401)
            self.send_header("Content-Length", str(len(body)))
            with suppress(BrokenPipeError):  # who asked has gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        left.set()
        server.shutdown()
        server.server_close()


BASIC = "Basic " + base64.b64encode(b"me:very secret").decode()


@pytest.mark.parametrize(
    ("uri", "variables", "credentials"),
    [
        ("http://{}", {}, None),
        ("http://me:very%20secret@{}", {}, BASIC),
        ("http://{}/", {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "very secret"}, BASIC),
        ("http://{}", {"MLFLOW_TRACKING_TOKEN": "token"}, "Bearer token"),
    ],
)
def test_a_server_is_given_the_credentials_that_mlflow_has(
    uri: str, variables: dict[str, str], credentials: str | None, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with answering(200, credentials) as address:
        use(uri.format(address))
        require_store()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "refuses these credentials (status 401); it is given them by MLFLOW_TRACKING_USERNAME"),
        (403, "refuses these credentials (status 403)"),
        (404, "answers with status 404: is it an MLflow server?"),
        (500, "answers with status 500: its database may be down"),
        (503, "answers with status 503: its database may be down"),
    ],
)
def test_a_server_that_refuses_or_fails_is_out_of_reach(status: int, message: str, use: Callable[[str], None]) -> None:
    with answering(status) as address:
        use(f"http://me:secret@{address}")
        started = time.monotonic()
        with pytest.raises(OutOfReach) as refused:
            require_store()
        assert str(refused.value).startswith(f"the server at http://me:***@{address} {message}")
        assert time.monotonic() - started < 5


def test_a_server_that_is_not_there_or_hangs_is_out_of_reach(
    use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ASKED_SECONDS", 0.3)
    use("http://me:secret@127.0.0.1:9")
    with pytest.raises(
        OutOfReach, match=r"no MLflow tracking server answers at http://me:\*\*\*@127.0.0.1:9 \(Connection refused\)"
    ):
        require_store()
    with answering(200, wait=20) as address:
        use(f"http://{address}")
        with pytest.raises(OutOfReach, match=rf"answers at http://{address} \(timed out\): start it, or set"):
            require_store()


def test_a_call_of_a_server_ends_within_a_minute_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with limited():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        retries = int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
        factor = int(os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"])
    pauses = sum(factor * 2**n for n in range(1, retries))  # urllib3 tries again at once, then after 2, 4, … factors
    assert int(LIMITS["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (retries + 1) + pauses <= 45
    assert pauses >= 10  # seconds that a server has to come back in
    assert not [name for name in LIMITS if name in os.environ and name != "MLFLOW_HTTP_REQUEST_TIMEOUT"]


def test_after_a_server_was_given_up_it_is_asked_but_once_more(use: Callable[[str], None]) -> None:
    use("http://127.0.0.1:9")
    with limited():
        hasten(GateFailure("accuracy"))
        hasten(KeyboardInterrupt())
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == LIMITS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
        hasten(OutOfReach("gone"))
        started = time.monotonic()
        with pytest.raises(MlflowException):
            mlflow.MlflowClient().search_experiments()
        assert time.monotonic() - started < 3


class EndpointConnectionError(Exception):
    """As of botocore, which need not be installed."""


EndpointConnectionError.__module__ = "botocore.exceptions"


class DecodeError(Exception):
    """As of protobuf: it is about a file, not a store."""


DecodeError.__module__ = "google.protobuf.message"


def operational_error() -> sqlalchemy.exc.OperationalError:
    text = "could not connect with se@cret\nis it running?"
    return sqlalchemy.exc.OperationalError("INSERT INTO runs VALUES (?)", ("x",), sqlite3.OperationalError(text))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (MlflowException("Run 'x' not found", codes.RESOURCE_DOES_NOT_EXIST), BadRequest, "Run 'x' not found"),
        (MlflowException("bad alias", codes.INVALID_PARAMETER_VALUE), BadRequest, "bad alias"),
        (
            MlflowException("(psycopg2.OperationalError) server closed", codes.INTERNAL_ERROR),
            OutOfReach,
            "the server at http://me:***@host is out of reach: (psycopg2.OperationalError) server closed",
        ),
        (
            MlflowException("no", codes.PERMISSION_DENIED),
            OutOfReach,
            "the server at http://me:***@host refuses these credentials or what they may do: no",
        ),
        (
            MlflowException("no", codes.TEMPORARILY_UNAVAILABLE),
            OutOfReach,
            "the server at http://me:***@host is out of reach: no",
        ),
        (
            requests.HTTPError("507 Insufficient Storage for url: http://host/api/2.0/mlflow-artifacts/artifacts/0/x"),
            OutOfReach,
            "the artifact store behind the server at http://me:***@host is out of reach:"
            " 507 Insufficient Storage for url: http://host/api/2.0/mlflow-artifacts/artifacts/0/x",
        ),
        (
            EndpointConnectionError('Could not connect to the endpoint URL: "http://minio:9000/b"'),
            OutOfReach,
            'the artifact store at http://minio:9000 is out of reach: Could not connect to the endpoint URL: "http://minio:9000/b"',
        ),
        (
            operational_error(),
            OutOfReach,
            "the server at http://me:***@host is out of reach: could not connect with *** is it running?",
        ),
        (OSError(28, "No space left on device", "/x"), OutOfReach, "[Errno 28] No space left on device: '/x'"),
    ],
)
def test_each_error_of_a_store_is_one_line_of_a_kind(
    error: Exception, kind: type[Exception], text: str, use: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://minio:9000")
    use("http://me:se%40cret@host")
    plain = foreseen(error)
    assert type(plain) is kind and str(plain) == text


@pytest.mark.parametrize("error", [BadRequest("a"), GateFailure("b\nc"), DamagedArtifact("d"), OutOfReach("e")])
def test_what_is_of_a_kind_stays_as_it_is(error: Exception) -> None:
    assert foreseen(error) is error


@pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), KeyError("x"), DecodeError("x"), RuntimeError("x")])
def test_a_fault_of_the_program_is_none_of_the_store(error: Exception) -> None:
    assert foreseen(error) is None


def test_a_long_error_is_cut() -> None:
    assert len(str(foreseen(MlflowException("x " * 1000)))) < 600


def test_what_a_request_failed_of_is_said_rather_than_how_often(use: Callable[[str], None]) -> None:
    use("http://127.0.0.1:9")
    with pytest.raises(MlflowException) as raised, limited():
        http_request(get_default_host_creds("http://127.0.0.1:9"), "/x", "GET", max_retries=0)
    assert str(foreseen(raised.value)) == "the server at http://127.0.0.1:9 is out of reach: Connection refused"


def test_the_first_error_counts_where_another_came_of_it(use: Callable[[str], None]) -> None:
    use("http://host")
    artifacts = requests.HTTPError("500 for url: http://host/api/2.0/mlflow-artifacts/artifacts/0/x")
    connection = requests.ConnectionError(
        "http://host/api/2.0/mlflow-artifacts/artifacts/0/x", ConnectionResetError(104, "reset")
    )
    for first, text in [
        (artifacts, f"the artifact store behind the server at http://host is out of reach: {artifacts}"),
        (connection, "the server at http://host is out of reach: reset"),
    ]:
        try:
            try:
                raise first
            finally:
                raise MlflowException("the run cannot be ended")
        except MlflowException as error:
            assert str(foreseen(error)) == text


def test_only_what_a_store_says_is_missing_is_missing(client: mlflow.MlflowClient) -> None:
    with pytest.raises(MlflowException) as no_model:
        client.get_model_version_by_alias("absent", "champion")
    client.create_registered_model("present")
    with pytest.raises(MlflowException) as no_alias:
        client.get_model_version_by_alias("present", "champion")
    assert is_missing(no_model.value) and is_missing(no_alias.value)
    for code in (codes.INTERNAL_ERROR, codes.TEMPORARILY_UNAVAILABLE, codes.UNAUTHENTICATED, codes.PERMISSION_DENIED):
        assert not is_missing(MlflowException("no", code))
