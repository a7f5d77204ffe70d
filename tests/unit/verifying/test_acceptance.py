import gzip
import tarfile

from support import tarmaker
from tocsin.layers.indexer import build_ztoc
from tocsin.model.finding import Severity
from tocsin.verifying.acceptance import refusals


def dangling(*names):
    entries = (tarmaker.entry(name, type=tarfile.LNKTYPE, linkname="gone") for name in names)
    return build_ztoc(gzip.compress(tarmaker.tar(*entries)), reference_identical=True)


def test_refusals_when_entry_is_rejected_then_name_is_quoted():
    ztoc = dangling("a; run x\n\x1b[2J")
    (found,) = refusals(ztoc)
    assert (found.kind, found.severity) == ("ztoc.refused", Severity.ERROR)
    assert found.message == (
        f"ztoc {ztoc.digest}: soci-snapshotter rejects it: "
        r'"a; run x\n\x1b[2J": toc entry 0 is a hard link whose target is not an earlier entry'
    )


def test_refusals_when_there_are_many_then_the_rest_is_counted():
    found = refusals(dangling("a", "b", "c", "d", "e"))
    assert [finding.message.rpartition("it: ")[2] for finding in found] == [
        "a: toc entry 0 is a hard link whose target is not an earlier entry",
        "b: toc entry 1 is a hard link whose target is not an earlier entry",
        "c: toc entry 2 is a hard link whose target is not an earlier entry; 2 more reasons",
    ]
