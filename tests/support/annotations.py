"""The classes that a caller meets: those in the annotations of functions, classes and aliases.

Names that are imported for type checkers only are imported here, so that all annotations resolve.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from functools import cache, cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = "tocsin"
SPECIAL = {
    "__init__",
    "__call__",
    "__iter__",
    "__getitem__",
    "__enter__",
    "__len__",
    "__contains__",
}
"""Methods with underscores that callers use."""


def classes_met(value: Any, *, constructor: bool = True) -> dict[str, type]:
    """Return the classes of the package in all annotations of `value`, by where each was met.

    Args:
        value: a function, a class or an alias of types.
        constructor: whether callers make instances of the class themselves.
    """
    if inspect.isclass(value):
        found = dict(_of_class(value, constructor=constructor))
    elif inspect.isfunction(value):
        found = dict(_of_function(value, value.__name__))
    else:
        found = {f"{value}": kind for kind in _classes_in(value)}
    return {place: kind for place, kind in found.items() if kind.__module__.startswith(PACKAGE)}


def aliases_met(value: Any, *, constructor: bool = True) -> set[str]:
    """Return the names of aliases of types of the package that annotations of `value` have."""
    functions: list[Callable[..., Any]] = [value] if inspect.isfunction(value) else []
    texts: list[tuple[str, str]] = []
    for base in value.__mro__ if inspect.isclass(value) else ():
        if base.__module__.startswith(PACKAGE):
            fields = vars(base).get("__annotations__", {})
            texts += [(base.__module__, text) for name, text in fields.items() if name[0] != "_"]
            functions += [
                function
                for name, member in vars(base).items()
                if _is_used(name, constructor=constructor)
                for function in _functions_of(member)
            ]
    texts += [
        (each.__module__, text) for each in functions for text in each.__annotations__.values()
    ]
    return {
        node.id
        for module, text in texts
        for node in ast.walk(ast.parse(text, mode="eval"))
        if isinstance(node, ast.Name) and node.id in _aliases_of(module)
    }


@cache
def _aliases_of(module: str) -> set[str]:
    """Return the names that a module defines as, or imports from the package and are, no class."""
    home = sys.modules.get(module) or importlib.import_module(module)
    tree = ast.parse(inspect.getsource(home))
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    known = _names(module)
    return {name for name in names if name in known and not inspect.isclass(known[name])}


def _is_used(name: str, *, constructor: bool) -> bool:
    """Return whether callers use a member of a class."""
    if name == "__init__":
        return constructor
    return not name.startswith("_") or name in SPECIAL


def _of_class(kind: type, *, constructor: bool) -> Iterator[tuple[str, type]]:
    for base in kind.__mro__:
        if not base.__module__.startswith(PACKAGE):
            continue
        yield f"{kind.__name__} is a {base.__name__}", base
        # Of each class by itself: its bases may have imported other names.
        own = SimpleNamespace(__annotations__=vars(base).get("__annotations__", {}))
        for name, hint in get_type_hints(own, globalns=_names(base.__module__)).items():
            if not name.startswith("_"):
                for found in _classes_in(hint):
                    yield f"{kind.__name__}.{name}: {found.__name__}", found
        for name, member in vars(base).items():
            if _is_used(name, constructor=constructor):
                for function in _functions_of(member):
                    yield from _of_function(function, f"{kind.__name__}.{name}")


def _functions_of(member: Any) -> Iterator[Callable[..., Any]]:
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, cached_property):
        member = member.func
    elif isinstance(member, classmethod | staticmethod):
        member = member.__func__
    # What dataclasses write is in the annotations of the fields.
    if inspect.isfunction(member) and member.__code__.co_filename != "<string>":
        yield member


def _of_function(function: Callable[..., Any], name: str) -> Iterator[tuple[str, type]]:
    for argument, hint in get_type_hints(function, globalns=_names(function.__module__)).items():
        for found in _classes_in(hint):
            yield f"{name}({argument}): {found.__name__}", found


def _classes_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, list | tuple):
        for each in hint:
            yield from _classes_in(each)
    elif isinstance(hint, TypeVar):
        yield from _classes_in(hint.__bound__)
    elif args := get_args(hint):
        yield from _classes_in(args)
    elif inspect.isclass(hint):
        yield hint


@cache
def _names(module: str) -> dict[str, Any]:
    """Return the names of a module, with those it imports for type checkers."""
    home = sys.modules.get(module) or importlib.import_module(module)
    names = dict(vars(home))
    for node in ast.parse(inspect.getsource(home)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                exec(ast.unparse(statement), names)  # noqa: S102 (imports of our own source)
    return names
