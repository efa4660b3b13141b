"""Files that say which group each training image is in, one row an image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hf_mlops.base.errors import BadRequest
from hf_mlops.data.given import Assignment, Given

if TYPE_CHECKING:
    from pandas import DataFrame

ENDINGS = (".csv", ".parquet")  # in upper or lower case
GROUP = "group"
TOLD = 3  # images that an error names


def is_group_file(text: str) -> bool:
    """Whether a grouping is the path of a file."""
    return text.lower().endswith(ENDINGS)


def find_group_file(path: str) -> Path:
    """The file, from the root on.

    Raises:
        BadRequest: it is not there.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise BadRequest(f"groups={path}: there is no file {file}; allowed: {_layout('index')}, or file for index")
    return file


def read_group_file(file: Path, given: Given) -> Assignment:
    """The groups of a CSV or Parquet file, whose first row, or schema, names its columns.

    `group` is the name of a group; a number is read as text. `index` counts from 0 through the images that are for training, or
    are not split yet, as they were given; for data in a folder there is `file` instead, a path from that folder on. Each of
    these images is there once, in any order. Of a folder, images that are given apart for validation or test may be there too,
    and are of no group else. Further columns are passed over; names of columns may be in upper or lower case.

    Raises:
        BadRequest: a file that cannot be read, or lacks a column; an image that is unknown, missing or there twice; one without
            a group.
    """
    column = "file" if given.files else "index"
    listed, groups = _columns(file, column)
    known = {path: row for row, path in enumerate(given.files)} or {str(row): row for row in range(given.listed)}
    rows = [known.get(_plain(text, column)) for text in listed]
    if odd := [text for text, row in zip(listed, rows, strict=True) if row is None]:
        allowed = f"paths from the folder on, such as {given.files[0]}" if given.files else f"0 to {given.listed - 1}"
        raise BadRequest(f"{file}: there is no image with the {column} {_told(odd)}; allowed: {allowed}")
    counts = Counter(rows)
    if twice := [text for text, row in zip(listed, rows, strict=True) if counts[row] > 1]:
        raise BadRequest(f"{file}: the {column} {_told(sorted(set(twice)))} is there more than once; allowed: each image once")
    if missing := [path for path, row in known.items() if row < given.listed and row not in counts]:
        raise BadRequest(
            f"{file}: {len(missing)} of {given.listed} images to train on are missing, with the {column} {_told(missing)};"
            " allowed: each of them once"
        )
    if without := [text for text, group in zip(listed, groups, strict=True) if not group]:
        raise BadRequest(f"{file}: the {column} {_told(without)} has no {GROUP}; allowed: a name in every row")
    texts: list[str | None] = [None] * len(given.labels)
    for row, group in zip(rows, groups, strict=True):
        if row is not None:
            texts[row] = group
    return Assignment.of_texts(str(file), texts)


def _columns(file: Path, column: str) -> tuple[list[str], list[str]]:
    """The column that names images and that of groups, as text; what is missing is empty."""
    try:
        table = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    except Exception as error:  # of pandas, PyArrow, the disk or an encoding
        raise BadRequest(f"{file} cannot be read: {' '.join(str(error).split())}; allowed: {_layout(column)}") from error
    names = [str(name).strip().lower() for name in table.columns]
    if any(names.count(wanted) != 1 for wanted in (column, GROUP)):
        raise BadRequest(f"{file} has the columns {', '.join(map(str, table.columns))}; allowed: {_layout(column)}")
    listed, groups = (table.iloc[:, names.index(wanted)].astype("string").fillna("").tolist() for wanted in (column, GROUP))
    return listed, groups


def _read_csv(file: Path) -> DataFrame:
    from pandas import read_csv

    # the first row is a row like any other, so that columns of one name, and rows that are longer than it, are seen
    rows = read_csv(file, header=None, dtype=str, keep_default_na=False)
    return rows[1:].set_axis(rows.iloc[0], axis=1)


def _read_parquet(file: Path) -> DataFrame:
    from pandas import read_parquet

    table = read_parquet(file, dtype_backend="numpy_nullable")  # in which a column of whole numbers with gaps stays one
    return table.reset_index() if any(table.index.names) else table  # an index called `index` is a column too


def _plain(text: str, column: str) -> str:
    """An image as it is compared: a path without `./` before it, a number without zeros before it."""
    if column == "file":
        return str(PurePosixPath(text))
    return str(int(text)) if re.fullmatch("[0-9]{1,18}", text.strip()) else text


def _layout(column: str) -> str:
    return f"a CSV or Parquet file with the columns {column} and {GROUP}, a row for each image to train on"


def _told(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:TOLD])) + ", …" * (len(texts) > TOLD)
