"""Tables as CSV that a spreadsheet opens without running anything of it."""

from __future__ import annotations

import csv
import unicodedata

import pandas as pd

FORMULA = ("=", "+", "-", "@")  # what one begins with; full-width forms, too


def harmless(table: pd.DataFrame) -> str:
    """CSV with every text in quotes, and an apostrophe before one that could be read as a formula: `'=1+1`.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return table.map(_as_text).to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")


def _as_text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and unicodedata.normalize("NFKC", cell.strip()).startswith(FORMULA) else cell
