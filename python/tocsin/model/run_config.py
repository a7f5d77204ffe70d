"""How a program of an image is run: the fields of an image config that a container needs.

Docker's config has the same fields. Source: OCI image-spec 1.1.1, config.md, "Properties".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tocsin.errors import FormatError
from tocsin.model.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WHAT = "config"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Search path of an image that does not set ``PATH``, as in Docker and podman."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How a program of an image is run.

    Attributes:
        arguments: the program and its arguments.
        environment: variables by name.
        user: user, or user and group with a colon, by name or number; empty for root.
        directory: absolute path of the working directory.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    user: str = ""
    directory: str = "/"

    @classmethod
    def of(
        cls,
        config: dict[str, Any],
        arguments: Sequence[str] = (),
        *,
        entrypoint: str | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        directory: str | None = None,
    ) -> Self:
        """Return what to run, as ``docker run`` decides it.

        Args:
            config: the image's config, decoded from JSON.
            arguments: arguments in place of the image's command.
            entrypoint: program in place of the image's entrypoint and command; empty for none.
            environment: variables in addition to those of the image.
            user: user in place of the image's.
            directory: working directory in place of the image's.

        Raises:
            FormatError: the config is invalid, or it names no program and none is given.
        """
        fields = Fields(config, what=_WHAT).child("config") or Fields({}, what=_WHAT)
        command = tuple(arguments) or fields.texts("Cmd")
        if entrypoint is None:
            words = (*fields.texts("Entrypoint"), *command)
        else:
            words = (*((entrypoint,) if entrypoint else ()), *arguments)
        if not words:
            raise FormatError(
                "config: the image names no program to run",
                what=_WHAT,
                hint="Give a program after --, such as tocsin run IMAGE -- sh.",
            )
        variables = {"PATH": DEFAULT_PATH}
        for variable in fields.texts("Env"):
            name, _, value = variable.partition("=")
            variables[name] = value
        variables.update(environment or {})
        for text in (*words, *variables, *variables.values()):
            if "\0" in text:
                raise FormatError("config: found a NUL byte in an argument", what=_WHAT)
        chosen = fields.text("User") if user is None else user
        where = fields.text("WorkingDir") if directory is None else directory
        return cls(words, variables, chosen, f"/{where.lstrip('/')}")
