"""Only numbers with a source can be shown."""
import pandas as pd
import pytest

from paperlib.claims import published
from paperlib.errors import InputError


def test_numbers_of_the_papers():
    assert published.value(paper_id=published.PROFIT, metric="BOPs reduction vs 8-bit %") == 63.8
    assert published.value(table="Table 1", method="full precision", model="VGG-7/CIFAR-10") == 94.06
    assert published.value(paper_id=published.PROFIT, model="MobileNet-v2", w_bits=4, metric="top1",
                           confidence="quoted", table="Table 1") == 71.564


def test_what_no_source_confirms_is_marked():
    where = {"paper_id": published.PROFIT, "model": "MobileNet-v1", "w_bits": 4, "metric": "top1"}
    assert published.text(**where, a_bits=4) == "69.056 (unverified)"
    assert published.text(metric="max top1 drop of 4-bit v1/v2/v3 vs full precision") == "1.48"


@pytest.mark.parametrize("where, cause", [
    ({"model": "MobileNet-v4"}, "no published number fits .*MobileNet-v4"),
    ({"paper_id": published.PROFIT, "metric": "top1"}, "published numbers fit"),
    ({"network": "x"}, "no column 'network': choose from paper_id, table")])
def test_a_number_that_is_not_there_cannot_be_shown(where, cause):
    with pytest.raises(InputError, match=cause):
        published.value(**where)


def test_every_row_has_a_value_a_source_and_a_known_confidence():
    table = published.table()
    assert len(table) == 199 and set(table.confidence) == set(published.CONFIDENCES)
    assert table.value.notna().all() and table.source.ne("").all()


@pytest.mark.parametrize("column, value", [("confidence", "sure"), ("source", ""), ("value", "")])
def test_a_row_without_its_source_is_refused(column, value, tmp_path, monkeypatch):
    rows = pd.read_csv(published.FILE, dtype=str, keep_default_na=False)
    rows.loc[3, column] = value
    rows.to_csv(tmp_path / "published.csv", index=False)
    monkeypatch.setattr(published, "FILE", tmp_path / "published.csv")
    published._all.cache_clear()
    try:
        with pytest.raises(InputError, match="needs a value, a source and a confidence"):
            published.table()
    finally:
        published._all.cache_clear()
