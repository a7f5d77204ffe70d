"""No code parses error messages; programs use the attributes of an error.

The text of an exception may become part of another message, but no string method, regular
expression or comparison is applied to it. The tests check the source code.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "python" / "tocsin"
SOURCES = sorted(PACKAGE.rglob("*.py"))
HOLDERS = {"error", "exc", "exception", "err", "failure", "cause", "broken", "lost", "refused"}
"""Names of variables that hold exceptions, in addition to those bound by ``except``."""

ALLOWED = {
    # requests and urllib3 provide the cause of their exceptions only in the arguments.
    ("stores/http/failures.py", "cause.args"),
    # A log record, not an exception.
    ("stores/http/redaction.py", "record.args"),
    # The definition of ``message``.
    ("errors.py", "self.args"),
    # An OSError without strerror is printed as Python prints it.
    ("cli/failures.py", "str(error)"),
}


class Reader(ast.NodeVisitor):
    """Finds expressions that parse the text of an exception."""

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
        """Return whether an expression is, or contains, the text of an exception."""
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
def test_module_when_it_handles_errors_then_no_message_is_parsed(path):
    name = str(path.relative_to(PACKAGE))
    found = [place for place in places_in(path.read_text()) if (name, place) not in ALLOWED]
    assert not found, f"{name} parses an error message: {found}"


def test_allowed_places_when_listed_then_each_is_still_used():
    used = {
        (str(path.relative_to(PACKAGE)), place)
        for path in SOURCES
        for place in places_in(path.read_text())
    }
    assert used >= ALLOWED


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
def test_reader_when_message_is_parsed_then_found(line):
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
def test_reader_when_message_is_passed_on_whole_then_not_found(line):
    assert not places_in(f"try:\n    go()\nexcept ValueError as why:\n    {line}\n")


def strings_of(path):
    return [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_cli_when_read_then_no_hint_is_parsed_from_text():
    for path in (PACKAGE / "cli").rglob("*.py"):
        assert not {"; ", "hint: "} & set(strings_of(path)), path


def hints():
    """Yield every hint in the sources: its literal text, and its interpolated expressions."""
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


def test_hints_when_read_then_each_is_a_constant_sentence():
    found = set(hints())
    assert len(found) > 15
    for text, values in found:
        assert text[0].isupper(), text
        # No untrusted text: only a name from a reference or from a table of tocsin.
        assert set(values) <= {"self._endpoint.name", "tool"}, text
