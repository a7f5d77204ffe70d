"""The checks of containerd by ``tocsin doctor``, on machines that are directories with files."""

import socket
from dataclasses import replace

import pytest

from tocsin.mounting.doctor import diagnose
from tocsin.mounting.doctor_containerd import containerd_checks
from tocsin.mounting.machine import Machine, _answers
from tocsin.mounting.snapshotter.configs import config_text

CONFIG = "etc/containerd/config.toml"
VERSIONS = [(1, 6), (1, 7), (2, 0), (2, 2)]
NEW = 'plugins."io.containerd.cri.v1.images"'
OLD = 'plugins."io.containerd.grpc.v1.cri".containerd'
PLUGIN = '[proxy_plugins.soci]\ntype = "snapshot"\naddress = "/run/x.sock"\n'


class Node:
    """A machine with containerd, and a snapshotter that answers."""

    def __init__(self, directory):
        self.directory = directory
        self.put("usr/bin/containerd", mode=0o755)
        self.machine = Machine(
            root=directory,
            system="Linux",
            release="6.18.0-test",
            search_path="/usr/bin",
            cache_dir=directory / "cache",
            answers=lambda _: True,
            containerd_version=lambda _: (2, 2),
        )

    def put(self, name, text="", *, mode=0o644):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def change(self, **changes):
        self.machine = replace(self.machine, **changes)

    def checks(self, config=None, version=(2, 2)):
        if config is not None:
            self.put(CONFIG, config)
        self.change(containerd_version=lambda _: version)
        return {
            check.name.removeprefix("containerd-"): check
            for check in containerd_checks(self.machine)
        }


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def states(checks):
    return {name: str(check.state) for name, check in checks.items()}


def limited(checks):
    return [name for name, check in checks.items() if check.state != "ok"]


def test_checks_when_containerd_is_not_installed_then_none(node):
    (node.directory / "usr/bin/containerd").unlink()
    assert node.checks() == {}
    assert "limited" in states(node.checks("")).values()


def test_checks_when_nothing_is_configured_then_the_command_to_use(node):
    checks = node.checks()
    assert states(checks) == {"plugins": "limited", "labels": "limited"}
    assert checks["plugins"].fix == (
        "Add the lines of tocsin snapshotter --print-config containerd to "
        "/etc/containerd/config.toml"
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_checks_when_configured_as_printed_for_kubernetes_then_ok(node, version):
    checks = node.checks(config_text("k8s", version=version), version)
    assert limited(checks) == []
    transfer = ["transfer"] if version >= (2, 0) else []
    assert list(checks) == ["plugins", "sockets", *transfer, "cri", "labels"]
    assert checks["plugins"].to_dict() == {
        "name": "containerd-plugins",
        "state": "ok",
        "found": "snapshotters: tocsin",
        "fix": None,
    }


@pytest.mark.parametrize("kind", ["containerd", "nerdctl"])
@pytest.mark.parametrize("version", VERSIONS)
def test_checks_when_configured_as_printed_for_ctr_then_cri_is_limited(node, version, kind):
    assert limited(node.checks(config_text(kind, version=version), version)) == ["cri", "labels"]
    assert list(diagnose(node.machine).checks)[-1].name == "containerd-labels"


@pytest.mark.parametrize(
    ("line", "check", "fix"),
    [
        (
            "    enable_remote_snapshot_annotations",
            "transfer",
            'Set enable_remote_snapshot_annotations = "true" in [proxy_plugins.tocsin.exports] of ',
        ),
        ("  snapshotter", "cri", f'Set snapshotter = "tocsin" in [{NEW}] of '),
        (
            "  disable_snapshot_annotations",
            "labels",
            f"Set disable_snapshot_annotations = false in [{NEW}] of ",
        ),
    ],
)
def test_checks_when_a_line_is_missing_then_that_line_is_the_fix(node, line, check, fix):
    lines = config_text("k8s", version=(2, 2)).splitlines()
    kept = [each for each in lines if not each.startswith(line)]
    assert len(kept) == len(lines) - 1
    checks = node.checks("\n".join(kept))
    assert checks[check].state == "limited"
    assert checks[check].fix == f"{fix}/etc/containerd/config.toml"
    # Without annotations, the CRI plug-in pulls with the transfer service, which unpacks too.
    assert set(limited(checks)) <= {check, "transfer"}


def test_transfer_when_it_does_not_unpack_then_the_entry_is_the_fix(node):
    config = config_text("containerd", version=(2, 2)).replace('  snapshotter = "tocsin"', "")
    check = node.checks(config)["transfer"]
    assert (check.state, check.found) == (
        "limited",
        "ctr cannot pull images for tocsin (no unpack platforms defined)",
    )
    assert check.fix == (
        'Add [[plugins."io.containerd.transfer.v1.local".unpack_config]] with platform = "linux" '
        'and snapshotter = "tocsin" to /etc/containerd/config.toml'
    )


@pytest.mark.parametrize("version", [(1, 6), (1, 7)])
def test_transfer_when_containerd_is_older_then_not_checked(node, version):
    checks = node.checks("version = 2\n" + PLUGIN, version)
    assert "transfer" not in checks
    assert f"[{OLD}]" in checks["cri"].fix
    assert f"[{OLD}]" in checks["labels"].fix


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("/run/tocsin-snapshotter/tocsin.sock", "sudo systemctl start tocsin-snapshotter"),
        (
            "/run/x.sock",
            "Start the snapshotter, or correct the address in [proxy_plugins.soci] of "
            "/etc/containerd/config.toml",
        ),
    ],
)
def test_sockets_when_nothing_answers_then_limited(node, address, fix):
    node.change(answers=lambda _: False)
    check = node.checks(PLUGIN.replace("/run/x.sock", address))["sockets"]
    assert (check.state, check.fix) == ("limited", fix)
    assert check.found == (f"soci: no program answers at {address}, so its images cannot be used")


def test_sockets_when_this_user_may_not_ask_then_unknown(node):
    node.change(answers=lambda _: None)
    check = node.checks(PLUGIN)["sockets"]
    assert (check.state, check.found) == ("unknown", "/run/x.sock: permission denied")


def test_machine_when_a_socket_is_asked_then_whether_a_program_answers(tmp_path):
    path = str(tmp_path / "s")
    assert _answers(path) is False
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert _answers(path) is False
        server.listen()
        assert _answers(path) is True
        assert _answers(f"unix://{path}") is True
    assert _answers("/" + "x" * 200) is False


def test_cri_when_disabled_then_its_settings_do_not_matter(node):
    checks = node.checks('disabled_plugins = ["cri"]\n' + PLUGIN)
    assert (checks["cri"].state, checks["labels"].state) == ("ok", "ok")


@pytest.mark.parametrize(
    ("config", "version", "section"),
    [
        ("", (1, 6), OLD),
        ("", (2, 2), NEW),
        ("", None, NEW),
        ("version = 3", (2, 2), NEW),
        ("version = 2", (2, 2), OLD),
    ],
)
def test_labels_when_missing_then_the_section_is_that_of_the_version(
    node, config, version, section
):
    assert f"[{section}]" in node.checks(config, version)["labels"].fix


# -- imported files


IMPORTS = 'version = {}\nimports = ["/etc/containerd/conf.d/*.toml"]\n'


@pytest.mark.parametrize("pattern", ["/etc/containerd/conf.d/*.toml", "conf.d/*.toml"])
def test_imports_when_a_file_has_the_lines_then_ok(node, pattern):
    node.put("etc/containerd/conf.d/tocsin.toml", config_text("k8s", version=(2, 2)))
    assert limited(node.checks(f'version = 3\nimports = ["{pattern}"]\n')) == []


@pytest.mark.parametrize(
    ("version", "section", "is_kept"), [((1, 6), OLD, False), ((2, 2), NEW, True)]
)
def test_imports_when_two_files_have_a_section_then_as_containerd_merges(
    node, version, section, is_kept
):
    """containerd 1 replaces the section of a plug-in; containerd 2 adds to it."""
    section = f"[{section}]\n"
    node.put("etc/containerd/conf.d/a.toml", f"{section}disable_snapshot_annotations = false\n")
    node.put("etc/containerd/conf.d/b.toml", f'{section}snapshotter = "soci"\n{PLUGIN}')
    checks = node.checks(IMPORTS.format(2 + (section == f"[{NEW}]\n")), version)
    assert checks["cri"].state == "ok"
    assert (checks["labels"].state == "ok") == is_kept


def test_imports_when_circular_then_each_file_is_read_once(node):
    node.put("etc/containerd/conf.d/a.toml", f'imports = ["../config.toml", "a.toml"]\n{PLUGIN}')
    assert node.checks(IMPORTS.format(3))["plugins"].state == "ok"


def test_imports_when_a_file_is_broken_then_it_is_named(node):
    node.put("etc/containerd/conf.d/a.toml", "x")
    check = node.checks(IMPORTS.format(3))["plugins"]
    assert (check.state, check.found) == (
        "unknown",
        "/etc/containerd/conf.d/a.toml is not valid TOML",
    )


# -- damaged configurations


@pytest.mark.parametrize(
    "config",
    [
        "plugins = 1",
        "proxy_plugins = []",
        "[proxy_plugins]\nx = 1",
        "disabled_plugins = 7",
        "imports = 7",
        'imports = [7, "\\u0000", "/nothing/*"]',
        '[proxy_plugins."a\\u001b[31m"]\ntype = "snapshot"\nexports = 1',
        '[proxy_plugins.a]\ntype = "snapshot"\naddress = 7\n'
        '[plugins."io.containerd.transfer.v1.local"]\nunpack_config = [1, {snapshotter = []}]',
    ],
)
def test_checks_when_values_have_other_types_then_limited(node, config):
    checks = node.checks(config)
    assert "limited" in states(checks).values()
    for check in checks.values():
        assert check.found.isprintable()
        assert check.fix is None or check.fix.isprintable()


@pytest.mark.parametrize("config", ["x", "a = " + "[" * 10_000])
def test_checks_when_config_is_not_toml_then_unknown(node, config):
    (check,) = node.checks(config).values()
    assert (check.state, check.found) == (
        "unknown",
        "/etc/containerd/config.toml is not valid TOML",
    )


def test_checks_when_config_cannot_be_read_then_unknown(node):
    (node.directory / CONFIG).mkdir(parents=True)
    (check,) = node.checks().values()
    assert (check.state, check.found) == (
        "unknown",
        "/etc/containerd/config.toml cannot be read",
    )
