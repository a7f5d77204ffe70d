"""Each check of ``tocsin doctor``, on machines that are directories with a few files."""

import gzip
from dataclasses import replace

import pytest

from support import json_page
from tocsin.mounting import doctor
from tocsin.mounting.doctor import Diagnosis, diagnose
from tocsin.mounting.doctor_check import Check, State
from tocsin.mounting.machine import Machine

ROOT = "CapEff:\t000001ffffffffff\nNoNewPrivs:\t0\n"
USER = "CapEff:\t0000000000000000\nNoNewPrivs:\t0\n"
FUSERMOUNT = "usr/bin/fusermount3"


class Fake:
    """A machine on which everything works for an ordinary user."""

    def __init__(self, directory):
        self.directory = directory
        self.put(FUSERMOUNT, mode=0o4755)
        self.put("dev/fuse")
        self.put("proc/self/status", USER)
        self.put("proc/self/ns/user")
        self.put("proc/sys/user/max_user_namespaces", "96365\n")
        self.put("proc/filesystems", "nodev\toverlay\n\terofs\n")
        self.put("proc/config.gz", "CONFIG_EROFS_FS_BACKED_BY_FILE=y\n")
        self.put("etc/fuse.conf", "# comment\nuser_allow_other\n")
        self.put("etc/os-release", 'ID=linuxmint\nID_LIKE="ubuntu debian"\n')
        (directory / "cache").mkdir()
        self.machine = Machine(
            root=directory,
            system="Linux",
            release="6.18.0-test",
            search_path="relative:/usr/sbin:/usr/bin",
            cache_dir=directory / "cache" / "tocsin",
            may_use=lambda _: True,
            free_space=lambda _: 10 << 30,
        )

    def put(self, name, text="", *, mode=0o644):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        path.chmod(mode)

    def remove(self, name):
        (self.directory / name).unlink()

    def change(self, **changes):
        self.machine = replace(self.machine, **changes)

    def check(self, name):
        (found,) = (check for check in diagnose(self.machine).checks if check.name == name)
        return found.state, found.found, found.fix


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def states(machine):
    return {check.name: check.state for check in diagnose(machine).checks}


def test_diagnosis_when_user_may_do_all_then_only_erofs_is_limited(fake):
    found = states(fake.machine)
    assert found.pop("erofs") == "limited"
    assert set(found.values()) == {"ok"}
    assert diagnose(fake.machine).ok


def test_diagnosis_when_root_then_all_is_ok(fake):
    fake.put("proc/self/status", ROOT)
    for missing in ("etc/fuse.conf", FUSERMOUNT, "proc/self/ns/user"):
        fake.remove(missing)
    assert set(states(fake.machine).values()) == {"ok"}


def test_diagnosis_when_not_linux_then_failed(fake):
    fake.change(system="Darwin")
    diagnosis = diagnose(fake.machine)
    assert not diagnosis.ok
    assert [check.found for check in diagnosis.checks] == [
        "Darwin, but images are mounted only on Linux"
    ]


def test_diagnosis_when_printed_then_as_documented(fake):
    document = diagnose(fake.machine).to_dict()
    assert json_page.problems("tocsin doctor", document) == []
    assert document["checks"][0] == {
        "name": "system",
        "state": "ok",
        "found": "Linux 6.18.0-test",
        "fix": None,
    }


def test_diagnosis_when_this_machine_then_no_check_fails_to_run(tmp_path):
    diagnosis = diagnose(Machine.this(tmp_path))
    names = [check.name for check in diagnosis.checks]
    assert names[:8] == [
        *("system", "fuse", "rights", "allow-other", "erofs"),
        *("user-namespaces", "overlay", "cache"),
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("state", [State.OK, State.LIMITED, State.UNKNOWN, State.FAILED])
def test_diagnosis_when_one_check_failed_then_not_ok(state):
    assert Diagnosis((Check("a", State.OK, ""), Check("b", state, ""))).ok == (state != "failed")


def test_fuse_when_device_is_missing_then_failed(fake):
    fake.remove("dev/fuse")
    assert fake.check("fuse") == ("failed", "/dev/fuse is missing", "sudo modprobe fuse")
    fake.put(".dockerenv")
    assert fake.check("fuse")[2] == doctor._CONTAINER_OPTIONS


def test_fuse_when_device_cannot_be_used_then_failed(fake):
    fake.change(may_use=lambda path: path.name != "fuse")
    state, found, fix = fake.check("fuse")
    assert (state, found) == ("failed", "/dev/fuse: permission denied")
    assert fix == "sudo chmod 666 /dev/fuse"


@pytest.mark.parametrize(
    ("release", "fix"),
    [
        ("ID=debian\n", "sudo apt install fuse3"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "sudo dnf install fuse3"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', "sudo zypper install fuse3"),
        ("ID=alpine\n", "sudo apk add fuse3"),
        ("ID=arch\n", "sudo pacman -S fuse3"),
        ("ID=other\n", "Install the package fuse3"),
        ("", "Install the package fuse3"),
    ],
)
def test_rights_when_fusermount3_is_missing_then_install_command(fake, release, fix):
    fake.remove(FUSERMOUNT)
    fake.put("etc/os-release", release)
    assert fake.check("rights") == (
        "failed",
        "this process may not mount, and fusermount3 is missing",
        fix,
    )


def test_rights_when_only_the_older_fusermount_exists_then_ok(fake):
    fake.remove(FUSERMOUNT)
    fake.put("usr/sbin/fusermount", mode=0o4755)
    assert fake.check("rights") == ("ok", "/usr/sbin/fusermount", None)


def test_rights_when_in_a_container_then_its_options_are_named(fake):
    fake.remove(FUSERMOUNT)
    fake.put("run/.containerenv")
    assert fake.check("rights")[2] == doctor._CONTAINER_OPTIONS


def test_rights_when_fusermount3_is_not_setuid_then_failed(fake):
    fake.put(FUSERMOUNT, mode=0o755)
    assert fake.check("rights") == (
        "failed",
        "this process may not mount, and /usr/bin/fusermount3 does not run as root",
        "sudo chmod u+s /usr/bin/fusermount3",
    )


def test_rights_when_no_new_privileges_then_failed(fake):
    fake.put("proc/self/status", USER.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1"))
    assert fake.check("rights")[0] == "failed"
    fake.put("proc/self/status", ROOT.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1"))
    assert fake.check("rights")[0] == "ok"


@pytest.mark.parametrize("text", [None, "", "#user_allow_other\n", "user_allow_others\n"])
def test_allow_other_when_not_configured_then_limited(fake, text):
    fake.remove("etc/fuse.conf")
    if text is not None:
        fake.put("etc/fuse.conf", text)
    state, found, fix = fake.check("allow-other")
    assert state == "limited"
    assert found == "user_allow_other is missing in /etc/fuse.conf, so --allow-other does not work"
    assert fix == "echo user_allow_other | sudo tee -a /etc/fuse.conf"
    fake.put("proc/self/status", ROOT)
    assert fake.check("allow-other")[0] == "ok"


@pytest.fixture
def rooted(fake):
    fake.put("proc/self/status", ROOT)
    return fake


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.11.9", "limited"),
        ("6.12.0", "ok"),
        ("7.0.0-rc1", "ok"),
        ("5.15.0-91-generic", "limited"),
        ("x", "limited"),
    ],
)
def test_erofs_when_kernel_is_too_old_then_limited(rooted, release, state):
    rooted.change(release=release)
    assert rooted.check("erofs")[0] == state


def test_erofs_when_kernel_has_none_then_limited(rooted):
    rooted.put("proc/filesystems", "nodev\toverlay\n")
    assert rooted.check("erofs") == (
        "limited",
        "the kernel has no EROFS, so FUSE is used",
        "sudo modprobe erofs",
    )


@pytest.mark.parametrize("kind", ["dep", "builtin"])
def test_erofs_when_it_is_a_module_then_ok(rooted, kind):
    rooted.put("proc/filesystems", "")
    rooted.put(f"lib/modules/6.18.0-test/modules.{kind}", "kernel/fs/erofs/erofs.ko.xz:\n")
    assert rooted.check("erofs")[0] == "ok"


@pytest.mark.parametrize(
    ("config", "state"),
    [
        ("# CONFIG_EROFS_FS_BACKED_BY_FILE is not set\n", "limited"),
        ("CONFIG_EROFS_FS_BACKED_BY_FILE=n\n", "limited"),
        ("CONFIG_EROFS_FS_BACKED_BY_FILE=y\n", "ok"),
        (None, "unknown"),
    ],
)
def test_erofs_when_kernel_is_configured_then_its_option_decides(rooted, config, state):
    rooted.remove("proc/config.gz")
    if config is not None:
        rooted.put("boot/config-6.18.0-test", config)
    assert rooted.check("erofs")[0] == state
    assert diagnose(rooted.machine).ok


def test_machine_when_the_kernel_config_is_broken_then_unknown(rooted):
    (rooted.directory / "proc/config.gz").write_bytes(b"no gzip")
    assert rooted.check("erofs")[0] == "unknown"


@pytest.mark.parametrize(
    ("file", "value", "fix"),
    [
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=15000"),
    ],
)
def test_user_namespaces_when_forbidden_then_the_setting_is_named(fake, file, value, fix):
    fake.put(f"proc/sys/{file}", f"{value}\n")
    state, found, command = fake.check("user-namespaces")
    name = file.replace("/", ".")
    assert (state, command) == ("limited", fix)
    assert found == f"{name} is {value}, so tocsin run works only as root"
    fake.put("proc/self/status", ROOT)
    assert fake.check("user-namespaces")[0] == "ok"


def test_user_namespaces_when_allowed_by_each_setting_then_ok(fake):
    fake.put("proc/sys/kernel/unprivileged_userns_clone", "1\n")
    fake.put("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0\n")
    assert fake.check("user-namespaces") == ("ok", "allowed", None)


@pytest.mark.parametrize("name", ["proc/self/ns/user", "proc/sys/user/max_user_namespaces"])
def test_user_namespaces_when_the_kernel_has_none_then_limited(fake, name):
    fake.remove(name)
    assert fake.check("user-namespaces")[0] == "limited"


def test_overlay_when_missing_or_too_old_then_limited(fake):
    fake.change(release="5.10.0")
    assert fake.check("overlay")[0] == "limited"
    fake.put("proc/self/status", ROOT)
    assert fake.check("overlay")[0] == "ok"
    fake.put("proc/filesystems", "")
    assert fake.check("overlay")[0::2] == ("limited", "sudo modprobe overlay")


def test_cache_when_directory_is_usable_then_free_space_is_printed(fake):
    directory = fake.machine.cache_dir
    assert fake.check("cache") == ("ok", f"{directory}, 10.0 GiB free", None)
    fake.change(free_space=lambda path: (1 << 29) if path == directory.parent else 0)
    assert fake.check("cache") == (
        "limited",
        f"{directory}, 0.5 GiB free, which is little for images",
        "tocsin cache prune --all",
    )


def test_cache_when_directory_cannot_be_written_then_limited(fake):
    directory = fake.machine.cache_dir
    fake.change(may_use=lambda path: path != directory.parent)
    assert fake.check("cache")[:2] == (
        "limited",
        f"{directory} cannot be written to, so layers are kept in memory",
    )
    fake.change(may_use=lambda _: True, cache_dir=fake.directory / "etc" / "fuse.conf" / "x")
    assert fake.check("cache")[0] == "limited"
