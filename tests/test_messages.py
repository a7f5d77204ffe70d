"""Messages are for people. Programs, ours too, read the attributes of an error.

What an exception says is put into other messages, but never taken apart: no method, no pattern and
no comparison is applied to its text. Read from the sources.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "python" / "tocsin"
SOURCES = sorted(PACKAGE.rglob("*.py"))
HOLDERS = {"error", "exc", "exception", "err", "failure", "cause", "broken", "lost", "refused"}
"""Names that exceptions have where they are handed on; besides those that ``except`` binds."""

ALLOWED = {
    # What the exceptions of requests and urllib3 are about is found in their arguments alone.
    ("stores/http/failures.py", "cause.args"),
    # The record of a log, not an exception.
    ("stores/http/redaction.py", "record.args"),
    # Where ``message`` is made of what the constructor was given.
    ("errors.py", "self.args"),
    # An error of the system without a reason of its own is shown as Python shows it.
    ("cli/failures.py", "str(error)"),
}


class Reader(ast.NodeVisitor):
    """Finds where the text of an exception is looked into."""

    def __init__(self):
        self.bound = []
        self.found = []

    def visit_ExceptHandler(self, node):
        self.bound.append(node.name)
        self.generic_visit(node)
        self.bound.pop()

    def is_exception(self, node):
        return isinstance(node, ast.Name) and (node.id in HOLDERS or node.id in self.bound)

    def is_text(self, node):
        """Return whether an expression is, or contains, what an exception says."""
        match node:
            case ast.Attribute(value=value, attr="message"):
                return self.is_exception(value)
            case ast.JoinedStr(values=values):
                return any(self.is_text(value) for value in values)
            case ast.FormattedValue(value=value):
                return self.is_exception(value) or self.is_text(value)
            case ast.Call(func=ast.Name(id="str" | "repr"), args=[value]):
                return self.is_exception(value) or self.is_text(value)
            case ast.BinOp(left=left, right=right):
                return self.is_text(left) or self.is_text(right)
        return False

    def is_about_exception(self, arguments):
        value = arguments[0] if arguments else None
        return self.is_exception(value.value if isinstance(value, ast.Attribute) else value)

    def visit_Attribute(self, node):
        if node.attr in ("args", "__notes__") or self.is_text(node.value):
            self.found.append(ast.unparse(node))
        self.generic_visit(node)

    def visit_Call(self, node):
        match node.func:
            case ast.Name(id="str" | "repr") if self.is_about_exception(node.args):
                self.found.append(ast.unparse(node))
            case (
                ast.Attribute(value=ast.Name(id="re"))
                | ast.Attribute(
                    attr="match" | "search" | "fullmatch" | "split" | "findall" | "finditer" | "sub"
                )
            ) if any(self.is_text(argument) for argument in node.args):
                self.found.append(ast.unparse(node))
        self.generic_visit(node)

    def visit_Compare(self, node):
        if any(self.is_text(side) for side in (node.left, *node.comparators)):
            self.found.append(ast.unparse(node))
        self.generic_visit(node)

    def visit_Subscript(self, node):
        if self.is_text(node.value):
            self.found.append(ast.unparse(node))
        self.generic_visit(node)


def places_in(source):
    reader = Reader()
    reader.visit(ast.parse(source))
    return reader.found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_when_it_handles_errors_then_it_takes_no_message_apart(path):
    name = str(path.relative_to(PACKAGE))
    found = [place for place in places_in(path.read_text()) if (name, place) not in ALLOWED]
    assert not found, f"{name} looks into what an error says: {found}"


def test_exceptions_to_the_rule_when_listed_then_each_is_there():
    there = {
        (str(path.relative_to(PACKAGE)), place)
        for path in SOURCES
        for place in places_in(path.read_text())
    }
    assert there >= ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "x = str(why)",
        "x = repr(why)",
        "x = why.args[0]",
        "x = why.message.partition(': ')",
        "x = f'{why}'.split('; ')",
        "x = f'a {why.message}'.removeprefix('a')",
        "x = re.match('a', why.message)",
        "x = PATTERN.fullmatch(f'{why}')",
        "x = 'gone' in why.message",
        "x = why.message == 'gone'",
        "x = why.message[:5]",
        "x = why.__notes__",
        "x = ('a: ' + why.message).rpartition(': ')",
        "x = str(why.message)",
    ],
)
def test_reader_when_a_message_is_taken_apart_then_it_is_seen(line):
    assert places_in(f"try:\n    go()\nexcept ValueError as why:\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "raise FormatError(f'place: {why}', what='x') from None",
        "x = why.message",
        "x = why.what.startswith('gzip.')",
        "x = Finding('kind', f'ztoc: {why}')",
        "x = str(name).partition(':')",
    ],
)
def test_reader_when_a_message_is_handed_on_whole_then_it_is_not_seen(line):
    assert not places_in(f"try:\n    go()\nexcept ValueError as why:\n    {line}\n")


def strings_of(path):
    return [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_cli_when_read_then_no_hint_is_cut_from_text():
    for path in (PACKAGE / "cli").rglob("*.py"):
        assert not {"; ", "hint: "} & set(strings_of(path)), path


def hints():
    """Yield every hint that is written in the sources: its parts that are text, and the others."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.keyword(arg="hint", value=value):
                    pass
                case ast.Assign(targets=[ast.Attribute(attr="hint")], value=value):
                    pass
                case _:
                    continue
            for choice in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                match constants.get(choice.id) if isinstance(choice, ast.Name) else choice:
                    case ast.Constant(value=str(text)):
                        yield text, ()
                    case ast.JoinedStr(values=parts):
                        texts = [part.value for part in parts if isinstance(part, ast.Constant)]
                        inner = [part for part in parts if isinstance(part, ast.FormattedValue)]
                        yield "".join(texts), tuple(ast.unparse(part.value) for part in inner)


def test_hints_when_read_then_each_is_an_imperative_sentence_of_ours():
    found = set(hints())
    assert len(found) > 15
    for text, values in found:
        assert text[0].isupper(), text
        # Nothing from outside: a name that a reference has, or one of our own tables.
        assert set(values) <= {"self._endpoint.name", "tool"}, text
