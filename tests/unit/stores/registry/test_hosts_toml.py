"""``hosts.toml``: the expected values are those of containerd 2.0's `ConfigureHosts`."""

import pytest

from support.registry_certificates import Authority
from tocsin.errors import FormatError, RegistryError
from tocsin.stores.registry.certificates import Certificates
from tocsin.stores.registry.hosts_toml import ALL, Host, read_hosts

NAME = "r.example"
ITSELF = ("", "/v2", ALL)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def put(root, text, directory=NAME):
    (root / directory).mkdir(parents=True, exist_ok=True)
    (root / directory / "hosts.toml").write_text(text)
    return root / directory


def read(root, text, name=NAME):
    put(root, text)
    return read_hosts(root, name)


def summary(hosts):
    return [(host.server, host.root, host.capabilities) for host in hosts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('server = "https://s.example"', [("https://s.example", "/v2", ALL)]),
        (
            'server = "s.example:5000"\n[host."m.example"]',
            [("https://m.example", "/v2", ALL), ("https://s.example:5000", "/v2", ALL)],
        ),
        (
            """
            [host."https://b.example"]
            capabilities = ["pull"]
            [host."http://a.example:5000"]
            capabilities = ["PULL", "resolve"]
            [host."https://a.example/us"]
            """,
            [
                ("https://b.example", "/v2", {"pull"}),
                ("http://a.example:5000", "/v2", {"pull", "resolve"}),
                ("https://a.example", "/us/v2", ALL),
                ITSELF,
            ],
        ),
        (
            """
            [host."https://a.example/v2"]
            [host."https://b.example/v2/"]
            [host."https://c.example/x/../y/"]
            [host."https://d.example/v2/up"]
            override_path = true
            [host."https://e.example/"]
            [host."https://f.example"]
            override_path = true
            """,
            [
                ("https://a.example", "/v2", ALL),
                ("https://b.example", "/v2", ALL),
                ("https://c.example", "/y/v2", ALL),
                ("https://d.example", "/v2/up", ALL),
                ("https://e.example", "/v2", ALL),
                ("https://f.example", "", ALL),
                ITSELF,
            ],
        ),
        (
            'capabilities = ["pull"]\n[host."https://a.example"]',
            [("https://a.example", "/v2", ALL), ITSELF],
        ),
        (
            'server = "https://s.example"\ncapabilities = ["pull"]',
            [("https://s.example", "/v2", {"pull"})],
        ),
        (
            '[host."https://a.example"]\ncapabilities = []',
            [("https://a.example", "/v2", ALL), ITSELF],
        ),
        (
            '[host."https://[fd00::1]:5000"]',
            [("https://[fd00::1]:5000", "/v2", ALL), ITSELF],
        ),
        ("", [ITSELF]),
    ],
)
def test_hosts_when_read_then_as_containerd_reads_them(tmp_path, text, expected):
    assert summary(read(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("name", "directories"),
    [
        ("r.example:5000", ["r.example_5000_", "r.example:5000", "_default"]),
        ("[::1]:5000", ["[::1]_5000_", "[::1]:5000", "_default"]),
        ("docker.io", ["docker.io", "_default"]),
    ],
)
def test_directory_when_there_are_several_then_the_first_decides(tmp_path, name, directories):
    for number, directory in enumerate(reversed(directories)):
        put(tmp_path, f'server = "https://s{number}.example"', directory)
        assert read_hosts(tmp_path, name)[0].server == f"https://s{number}.example"


def test_directory_when_the_registry_has_none_then_only_it_is_used(tmp_path):
    put(tmp_path, 'server = "https://s.example"', "other.example")
    assert read_hosts(tmp_path, NAME) == (Host(),)


def test_directory_when_it_is_missing_then_an_error(tmp_path):
    with pytest.raises(NotADirectoryError, match="missing: not a directory"):
        read_hosts(tmp_path / "missing", NAME)


def test_certificates_when_named_then_relative_to_the_file_or_absolute(tmp_path, authority):
    first, second = authority.issue("first"), authority.issue("second")
    directory = put(
        tmp_path,
        f"""
        [host."https://a.example"]
        ca = "ca.crt"
        client = [["first.crt", "{first[1]}"], ["second.crt", "{second[1]}"]]
        skip_verify = false
        [host."https://b.example"]
        ca = ["{authority.cert}", "ca.crt"]
        client = "both.pem"
        [host."https://c.example"]
        client = ["both.pem"]
        skip_verify = true
        [host."https://d.example"]
        client = [["both.pem", ""]]
        """,
    )
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    (directory / "first.crt").write_bytes(first[0].read_bytes())
    (directory / "second.crt").write_bytes(second[0].read_bytes())
    both = directory / "both.pem"
    both.write_bytes(first[0].read_bytes() + first[1].read_bytes())
    a, b, c, d, itself = read_hosts(tmp_path, NAME)
    pair = (directory / "first.crt", first[1])
    assert a.certificates == Certificates((directory / "ca.crt",), pair)
    assert b.certificates == Certificates((authority.cert, directory / "ca.crt"), (both, both))
    assert c.certificates == d.certificates == Certificates((), (both, both))
    assert [host.skip_verify for host in (a, b, c, d, itself)] == [False, None, True, None, None]


@pytest.mark.parametrize("file", [None, ""])
def test_certificates_when_there_is_no_file_then_read_from_the_directory(tmp_path, authority, file):
    certificate, key = authority.issue("client")
    directory = tmp_path / NAME
    directory.mkdir()
    if file is not None:
        (directory / "hosts.toml").write_text(file)
    (directory / "ca.crt").write_bytes(authority.cert.read_bytes())
    both = directory / "client.cert"  # like containerd: without a .key, the file contains the key
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    (host,) = read_hosts(tmp_path, NAME)
    assert host.certificates == Certificates((directory / "ca.crt",), (both, both))


def test_headers_when_given_then_strings_or_lists(tmp_path):
    text = """
        server = "https://s.example"
        [header]
        x-c = "secret"
        [host."https://a.example"]
        [host."https://a.example".header]
        x-a = "1"
        x-b = ["1", "2"]
        [host."https://b.example"]
    """
    a, b, server = read(tmp_path, text)
    assert a.headers == {"x-a": "1", "x-b": "1, 2"}
    assert b.headers == {}
    assert server.headers == {"x-c": "secret"}
    assert "secret" not in repr(server)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x ==", "invalid TOML"),
        ("x = " + "[" * 100_000, "invalid TOML"),
        ("server = 1", "server: expected a string"),
        ('server = "ftp://s.example"', "server: URL"),
        ('server = "https://"', "server: URL has no host"),
        ('[host."https://alice:secret@a.example"]', "URL contains a user name"),
        ("host = 1", "host: expected at most 100 tables"),
        ("".join(f'[host."h{n}.example"]\n' for n in range(101)), "host: expected at most 100"),
        ('[host]\n"https://a.example" = 1', "expected a table"),
        ('[host."https://a.example"]\ncapabilities = ["fly"]', "capabilities: expected some of"),
        ('[host."https://a.example"]\ncapabilities = [1]', "capabilities: expected some of"),
        ('[host."https://a.example"]\ncapabilities = "pull"', "capabilities: expected a list"),
        ('[host."https://a.example"]\nskip_verify = "yes"', "skip_verify: expected true or false"),
        ('[host."https://a.example"]\noverride_path = 1', "override_path: expected true or"),
        ('[host."https://a.example"]\nca = 1', "ca: expected paths"),
        ('[host."https://a.example"]\nca = "hosts.toml"', "contains no PEM certificate"),
        ('[host."https://a.example"]\nclient = [["a"]]', "client: expected pairs"),
        ('[host."https://a.example"]\nclient = {a = "b"}', "client: expected paths"),
        ('[host."https://a.example"]\nheader = 1', "header: expected a table"),
        ('[host."https://a.example".header]\nx = 1', "header x: expected a string or a list"),
        ('[host."https://a.example".header]\nx = "a\\r\\nb: c"', "header x: expected a string"),
        ('[host."https://a.example".header]\n"x y" = "a"', 'header "x y": expected'),
    ],
)
def test_file_when_it_is_invalid_then_the_error_names_the_setting(tmp_path, text, problem):
    with pytest.raises(FormatError) as caught:
        read(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path}/{NAME}/hosts.toml: ")
    assert problem in caught.value.message
    assert caught.value.what == "hosts.toml"
    assert "secret" not in caught.value.message


def test_file_when_it_is_too_long_then_refused(tmp_path):
    with pytest.raises(FormatError, match="too large"):
        read(tmp_path, "#" * (1 << 20) + "#")


def test_file_when_not_utf8_then_refused(tmp_path):
    directory = put(tmp_path, "")
    (directory / "hosts.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="invalid TOML"):
        read_hosts(tmp_path, NAME)


def test_certificate_when_missing_then_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path, '[host."https://a.example"]\nca = "missing.crt"')
    with pytest.raises(FileNotFoundError):
        read(tmp_path, '[host."https://a.example"]\nclient = "missing.pem"')


def test_client_certificate_when_invalid_then_the_error_names_it(tmp_path):
    with pytest.raises(RegistryError, match=r"hosts\.toml: not a PEM certificate with its key"):
        read(tmp_path, '[host."https://a.example"]\nclient = "hosts.toml"')
