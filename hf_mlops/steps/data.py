"""The data that a step works on."""

from __future__ import annotations

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.dataset import Dataset
from hf_mlops.data.loading import read_dataset


def trained_on(made_from: dict[str, str], dataset: str, data_dir: str, groups: str) -> Dataset:
    """The data that a hypernetwork was trained on, in arrays of NumPy, by its name or where `--dataset` says it has moved to.

    Args:
        made_from: the `identity` of that data, as the hypernetwork keeps it.
        dataset: name of the data set now; empty: as it was.
        data_dir: as for `load_dataset`.
        groups: how its training images are grouped, by a file that has moved; empty: as they were.

    Raises:
        BadRequest: it is not there, or it is other data.
    """
    try:
        found = read_dataset(dataset or made_from["name"], data_dir, groups or made_from["grouping"])
    except ValueError as error:
        if dataset or groups:
            raise
        raise BadRequest(
            f"{error} (the hypernetwork was trained on it; has it moved? --dataset and --groups say where to)"
        ) from error
    found.require(made_from)
    return found
