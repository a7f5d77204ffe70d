"""The generated messages are those of messages.proto."""

import re
from pathlib import Path

from tocsin.containerd_api import messages_pb2

PROTO = Path(messages_pb2.__file__).with_name("messages.proto")
_FIELD = re.compile(r"^\s+(?:repeated )?([\w.]+|map<[^>]+>) (\w+) = (\d+);$")
_BLOCK = re.compile(r"^(message|enum) (\w+) \{$")


def test_messages_when_generated_then_fields_are_those_of_the_source():
    written, block = {}, ""
    for line in PROTO.read_text().splitlines():
        if found := _BLOCK.match(line):
            block = found[2] if found[1] == "message" else ""
            if block:
                written[block] = {}
        elif block and (found := _FIELD.match(line)):
            written[block][found[2]] = int(found[3])
    generated = {
        name: {field.name: field.number for field in message.fields}
        for name, message in messages_pb2.DESCRIPTOR.message_types_by_name.items()
    }
    assert written == generated
    assert sum(map(len, written.values())) > 100


def test_messages_when_loaded_then_their_names_are_not_those_of_containerd():
    # Another package of the same process may define the names of containerd.
    assert messages_pb2.DESCRIPTOR.package == "tocsin.containerd"
