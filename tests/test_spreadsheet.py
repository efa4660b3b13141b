"""Tables as CSV: nothing in them is a formula to a spreadsheet, and nothing is lost."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from hf_mlops.report.spreadsheet import harmless


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\t=1", "＝1+1"])
def test_what_could_be_a_formula_has_an_apostrophe_before_it(text: str) -> None:
    table = pd.read_csv(io.StringIO(harmless(pd.DataFrame({"said": [text]}))))
    assert table["said"].tolist() == [f"'{text}"]


@pytest.mark.parametrize("text", ['a "quoted", b', "a;=1", "two\nlines", "1=1", "Größe 猫", ""])
def test_any_other_text_is_what_it_was_and_in_quotes(text: str) -> None:
    written = harmless(pd.DataFrame({"said": [text], "seconds": [-1.5]}))
    assert written.startswith('"said","seconds"\n"') and written.endswith('",-1.5\n')
    assert pd.read_csv(io.StringIO(written), keep_default_na=False)["said"].tolist() == [text]
