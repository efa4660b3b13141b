"""A tracking server that knows users, for tests: an administrator, and whom it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from commands import tracking

from benchmarks.servers import tracking_server

ADMIN = "admin"
SETTINGS = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
admin_password = password-of-admin
auth_cache_ttl_seconds = 600
"""


@dataclass(frozen=True)
class Users:
    """Users of a server, each with the password `password-of-NAME`.

    Args:
        address: of the server, host and port.
    """

    address: str

    def uri(self, name: str) -> str:
        """The store, as this user."""
        return f"http://{name}:password-of-{name}@{self.address}"

    def add(self, name: str, experiment: str = "", **models: str) -> None:
        """Makes a user who has READ on everything, and more where it is said.

        Args:
            experiment: on the experiment 0.
            models: on registered models, whose names have `_` for `-`.
        """
        self._post("2.0/mlflow/users/create", username=name, password=f"password-of-{name}")
        grants = {("experiment", "0"): experiment, **{("registered_model", m.replace("_", "-")): p for m, p in models.items()}}
        for (kind, resource), permission in grants.items():
            if permission:
                about = {"resource_type": kind, "resource_id": resource, "permission": permission}
                self._post("3.0/mlflow/users/permissions/grant", username=name, **about)

    def _post(self, endpoint: str, **body: str) -> None:
        auth = (ADMIN, f"password-of-{ADMIN}")
        requests.post(f"http://{self.address}/api/{endpoint}", json=body, auth=auth, timeout=60).raise_for_status()


@contextmanager
def server_with_users(folder: Path) -> Iterator[Users]:
    """`mlflow server --app-name basic-auth`; within the block the store of this process is it, as its administrator."""
    (folder / "settings.ini").write_text(SETTINGS.format(folder=folder))
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "settings.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of these tests"}
    with tracking_server(folder, "--app-name", "basic-auth", **variables) as server:
        users = Users(server.address)
        with tracking(users.uri(ADMIN)):
            yield users
