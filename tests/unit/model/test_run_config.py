"""What is run in a container, decided as by ``docker run``."""

import pytest

from tocsin.errors import FormatError
from tocsin.model.run_config import DEFAULT_PATH, RunConfig

CONFIG = {
    "config": {
        "Entrypoint": ["/entry", "-v"],
        "Cmd": ["serve"],
        "Env": ["A=1", "B=x=y", "EMPTY="],
        "User": "app:extra",
        "WorkingDir": "/srv",
    }
}


@pytest.mark.parametrize(
    ("arguments", "entrypoint", "expected"),
    [
        ((), None, ("/entry", "-v", "serve")),
        (("a", "b"), None, ("/entry", "-v", "a", "b")),
        ((), "sh", ("sh",)),
        (("-c", "x"), "sh", ("sh", "-c", "x")),
        (("id",), "", ("id",)),
    ],
)
def test_config_when_arguments_are_given_then_they_replace(arguments, entrypoint, expected):
    assert RunConfig.of(CONFIG, arguments, entrypoint=entrypoint).arguments == expected


def test_config_when_read_then_environment_user_and_directory():
    found = RunConfig.of(CONFIG)
    assert found.environment == {"PATH": DEFAULT_PATH, "A": "1", "B": "x=y", "EMPTY": ""}
    assert (found.user, found.directory) == ("app:extra", "/srv")


def test_config_when_options_are_given_then_they_replace():
    found = RunConfig.of(CONFIG, environment={"A": "2"}, user="7", directory="tmp")
    assert found.environment["A"] == "2"
    assert (found.user, found.directory) == ("7", "/tmp")  # noqa: S108


def test_config_when_empty_then_defaults():
    found = RunConfig.of({}, ["true"])
    assert found == RunConfig(("true",), {"PATH": DEFAULT_PATH}, "", "/")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"config": None},
        {"config": {"Cmd": []}},
        {"config": {"Cmd": "sh"}},
        {"config": {"Cmd": [1]}},
        {"config": {"Cmd": ["a\0b"]}},
        {"config": {"Cmd": ["a"], "Env": ["A=\0"]}},
        {"config": {"Cmd": ["a"], "User": 7}},
        {"config": []},
    ],
)
def test_config_when_it_names_no_program_or_is_invalid_then_error(config):
    with pytest.raises(FormatError, match="config"):
        RunConfig.of(config)
