"""Who may not do what an entry point does learns it before the work, and leaves nothing; who may, is let pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from click.testing import Result
from commands import run, tracking
from mlflow.entities import ViewType
from registering import DIGITS, a_run, registered
from users import Users, server_with_users

from hf_mlops import Gates, HypernetConfig, load_dataset
from hf_mlops.base.artifact import write
from hf_mlops.base.errors import BadRequest
from hf_mlops.registry.names import CHAMPION, FORGET, STANDING, STEP, WHOLE
from hf_mlops.registry.permissions import EDIT, MANAGE, READ, require_permissions
from hf_mlops.registry.runs import step_run
from hf_mlops.registry.versions import find_version, name_of, still_there, version_at
from hf_mlops.steps import hypernet

pytestmark = pytest.mark.slow  # a server is started first

EVERYTHING = {"hyperforget": MANAGE, "hyperforget_classifier": MANAGE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def users(folder: Path) -> Iterator[Users]:
    """A server with a champion, a challenger and a classifier, which answer nothing, and users who may more or less."""
    with server_with_users(folder) as users:
        tags = {**DIGITS.tags, "hf_mlops.data_digest": load_dataset("digits").digest}
        registered("hyperforget", **tags, **{STANDING: CHAMPION})
        registered("hyperforget", "challenger", **tags, **{STANDING: "challenger"})
        registered("hyperforget-classifier", "forget-7", **tags, **{FORGET: "7"})
        users.add("reader")
        users.add("runner", EDIT)
        users.add("trainer", MANAGE)
        users.add("asking", EDIT, hyperforget_classifier=EDIT)
        users.add("editor", EDIT, hyperforget=EDIT, hyperforget_classifier=EDIT)
        users.add("barred", MANAGE, **{**EVERYTHING, "hyperforget": "DENY"})
        users.add("clerk", EDIT, **EVERYTHING)
        yield users


def state(folder: Path) -> object:
    """All that a command could leave: runs, versions, aliases, tags, files of the store; as the administrator sees it."""
    client = mlflow.MlflowClient()
    runs = mlflow.search_runs(search_all_experiments=True, run_view_type=ViewType.ALL, output_format="list")
    models = client.search_registered_models()
    versions = [version for model in models for version in client.search_model_versions(f"name = '{model.name}'")]
    return (
        sorted((run.info.run_id, run.info.status, str(run.data.tags)) for run in runs),
        sorted((model.name, str(model.aliases), str(model.tags)) for model in models),
        sorted((name_of(version), str(version.tags)) for version in versions),
        sorted(str(file) for file in (folder / "served").rglob("*")),
        [experiment.name for experiment in client.search_experiments(view_type=ViewType.ALL)],
    )


def run_as(users: Users, name: str, *words: str) -> Result:
    with tracking(users.uri(name)):
        return run(*words)


COMMANDS = {
    "forget": ("forget", "--forget=7"),
    "main": ("main", "--forget=7"),
    "poison-demo": ("poison-demo",),
    "hypernet": ("hypernet",),
    "targets": ("targets",),
    "evaluate": ("evaluate",),
    "export": ("export", "--forget=7"),
    "promote": ("promote",),
    "rollback": ("rollback",),
    "rollback of a classifier": ("rollback", "--model=hyperforget-classifier", "--forget=7"),
    "withdraw": ("withdraw", "--version=hyperforget-classifier/1", "--reason=why"),
}
OF_RUNS, OF_MODEL, OF_CLASSIFIERS = (
    "the experiment 0 (Default)",
    "the registered model hyperforget",
    "the registered model hyperforget-classifier",
)


@pytest.mark.parametrize(
    ("user", "command", "level", "where", "has"),
    [
        ("reader", "forget", EDIT, OF_RUNS, READ),
        ("reader", "main", MANAGE, OF_RUNS, READ),
        ("reader", "poison-demo", MANAGE, OF_RUNS, READ),
        ("reader", "hypernet", MANAGE, OF_RUNS, READ),
        ("reader", "targets", EDIT, OF_RUNS, READ),
        ("reader", "evaluate", EDIT, OF_RUNS, READ),
        ("reader", "export", EDIT, OF_RUNS, READ),
        ("reader", "promote", EDIT, OF_RUNS, READ),
        ("reader", "rollback", EDIT, OF_MODEL, READ),
        ("reader", "rollback of a classifier", EDIT, OF_CLASSIFIERS, READ),
        ("reader", "withdraw", MANAGE, OF_CLASSIFIERS, READ),
        ("runner", "main", MANAGE, OF_RUNS, EDIT),
        ("runner", "hypernet", MANAGE, OF_RUNS, EDIT),
        ("runner", "forget", EDIT, OF_CLASSIFIERS, READ),
        ("runner", "promote", MANAGE, OF_MODEL, READ),
        ("editor", "promote", MANAGE, OF_MODEL, EDIT),
        ("editor", "withdraw", MANAGE, OF_CLASSIFIERS, EDIT),
        ("clerk", "withdraw", MANAGE, OF_RUNS, EDIT),
        ("trainer", "main", MANAGE, OF_MODEL, READ),
        ("trainer", "main", EDIT, OF_CLASSIFIERS, READ),
        ("barred", "main", MANAGE, OF_MODEL, "DENY"),
        ("barred", "forget", READ, OF_MODEL, "DENY"),
    ],
)
def test_who_may_not_learns_it_before_the_work_and_leaves_nothing(
    users: Users, folder: Path, user: str, command: str, level: str, where: str, has: str, tmp_path: Path
) -> None:
    before = state(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        done = run_as(users, user, *COMMANDS[command])
    said = f"user = {user!r} lacks {level} on {where} of the server at http://{user}:***@{users.address}: it has {has};"
    assert said in done.stderr and done.exit_code == BadRequest.status, done.output
    assert done.stderr.count("\n") == 1 and not done.stdout
    assert state(folder) == before and not list(tmp_path.iterdir())


def test_who_may_is_let_pass(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    of_forget = {"hyperforget": READ, "hyperforget-classifier": EDIT}
    with tracking(users.uri("asking")):
        require_permissions(EDIT, of_forget)
        require_permissions(EDIT, {"hyperforget-mnist-mlp-32": MANAGE})  # whoever makes it will have that
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of my own")
        require_permissions(MANAGE)
        assert mlflow.get_experiment_by_name("of my own") is None
    with tracking(users.uri("clerk")):
        require_permissions(models={"hyperforget": MANAGE})
    require_permissions(MANAGE, {"hyperforget": MANAGE})  # an administrator


def test_whoever_may_not_register_a_hypernetwork_learns_it_before_it_is_trained(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset("digits")
    population = SimpleNamespace(made_from=data.identity, target=SimpleNamespace(architecture="mlp-16", scope="*"))
    monkeypatch.setattr(hypernet, "artifacts_of", lambda run, path: path)
    monkeypatch.setattr(hypernet.Population, "load", lambda folder: population)
    with tracking(users.uri("trainer")), pytest.raises(BadRequest, match="lacks EDIT on the registered model hyperforget of"):
        hypernet.Hypernet(HypernetConfig(), Gates(), a_run("t1"), data).run()


def test_it_is_the_experiment_of_the_next_run_that_counts(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking(users.uri("trainer")):
        own = mlflow.create_experiment("of trainer")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", own)
        run_id = mlflow.MlflowClient().create_run(own).info.run_id
        require_permissions(MANAGE)
    with tracking(users.uri("editor")):
        lacking = rf"'editor' lacks EDIT on the experiment {own} \(of trainer\)"
        with pytest.raises(BadRequest, match=lacking):
            require_permissions(EDIT)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of trainer")
        with pytest.raises(BadRequest, match=lacking):
            require_permissions(EDIT)
        for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            monkeypatch.delenv(name)
        require_permissions(EDIT)
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)  # of a run that `mlflow run` has made
        with pytest.raises(BadRequest, match=lacking):
            require_permissions(EDIT)
        monkeypatch.delenv("MLFLOW_RUN_ID")
        with step_run("forget", "f", {}):
            monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", own)  # a child is made where its parent is
            require_permissions(EDIT)


def test_what_is_not_there_is_told_from_what_may_not_be_seen(users: Users) -> None:
    """A server with users denies all but administrators what is not there as well."""
    with tracking(users.uri("editor")):
        with pytest.raises(BadRequest, match=r"has no model models:/hyperforget-mnist@champion; there are .*: make one$"):
            version_at("hyperforget-mnist", "champion", "make one")
        with pytest.raises(BadRequest, match="'absent/1' is not there"):
            find_version("absent/1")
        assert still_there("absent/1") is None and still_there("hyperforget/9") is None
    with tracking(users.uri("barred")), pytest.raises(mlflow.MlflowException, match="Permission denied"):
        still_there("hyperforget/1")


def test_a_run_that_another_has_lost_stops_nobody(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    client, lost = mlflow.MlflowClient(), {STEP: "forget", "hf_mlops.alive": "0"}
    elsewhere = mlflow.create_experiment("of the administrator")
    left, ended = (client.create_run(one, start_time=0, tags=lost).info.run_id for one in (elsewhere, "0"))
    with tracking(users.uri("editor")), step_run("forget", "f", {}):
        pass
    assert [client.get_run(run_id).info.status for run_id in (left, ended)] == ["RUNNING", "KILLED"]
    client.set_terminated(left)


def test_a_checkpoint_that_only_another_may_delete_is_gone_on_from(
    users: Users, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "left").mkdir()
    write(tmp_path / "left", "training", {}, {})
    elsewhere = mlflow.create_experiment("of others")
    with pytest.raises(KeyboardInterrupt), mlflow.start_run(experiment_id=elsewhere) as broken_off:
        hypernet.Checkpoints(tmp_path / "left", broken_off, None).keep(5)
        raise KeyboardInterrupt
    with tracking(users.uri("trainer")), step_run("hypernet", "f", {}) as active:
        hypernet.Checkpoints(tmp_path / "taken", active, mlflow.get_run(broken_off.info.run_id)).go_on()
    assert (tmp_path / "taken").exists() and "it stays there as well: this user may not" in capsys.readouterr().out


def test_a_version_left_halfway_stops_nobody_who_may_register(users: Users, capsys: pytest.CaptureFixture[str]) -> None:
    """Only who has MANAGE on a model may delete versions of it."""
    client = mlflow.MlflowClient()
    left = registered("hyperforget-classifier", "forget-3", **DIGITS.tags)
    client.set_model_version_tag(left.name, left.version, WHOLE, "false")
    with tracking(users.uri("editor")):
        made = registered("hyperforget-classifier", "forget-3", **DIGITS.tags)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):  # not that it cannot be taken back
            patch.setattr(mlflow.MlflowClient, "set_registered_model_alias", lambda *rest: 1 / 0)
            registered("hyperforget-classifier", "forget-3", **DIGITS.tags)
    assert made.tags[WHOLE] == "true" and client.get_model_version_by_alias(made.name, "forget-3").version == made.version
    assert still_there(name_of(left)) is not None and "deleted" not in capsys.readouterr().out
    with tracking(users.uri("clerk")):
        registered("hyperforget-classifier", "forget-3", **DIGITS.tags)
    assert still_there(name_of(left)) is None and f"deleted {left.name} version {left.version}" in capsys.readouterr().out
