"""When training has paid for itself, worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks import breakeven
from benchmarks.breakeven import HOUR, Rates, cheaper_up_to, counted, curves, numbered, sets_of, targets_of
from hf_mlops import PopulationConfig
from hf_mlops.data.dataset import LIMIT

RATES = Rates(alone=12.0, together=1.0, hypernetwork=100.0, request=2.0)


def test_training_once_is_shared_by_cores_but_for_the_hypernetwork_and_saves_what_a_retraining_takes_more() -> None:
    assert [RATES.once(40, cores) for cores in (1, 8)] == [140, 105]
    assert [RATES.requests(40, cores) for cores in (1, 8)] == [14, 10.5]
    assert RATES.table(1022, 8) == 127.75


def test_where_retrainings_cost_more_those_together_do_in_proportion_and_nothing_else() -> None:
    assert RATES.at(120) == Rates(alone=120, together=10, hypernetwork=100, request=2)


def test_a_table_holds_every_proper_set_of_at_most_so_many_groups() -> None:
    assert [sets_of(4, most) for most in (1, 2, 3, 4, 100)] == [4, 10, 14, 14, 14]
    assert sets_of(10, LIMIT) == 1022


def test_a_table_is_cheaper_as_long_as_it_has_fewer_targets_than_training_costs_in_them() -> None:
    """Trained once is 100 seconds, and a target for each run; of eight cores each trains one, and a table is an eighth."""
    targets = dict.fromkeys(range(2, 101), 20)
    assert cheaper_up_to(RATES, targets, 2, 1) == 14  # 14 + 91 sets are under 120, 15 + 105 are not
    assert cheaper_up_to(RATES, targets, LIMIT, 1) == 6  # 62, and 126
    assert cheaper_up_to(RATES, targets, 2, 8) == 39  # 39 + 741 are under 8 * 102.5, 40 + 780 are not
    assert cheaper_up_to(RATES, targets, 1, 8) == 100


def test_a_population_has_its_runs_and_a_few_targets_for_each_set_of_the_reference() -> None:
    config = PopulationConfig(runs=5, reference_runs=8)
    assert targets_of(config, numbered(2)) == 5 + 8 * 3  # nothing, either group
    assert targets_of(config, numbered(3)) == 5 + 8 * 7  # and every pair


def test_rows_and_curves_agree_where_a_retraining_costs_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PopulationConfig(runs=5)
    monkeypatch.setattr(breakeven, "RETRAININGS", [12.0, HOUR])
    table = counted(RATES, config, [numbered(10), numbered(20)]).set_index(["groups", "cores"])
    assert list(table.index) == [(10, 1), (10, 8), (20, 1), (20, 8)]
    requests, tables = curves(RATES, config)
    for retraining, column in ((12.0, "requests to break even"), (HOUR, "where a retraining takes an hour")):
        drawn = requests[requests["retraining"] == retraining].set_index(["groups", "cores"])["requests"]
        pd.testing.assert_series_equal(drawn[table.index], table[column], check_names=False)
    assert table.loc[(10, 1), "a table of unions of any (s)"] == 1022
    assert table.loc[(20, 8), "a table of unions of 2 (s)"] == (20 + 190) / 8
    least = tables.groupby(["retraining", "unions"])["groups"].min().unstack()
    assert (least.diff(axis=1).dropna(axis=1) < 0).all(axis=None) and (least.diff().dropna() <= 0).all(axis=None)
    assert least.loc[HOUR, 2] < least.loc[12.0, 2]
