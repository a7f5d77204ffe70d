"""Texts that users read avoid the worst habits of translated English; see CONTRIBUTING.md.

The texts are the string literals and docstrings of the package, the string literals of the crates,
and the documentation. The names of tests have a maximum length.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_TEST_NAME_LEN = 70

HABITS = {
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|fewer\b)": "is not a …",
    r"\b(?:has|have) not(?=[.,;:)]|$| an?\b| the\b)": "… is missing, does not have …",
    r"\b(?:tells?|told|telling)\b(?! apart)": "report, print, return",
    r"\bso many\b": "N …, at most N …",
    r"\b(?:which|who|what) else\b": "a clause with a subject, or: otherwise",
    r"(?:^|[.!?:] )(?:Who|Whoever|Which)\b[^.?!]*(?:[.!]|$)": "a noun before the clause",
    r"\b(?:somebody|nobody|whoever)\b": "name the user, process or program",
    r"\b(?:is|are|be|was|were) (?:not |already )?there\b(?! (?:an?|any|no)\b)": "exist, missing",
    r"\bof (?:its|their) own\b": "its own …, separate",
    r"\b(?:done here|all true|stumbles?)\b": "supported; no problems found; cannot read",
    r"\b(?:got|wanted)\b": "found X, expected Y",
}
"""Regular expressions for habits, and what to write instead."""

EXCEPTIONS = {
    ("python/tocsin/reading/file.py", "tell"): "a method of Python's file objects",
}
"""Files and phrases that may stay, each with the reason."""


def python_texts(source):
    """Yield every string in a Python file; interpolated values become ``…``."""
    tree = ast.parse(source)
    inner = set()
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=values):
                inner |= {id(value) for value in values}
                yield "".join(
                    str(value.value) if isinstance(value, ast.Constant) else "…" for value in values
                )
            case ast.Constant(value=str(text)) if id(node) not in inner:
                yield text


def rust_texts(source):
    """Yield every string literal in a Rust file, except in comments and unit tests."""
    source = source.partition("#[cfg(test)]")[0]
    for text in re.findall(r"""//[^\n]*|'(?:\\.|[^\\'])'|"((?:[^"\\]|\\(?:.|\n))*)\"""", source):
        if text:
            yield re.sub(r"\\\n\s*", "", text)


def markdown_texts(source):
    """Yield every paragraph, list item and table cell of a page, without code."""
    source = re.sub(r"^ *```.*?^ *```", "", source, flags=re.M | re.S)
    source = re.sub(r"`[^`]*`", "…", source)
    yield from re.split(r"\n\s*\n|\n(?=\s*[-*] )|\n?\|", source)


def texts():
    """Yield (path, text) for everything that users read."""
    for path in sorted((ROOT / "python" / "tocsin").rglob("*.py")):
        yield from ((path, text) for text in python_texts(path.read_text()))
    for crate in ("core", "py"):
        for path in sorted((ROOT / "rust" / crate / "src").rglob("*.rs")):
            yield from ((path, text) for text in rust_texts(path.read_text()))
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]:
        yield from ((path, text) for text in markdown_texts(path.read_text()))


def habits_in(text):
    """Yield each bad habit in a text: the phrase, its context and what to write instead."""
    text = " ".join(text.split())
    for pattern, instead in HABITS.items():
        # Only the headless sentences depend on capital letters.
        flags = re.NOFLAG if "Whoever|Which" in pattern else re.I
        for found in re.finditer(pattern, text, flags):
            context = text[max(0, found.start() - 30) : found.end() + 30]
            yield found[0].strip(), context, instead


def names_in(source):
    """Yield the names of functions, classes, arguments and variables that a Python file defines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def problems():
    """Yield each bad habit in texts and names: path, phrase, description."""
    for path, text in texts():
        for phrase, context, instead in habits_in(text):
            yield path, phrase.lower(), f"{phrase!r} in {context!r}; write instead: {instead}"
    for path in sorted((ROOT / "python" / "tocsin").rglob("*.py")):
        for name in names_in(path.read_text()):
            for word in {"tell", "tells", "told"} & set(name.lower().split("_")):
                yield path, word, f"name {name}"


def test_texts_and_names_when_read_then_without_bad_habits():
    found = [
        f"{path.relative_to(ROOT)}: {problem}"
        for path, phrase, problem in problems()
        if (str(path.relative_to(ROOT)), phrase) not in EXCEPTIONS
    ]
    assert not found, "\n".join(["", *found])


def test_exceptions_when_listed_then_each_is_still_used():
    assert {(str(path.relative_to(ROOT)), phrase) for path, phrase, _ in problems()} >= set(
        EXCEPTIONS
    )


def test_test_names_when_defined_then_short():
    long = [
        f"{path.relative_to(ROOT)}: {name} ({len(name)})"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.M)
        if len(name) > MAX_TEST_NAME_LEN
    ]
    assert not long, "\n".join(["", *long])


@pytest.mark.parametrize(
    "text",
    [
        "DIR is no OCI layout",
        "a hard link to X, which the image has not",
        "Who mounts an image lazily trusts its zTOCs.",
        "Refuse layers without a zTOC, which else are read once.",
        "Read at most so many bytes.",
        "the zTOC tells how",
        "2 zTOCs verified: all true",
        "blob X: is not there",
        "version: got 3, wanted 2",
    ],
)
def test_habits_when_text_has_one_then_found(text):
    assert list(habits_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "There is no such file.",
        "The option is no longer supported.",
        "Which registries work? All of them.",
        "a layer which has not been read",
        "is there any way to tell apart A and B",
        "not an OCI layout: index.json is missing",
    ],
)
def test_habits_when_text_is_plain_then_not_found(text):
    assert not list(habits_in(text))


def test_texts_when_extracted_then_of_every_kind():
    assert list(python_texts('"""Doc."""\nx = f"a {b} c" "d"')) == ["Doc.", "a … cd"]
    assert list(rust_texts('// "no"\nlet c = \'"\'; f("a\\\n   b");')) == ["ab"]
    page = "A `b`\n\n```\nno\n```\n- C\n| D |"
    assert [text.strip() for text in markdown_texts(page) if text.strip()] == ["A …", "- C", "D"]
