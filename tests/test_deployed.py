"""The table of what is deployed says what serves which spec, from what; and what was withdrawn, and why."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pandas as pd
from commands import run
from registering import DIGITS, registered

from hf_mlops.registry.deployed import deployed
from hf_mlops.registry.names import FORGET, SAMPLED_FROM, TARGETS_RUN
from hf_mlops.registry.versions import delete, find_version
from hf_mlops.registry.withdrawal import withdraw


def a_classifier(spec: str, hypernetwork: str, name: str = "hyperforget-classifier") -> None:
    tags = {**DIGITS.tags, FORGET: spec, SAMPLED_FROM: hypernetwork, TARGETS_RUN: "t1"}
    registered(name, f"forget-{spec.replace(',', '-')}", **tags)


def test_each_alias_has_a_row_that_says_whether_the_champion_of_now_gave_it(store: mlflow.MlflowClient) -> None:
    for _ in range(4):
        registered("hyperforget", **DIGITS.tags)
    for spec, number in (("7", 4), ("3,5", 3), ("8", 2), ("9", 1), ("7", 4)):
        a_classifier(spec, f"hyperforget/{number}")
    delete(find_version("hyperforget/2"))
    withdraw(find_version("hyperforget/1"), "poisoned")
    serving, _ = deployed()
    rows = serving[["model", "alias", "forget", "version", "sampled from", "of the champion"]].to_numpy().tolist()
    assert rows == [
        ["hyperforget", "champion", "", "4", "", ""],
        ["hyperforget-classifier", "forget-3-5", "3,5", "2", "hyperforget/3", "no"],
        ["hyperforget-classifier", "forget-7", "7", "5", "hyperforget/4", "yes"],
        ["hyperforget-classifier", "forget-8", "8", "3", "hyperforget/2", "no, deleted"],
        ["hyperforget-classifier", "forget-9", "9", "4", "hyperforget/1", "no, withdrawn"],
    ]
    assert serving["data digest"].tolist() == ["d1"] * 5 and serving["population run"].tolist() == ["", *["t1"] * 4]
    made = pd.Timestamp(serving["registered"][0])
    assert abs(pd.Timestamp.now("UTC") - made) < pd.Timedelta("5min")


def test_what_was_withdrawn_is_listed_with_reason_and_time_and_copies_under_other_names_are_there(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    registered("another", tag="not of this package's making")
    store.delete_model_version_tag("another", "1", "hf_mlops.whole")
    a_classifier("7", "hyperforget/1")
    copied = store.copy_model_version("models:/hyperforget-classifier/1", "production")
    store.set_registered_model_alias("production", "live", copied.version)
    a_classifier("3", "hyperforget/1")
    withdraw(find_version("hyperforget-classifier/2"), "the contract ended")
    done = run("deployed", f"--output={tmp_path}/deployed.csv")
    assert done.exit_code == 0, done.output
    above, below = done.stdout.split("\nwithdrawn\n")
    assert re.search(r"production +live +7 +1 +hyperforget/1 +no, deleted", above) and "another" not in above
    assert re.search(r"hyperforget-classifier +2 +3 +forget-3 +2\d{3}-\S+ +the contract ended", below)
    assert "forget-3" not in above
    table = pd.read_csv(tmp_path / "deployed.csv", dtype=str, keep_default_na=False)
    assert table["alias"].tolist() == ["forget-7", "live", ""]
    assert table["reason"].tolist() == ["", "", "the contract ended"]


def test_a_reason_that_a_spreadsheet_would_take_for_a_formula_is_text_in_the_file(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    a_classifier("3", "hyperforget/1")
    withdraw(find_version("hyperforget-classifier/1"), '=HYPERLINK("http://host", "x")')
    assert run("deployed", f"--output={tmp_path}/deployed.csv").exit_code == 0
    (reason,) = pd.read_csv(tmp_path / "deployed.csv", dtype=str, keep_default_na=False)["reason"]
    assert reason == '\'=HYPERLINK("http://host", "x")'


def test_an_empty_store_has_nothing_deployed(store: mlflow.MlflowClient) -> None:
    assert run("deployed").stdout == "nothing is deployed\n"
