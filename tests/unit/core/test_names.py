"""Names of all entries at once; `clean_path` and each entry are the judges."""

import os
import tarfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from support import tarmaker
from tocsin import build_ztoc
from tocsin.model.entry_path import clean_path

PARTS = st.one_of(
    st.sampled_from(["", ".", "..", "...", "a", ".a", "a.", "..a"]),
    st.binary(max_size=5).map(lambda raw: raw.replace(b"\0", b"0")).map(os.fsdecode),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
)
NAMES = st.lists(PARTS, max_size=7).map("/".join)


def core_of(*entries):
    return build_ztoc(tarmaker.tar(*entries))._core


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, max_size=8))
@example(["", "/", ".", "..", "../..", "//a//b//", "./a/./b/.", "a/../../b", "a/..", "\udcff/.."])
@example(["\udced\udca0\udc80", "é/\udcc3/é", "a/\udc80..", "..\udcff/x"])
def test_clean_paths_when_names_are_odd_then_as_clean_path_does(names):
    entries = (tarmaker.entry(name, format=tarfile.GNU_FORMAT) for name in names)
    # Not the first: a name may begin as gzip does.
    core = core_of(tarmaker.entry("first"), *entries)
    stored = [os.fsdecode(name) for name in core.names()]
    assert len(stored) == 1 + len(names)
    assert core.clean_paths() == [clean_path(name) for name in stored]
