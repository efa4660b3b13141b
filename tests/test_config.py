from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from hf_mlops import HypernetConfig, PopulationConfig
from hf_mlops.base.config import config_from


@pytest.mark.parametrize("config", [PopulationConfig(runs=3, set_sizes=(0.5, 0.5)), HypernetConfig(width=64)])
def test_a_configuration_comes_back_from_json(config: object) -> None:
    assert config_from(type(config), json.loads(json.dumps(asdict(config)))) == config  # type: ignore[call-overload]


def test_unknown_and_missing_fields_are_refused_by_name() -> None:
    values = asdict(HypernetConfig())
    values["widht"] = values.pop("width")
    with pytest.raises(ValueError, match=r"not a HypernetConfig: 'widht' \(unknown\), 'width' \(missing\); its fields are"):
        config_from(HypernetConfig, values)
