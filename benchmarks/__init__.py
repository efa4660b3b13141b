"""What README's numbers come from. Each benchmark prints a table and writes it to benchmarks/results/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parent.parent / "docs" / "pictures"


def write_table(name: str, table: pd.DataFrame) -> None:
    """Prints a table, a column per row of it, and writes it as CSV."""
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.6g")
    print(f"\n{table.T.to_string(header=False, float_format='{:.4f}'.format)}\n", flush=True)
