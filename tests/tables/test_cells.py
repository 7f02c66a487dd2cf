import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlworkbench.tables.cells import joined_names, label_of, names_of, parse_list, split_of

name = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(st.lists(name, max_size=5))
def test_lists_of_names_as_python_and_json_write_them(names):
    assert names_of(str(names)) == names
    assert names_of(str(tuple(names))) == names
    assert names_of(names) == names
    plain = [n.replace("\\", "").replace('"', "") or "x" for n in names]
    assert names_of(json.dumps(plain, ensure_ascii=False)) == plain
    if names:
        assert set(names_of(str(set(names)))) == set(names)


@pytest.mark.parametrize("names", [["cat"], ["cat", "big dog"], ["it's", 'a "b"', "c\\d"], ["e"] * 400])
def test_lists_of_names_as_numpy_and_pandas_write_them(names):
    with np.printoptions(threshold=10_000):
        assert names_of(str(np.array(names, object))) == names
        assert names_of(repr(np.array(names, object))) == names
    assert (
        names_of(pd.DataFrame({"x": [names]}).to_csv(index=False).splitlines()[1].strip('"').replace('""', '"'))
        == names
    )


@pytest.mark.parametrize(
    "cell",
    ["cat", "", "[cat]", "[0, 1]", "['cat'", "('cat'", "['cat', dog]", "['a'].pop()", "[x for x in 'a']", None, 5],
)
def test_what_is_no_list_of_quoted_names(cell):
    assert names_of(cell) is None


def test_names_without_quotes_and_numbers_only_where_they_are_asked_for():
    assert names_of("[cat, big dog]", loose=True) == ["cat", "big dog"]
    assert names_of("[cat dog]", loose=True) == ["cat", "dog"] and names_of("[0 3]", loose=True) == ["0", "3"]
    assert names_of([0, 3]) is None and names_of([0, 3], loose=True) == ["0", "3"]
    assert names_of("[]") == names_of("set()") == names_of("{}") == []


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=30))
def test_plain_lists_of_labels(labels):
    assert parse_list(str(labels)) == parse_list(json.dumps(labels)) == labels
    assert parse_list(str(np.array(labels))) == labels
    assert isinstance(parse_list(str([*labels, 2])), str) and isinstance(parse_list(str(labels)[:-1]), str)


@pytest.mark.parametrize(
    ("cell", "label"), [("1,0", 1), ("0,0", 0), ("-1,0", -1), ("1,5", None), ("yes", None), ("True", 1)]
)
def test_labels_with_decimal_commas(cell, label):
    assert label_of(cell) == label


@pytest.mark.parametrize(
    ("words", "split"),
    [
        ("train TRAIN Training train2017 train_set train-data trn", "train"),
        ("val VALID Validation validate dev Development val2017 valset", "val"),
        ("test Testing TEST test2019 test_split holdout", "test"),
        ("trained tests spare 0 1 true fold1 year2017 2017 vale", None),
    ],
)
def test_words_for_splits(words, split):
    assert {split_of(word) for word in words.split()} == {split}
    assert split_of(1) is None and split_of(None) is None


@pytest.mark.parametrize(
    ("names", "sign"),
    [
        (["cat", "dog", "cat dog"], " "),
        (["cat", "dog", "hat", "cat,dog"], ","),
        (["a b", "b c", "a c", "a b c"], " "),
        (["a/b", "b/c", "a/c", "a/b/c"], "/"),
        (["hot dog", "dog", "hot air balloon"], None),
        (["traffic light", "fire hydrant", "stop sign", "parking meter"], None),
        (["red", "green"], None),
        ([], None),
    ],
)
def test_names_that_are_made_of_other_names(names, sign):
    found = joined_names(names, "|")
    assert (found[0] if found else None) == sign
    assert joined_names(names, sign) is None
