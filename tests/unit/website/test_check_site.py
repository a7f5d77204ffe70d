"""What the check of a built site finds."""

import pytest

from check_site import problems

GOOD = '<h2 id="there">x</h2><a href="b.html#here">b</a><a href="https://example.com/">out</a>'


def site(directory, body, **files):
    pages = {"index.html": GOOD + body, "b.html": '<h1 id="here">x</h1>', **files}
    for name, text in pages.items():
        (directory / name.replace("_css", ".css")).write_text(text)
    return problems(directory)


@pytest.mark.parametrize(
    "body",
    [
        '<a href="#there">x</a>',
        '<a href="b.html">x</a>',
        '<a href="mailto:someone@example.com">x</a>',
        '<img src="data:image/png;base64,">',
        '<link rel="canonical" href="https://example.com/">',
    ],
)
def test_site_when_all_is_well_then_nothing_is_found(tmp_path, body):
    assert site(tmp_path, body) == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('<a href="c.html">x</a>', "index.html: c.html: file is missing"),
        ('<a href="b.html#gone">x</a>', "index.html: b.html#gone: anchor is missing"),
        ('<a href="#gone">x</a>', "index.html: #gone: anchor is missing"),
        ('<img src="a.svg">', "index.html: a.svg: file is missing"),
    ],
)
def test_link_when_it_leads_nowhere_then_it_is_found(tmp_path, body, found):
    assert site(tmp_path, body) == [found]


@pytest.mark.parametrize(
    "body",
    [
        '<script src="https://example.com/x"></script>',
        '<img src="//example.com/x">',
        '<link rel="stylesheet" href="https://example.com/x">',
    ],
)
def test_page_when_it_loads_from_the_network_then_it_is_found(tmp_path, body):
    (found,) = site(tmp_path, body)
    assert found.startswith("index.html: loads ")


@pytest.mark.parametrize(
    "style", ["a { background: url('https://example.com/x') }", '@import "x";']
)
def test_style_when_it_loads_from_the_network_then_it_is_found(tmp_path, style):
    (found,) = site(tmp_path, "", extra_css=style)
    assert found.startswith("extra.css: loads ")


def test_site_when_it_has_no_pages_then_that_is_found(tmp_path):
    assert problems(tmp_path) == [f"{tmp_path}: no pages"]
