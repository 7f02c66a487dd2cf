"""A long table in Chromium: sorted, searched, by mouse and by keys."""

import lab
import numpy as np
import pandas as pd
import pytest

from mlworkbench.views.live import LONG, table_data

pytestmark = pytest.mark.skipif(lab.chromium() is None, reason="needs Chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"ap": rng.random(30), "support": rng.integers(0, 5000, 30)}, [f"class {i}" for i in range(30)]
    )
    frame.iloc[3, 0], frame.index.name = np.nan, "class"
    return frame.reset_index()


@pytest.fixture
def page(table):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [f"--{option}" for option in lab.QUIET]
        browser = playwright.chromium.launch(executable_path=lab.chromium(), args=options)
        page = browser.new_page()
        page.set_content(f"<body>{2 * table_data(table, index=False)['text/html']}</body>")
        yield page
        browser.close()


def column(page, place):
    return page.locator(f"div >> nth=0 >> tbody tr:visible td:nth-child({place + 1})").all_inner_texts()


def test_a_column_sorts_by_number_or_text_and_what_is_undefined_stays_last(page, table):
    head = page.locator("th").nth(1)
    head.click()
    values = table.ap.sort_values()
    assert column(page, 1) == [f"{v:.3f}" for v in values[:-1]] + ["–"]
    head.focus()
    page.keyboard.press("Enter")
    assert column(page, 1) == [f"{v:.3f}" for v in values[:-1][::-1]] + ["–"]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("th").nth(2).click()
    assert column(page, 2) == [f"{v:,}" for v in sorted(table.support)]
    page.locator("th").nth(0).click()
    assert column(page, 0) == sorted(table["class"])


def test_a_search_leaves_the_rows_that_hold_it_in_its_own_table(page):
    page.locator("input").first.fill("CLASS 2")
    assert column(page, 0) == ["class 2", *(f"class {i}" for i in range(20, 30))]
    assert "11 of 30 rows" in page.locator("body").inner_text()
    assert page.locator("div >> nth=1 >> tbody tr:visible").count() == 30


def test_a_short_table_is_a_table(table):
    assert "<script" not in table_data(table.head(LONG))["text/html"]
