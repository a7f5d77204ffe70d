"""`tocsin.verify` accepts correct seek tables, and names the part that is wrong in others."""

from __future__ import annotations

import gzip
import json
import random
import tarfile
from dataclasses import replace

import pytest
import zstandard

from support import goldens, seek, tarmaker
from support.images import image_of, make_image, put_index
from support.seek import SPAN_SIZE, Table, add_referrer, index_layer, make_table
from support.seekblob import HUFFMAN, SeekBlobFile
from support.tampered import with_number, with_text
from support.ztocfile import parse
from tocsin import IndexingOptions, NotFoundError, Severity, _core, convert, create, verify
from tocsin.model.digest import Digest
from tocsin.model.manifest import Manifest
from tocsin.model.media_types import OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST
from tocsin.model.seek_manifest import SEEK_TABLE_DIGEST
from tocsin.stores.layout import OciLayout

CHANCE = random.Random(3)  # noqa: S311 (content of files)
VOCABULARY = [CHANCE.randbytes(CHANCE.randrange(3, 9)) for _ in range(400)]
WORDS = b" ".join(CHANCE.choice(VOCABULARY) for _ in range(90_000))
"""Compresses to blocks of matches, so that checkpoints are inside blocks and have windows."""
OPTIONS = IndexingOptions(min_layer_size=0, seek=True, seek_span_size=SPAN_SIZE)
HOW = pytest.mark.parametrize("how", [{}, {"seed": 7}], ids=["full", "quick"])


@pytest.fixture(scope="module")
def image():
    return make_image(
        {"etc/motd": b"hello", "usr/words": WORDS, "usr/zero": b""}, {"etc/hosts": b"::1"}
    )


@pytest.fixture(scope="module")
def indexed(image):
    """The zTOC and the seek blob of each layer."""
    return [index_layer(layer) for layer in image.layers]


@pytest.fixture(scope="module")
def table(image):
    return make_table(*image.layers)


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "layout", write=True)


def reference(layout, tag="app"):
    return f"oci:{layout.path}:{tag}"


def table_of(image, parts):
    """Return a seek table of other zTOCs and seek blobs, given as bytes."""
    layers = [
        (_core.Ztoc.from_bytes(ztoc), _core.SeekLayer.parse(blob), str(layer.digest))
        for layer, (ztoc, blob) in zip(image.layer_descriptors, parts, strict=True)
    ]
    root, file_list = _core.build_seek_table(layers)
    return Table(root, file_list, [blob for _, blob in parts])


def blobs_of(indexed):
    return [(ztoc.to_bytes(), blob.blob) for ztoc, blob in indexed]


def with_points(image, indexed, change):
    """Return a seek table after `change` was called with the points of the first layer."""
    parts = blobs_of(indexed)
    found = SeekBlobFile.parse(parts[0][1])
    change(found.points)
    parts[0] = (parts[0][0], found.write())
    return table_of(image, parts)


def with_ztoc(image, indexed, change):
    """Return a seek table whose file list is made from a changed zTOC of the first layer."""
    parts = blobs_of(indexed)
    parts[0] = (change(parts[0][0]), parts[0][1])
    return table_of(image, parts)


def verified(layout, image, table, **how):
    subject = image.put(layout, tag="app")
    table.put(layout, subject.plain())
    return verify(reference(layout), **how)


def errors(result):
    return [found for found in result.all_findings if found.severity is Severity.ERROR]


def only_error(result, kind):
    """Return the message of the only error, which must be of `kind`."""
    (error,) = dict.fromkeys(errors(result))
    assert error.kind == kind, error
    assert not result.ok
    return error.message


def first_point(points, *, kind=HUFFMAN):
    return next(number for number, point in enumerate(points) if point.kind == kind)


# Correct seek tables


@HOW
def test_referrer_when_correct_then_no_findings(layout, image, table, how):
    result = verified(layout, image, table, **how)
    assert (result.ok, result.all_findings) == (True, ())
    (platform,) = result.platforms
    assert platform.soci_indexes == ()
    (found,) = platform.seek_tables
    assert (found.bound, found.span_size) == (False, SPAN_SIZE)
    names = {"", "etc", "etc/motd", "etc/hosts", "usr", "usr/words", "usr/zero"}
    assert found.entry_count == len(names)
    counts = [len(SeekBlobFile.parse(blob).points) for blob in table.layers]
    assert [layer.span_count for layer in found.layers] == counts
    assert [layer.checked_spans for layer in found.layers] == ([4, 1] if how else counts)
    assert [layer.layer for layer in found.layers] == list(image.layer_descriptors)


@HOW
@pytest.mark.parametrize("threads", [1, 3])
def test_bound_when_made_by_convert_then_no_findings(layout, image, how, threads):
    put_index(layout, {"linux/amd64": image}, tag="app")
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    result = verify(reference(layout, "soci"), threads=threads, **how)
    assert (result.ok, result.all_findings) == (True, ())
    ((found,),) = (platform.seek_tables for platform in result.platforms)
    assert found.bound
    assert all(platform.soci_indexes for platform in result.platforms)


@HOW
def test_seek_table_when_made_by_create_then_no_findings(layout, image, how):
    image.put(layout, tag="app")
    create(reference(layout), options=replace(OPTIONS, seek_only=True))
    result = verify(reference(layout), **how)
    assert (result.ok, result.all_findings) == (True, ())


@HOW
@pytest.mark.parametrize("kind", ["plain tar", "stored", "zstd", "members"])
def test_layer_when_of_any_kind_then_no_findings(layout, how, kind):
    tar = gzip.decompress(make_image({"usr/words": WORDS, "b": b"2"}).layers[0])
    layer = {
        "plain tar": (tar, OCI_LAYER),
        "stored": (gzip.compress(tar, 0), OCI_LAYER_GZIP),
        "zstd": (zstandard.compress(tar), f"{OCI_LAYER}+zstd"),
        "members": (
            b"".join(gzip.compress(tar[at : at + 100_000]) for at in range(0, len(tar), 100_000)),
            OCI_LAYER_GZIP,
        ),
    }[kind]
    image = image_of(layer)
    # Diff IDs of these images are not correct.
    result = verified(layout, image, make_table(layer[0]), **how)
    kinds = {found.kind for found in result.all_findings}
    assert kinds == (set() if how or kind == "plain tar" else {"layer.diff_id"})


@HOW
@pytest.mark.parametrize("name", sorted({case["layer"] for case in goldens.expected()["built"]}))
def test_golden_layer_when_in_seek_table_then_no_findings(layout, name, how):
    layer = goldens.layer(name)
    media_type = OCI_LAYER_GZIP if layer[:2] == seek.GZIP else OCI_LAYER
    image = image_of((layer, media_type))
    try:
        made = make_table(layer)
    except Exception as error:
        pytest.skip(str(error))
    result = verified(layout, image, made, **how)
    assert {found.kind for found in result.all_findings} <= {"layer.diff_id"}


@HOW
def test_file_when_it_has_odd_headers_then_no_findings(layout, how):
    layer = gzip.compress(
        tarmaker.tar(
            tarmaker.entry("x" * 300, b"long name"),
            tarmaker.entry("gnu" * 100, b"long name", format=tarfile.GNU_FORMAT),
            tarmaker.entry("./a//b", b"not clean", mode=0o4755, uid=7, gid=8, uname="me"),
            tarmaker.entry("hard", type=tarfile.LNKTYPE, linkname="x" * 300, mode=0o600, uid=9),
            tarmaker.entry("gone", type=tarfile.LNKTYPE, linkname="nothing"),
            tarmaker.entry("soft", type=tarfile.SYMTYPE, linkname="a/b"),
            tarmaker.entry("pipe", type=tarfile.FIFOTYPE),
            tarmaker.entry("xattr", b"1", pax={"SCHILY.xattr.user.x": "y", "mtime": "1.5"}),
        )
    )
    result = verified(layout, image_of((layer, OCI_LAYER_GZIP)), make_table(layer), **how)
    assert {found.kind for found in result.all_findings} <= {"layer.diff_id"}


@HOW
def test_platforms_when_they_share_a_layer_then_no_findings(layout, how):
    images = {
        name: make_image({name: WORDS}, {"same": b"2"}, platform=name)
        for name in ("linux/amd64", "linux/arm64")
    }
    put_index(layout, images, tag="app")
    convert(reference(layout), reference(layout, "soci"), options=OPTIONS)
    result = verify(reference(layout, "soci"), **how)
    assert (result.ok, result.all_findings) == (True, ())
    only = verify(reference(layout, "soci"), platforms="linux/arm64", **how)
    assert (len(only.platforms), only.all_findings) == (1, ())


# Seek blobs that lie


def window_byte(points):
    point = points[first_point(points)]
    start, run = point.runs[0]
    point.runs[0] = (start, bytes([run[0] ^ 1]) + run[1:])


def missing_run(points):
    del points[first_point(points)].runs[0]


def header(points):
    # One bit of a code length.
    point = points[first_point(points)]
    at = len(point.header) // 2
    changed = bytes([point.header[at] ^ 4])
    point.header = point.header[:at] + changed + point.header[at + 1 :]


def digest(points):
    points[2].digest = bytes(32)


def moved_bit(points):
    points[2].bit += 1


def moved_byte(points):
    points[2].uncompressed += 1


def swapped(points):
    one, other = points[1], points[2]
    one.runs, other.runs = other.runs, one.runs


LIES = {
    window_byte: ("seek_layer.window", "window of checkpoint 1"),
    missing_run: ("seek_layer.window", "window of checkpoint 1 is missing"),
    header: ("seek_layer.start", "checkpoint 1 is inside a block with a header of"),
    digest: ("seek_layer.span", "digest of span 2"),
    swapped: ("seek_layer.window", "window of checkpoint 1"),
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_seek_blob_when_it_lies_then_checkpoint_is_named(layout, image, indexed, lie):
    kind, part = LIES[lie]
    message = only_error(verified(layout, image, with_points(image, indexed, lie)), kind)
    assert part in message
    assert "(seek chunk 0)" in message


@pytest.mark.parametrize("lie", [moved_bit, moved_byte], ids=lambda lie: lie.__name__)
def test_seek_blob_when_checkpoint_is_moved_then_named(layout, image, indexed, lie):
    result = verified(layout, image, with_points(image, indexed, lie))
    found = {error.kind: error.message for error in errors(result)}
    assert "checkpoint 2 " in found["seek_layer.checkpoint"]
    assert set(found) <= {"seek_layer.checkpoint", "seek_layer.span"}


@pytest.mark.parametrize("lie", [*LIES, moved_bit, moved_byte], ids=lambda lie: lie.__name__)
def test_seek_blob_when_it_lies_then_quick_finds_it(layout, image, indexed, lie):
    wrong = with_points(image, indexed, lie)
    found = [verified(layout, image, wrong, seed=seed).ok for seed in range(8)]
    assert not all(found)


def test_window_when_it_has_an_extra_run_then_note(layout, image, indexed):
    def extra_run(points):
        point = points[first_point(points)]
        place = next(
            (start + len(run) + 1)
            for (start, run), (after, _) in zip(point.runs, point.runs[1:], strict=False)
            if after - start - len(run) > 3
        )
        point.runs = sorted([*point.runs, (place, b"?")])

    result = verified(layout, image, with_points(image, indexed, extra_run))
    assert result.ok
    (found,) = result.all_findings
    assert (found.kind, found.severity) == ("seek_layer.excess", Severity.NOTE)
    assert "checkpoint 1" in found.message


def test_checkpoints_when_elsewhere_but_correct_then_note(layout, image, indexed):
    # Checkpoints that are closer to each other than those of the span size that the table claims.
    wide = 80 << 10
    parts = blobs_of(indexed)
    closer = [SeekBlobFile.parse(blob) for _, blob in parts]
    for found in closer:
        found.span_size = wide
    table = table_of(
        image, [(ztoc, found.write()) for (ztoc, _), found in zip(parts, closer, strict=True)]
    )
    result = verified(layout, image, table)
    assert result.ok
    kinds = {found.kind for found in result.all_findings}
    assert "seek_layer.checkpoints" in kinds
    assert kinds <= {"seek_layer.checkpoints", "seek_layer.encoding"}


def test_seek_blob_when_encoded_differently_then_note(layout, image, indexed):
    result = verified(layout, image, with_points(image, indexed, lambda _: None))
    assert result.ok
    assert {found.kind for found in result.all_findings} == {"seek_layer.encoding"}


@HOW
def test_seek_blob_when_of_another_layer_then_named(layout, image, table, how):
    changed = replace(table, layers=[table.layers[1], table.layers[0]])
    found = {error.kind for error in errors(verified(layout, image, changed, **how))}
    assert found == {"seek.root"}


@HOW
@pytest.mark.parametrize("part", ["root", "file_list", "seek_layer"])
def test_blob_when_missing_then_named(layout, image, table, how, part):
    blob = {"root": table.root, "file_list": table.file_list, "seek_layer": table.layers[0]}[part]
    image.put(layout, tag="app")
    table.inline = False
    add_referrer(layout, "app", table)
    (layout.path / "blobs/sha256" / str(Digest.of(blob)).removeprefix("sha256:")).unlink()
    kind = {"root": "seek"}.get(part, part)
    found = {error.kind for error in errors(verify(reference(layout), **how))}
    assert found == {f"{kind}.missing"}
    table.inline = True


@HOW
@pytest.mark.parametrize("part", ["file_list", "seek_layer"])
def test_blob_when_damaged_then_named(layout, image, table, how, part):
    blob = {"file_list": table.file_list, "seek_layer": table.layers[1]}[part]
    image.put(layout, tag="app")
    add_referrer(layout, "app", table)
    path = layout.path / "blobs/sha256" / str(Digest.of(blob)).removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
    found = {error.kind for error in errors(verify(reference(layout), **how))}
    assert found
    assert {kind.partition(".")[0] for kind in found} == {part}


@HOW
@pytest.mark.parametrize("part", ["file_list", "seek_layer"])
def test_blob_when_truncated_then_named(layout, image, table, how, part):
    blob = {"file_list": table.file_list, "seek_layer": table.layers[0]}[part]
    image.put(layout, tag="app")
    add_referrer(layout, "app", table)
    path = layout.path / "blobs/sha256" / str(Digest.of(blob)).removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(blob[:50])
    found = {error.kind.partition(".")[0] for error in errors(verify(reference(layout), **how))}
    assert found == {part}


# File lists that lie


def number_of(ztoc, name):
    return [entry["name"] for entry in parse(ztoc).entries].index(name)


def wrong_number(field, change):
    def lie(ztoc):
        number = number_of(ztoc, b"usr/words")
        return with_number(ztoc, number, field, change(parse(ztoc).entries[number][field]))

    return lie


def wrong_name(ztoc):
    return with_text(ztoc, number_of(ztoc, b"usr/zero"), "name", b"usr/nero")


LIST_LIES = {
    "mode": (wrong_number("mode", lambda mode: mode ^ 0o111), "/usr/words", "mode is"),
    "size": (wrong_number("size", lambda size: size - 1), "/usr/words", "size is"),
    "offset": (wrong_number("offset", lambda offset: offset + 512), "/usr/words", "offset is"),
    "name": (wrong_name, "/usr/nero", "is in the file list but not in the layers"),
}


@pytest.mark.parametrize("lie", LIST_LIES)
def test_file_list_when_it_lies_then_entry_is_named(layout, image, indexed, lie):
    change, path, what = LIST_LIES[lie]
    wrong = with_ztoc(image, indexed, change)
    message = only_error(verified(layout, image, wrong), "file_list.entry")
    assert path in message
    assert what in message


@pytest.mark.parametrize("lie", LIST_LIES)
def test_file_list_when_it_lies_then_quick_finds_it(layout, image, indexed, lie):
    wrong = with_ztoc(image, indexed, LIST_LIES[lie][0])
    found = [verified(layout, image, wrong, seed=seed) for seed in range(8)]
    assert not all(one.ok for one in found)
    assert {error.kind for one in found for error in errors(one)} == {"file_list.entry"}


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"etc/motd": b"hello", "usr/words": WORDS}, "in the layers but not in the file list"),
        (
            {"etc/motd": b"hello", "usr/words": WORDS, "usr/zero": b"", "usr/more": b""},
            "in the file list but not in the layers",
        ),
    ],
    ids=["missing", "added"],
)
def test_file_list_when_entries_differ_then_named(layout, image, indexed, wrong, what):
    other = index_layer(make_image(wrong).layers[0])[0].to_bytes()
    result = verified(layout, image, with_ztoc(image, indexed, lambda _: other))
    assert any(what in error.message for error in errors(result))
    assert {error.kind for error in errors(result)} == {"file_list.entry"}


@pytest.mark.parametrize(
    ("target", "what"), [("words", "linkname is"), ("gone", "target is")], ids=["symlink", "hard"]
)
def test_file_list_when_a_link_is_wrong_then_named(layout, target, what):
    kind = tarfile.SYMTYPE if target == "words" else tarfile.LNKTYPE
    layers = []
    for name in (target, target[::-1]):
        link = tarmaker.entry("link", type=kind, linkname=name)
        layers.append(gzip.compress(tarmaker.tar(tarmaker.entry("a", b"1"), link)))
    image = image_of((layers[0], OCI_LAYER_GZIP))
    parts = [(index_layer(layers[1])[0].to_bytes(), index_layer(layers[0])[1].blob)]
    result = verified(layout, image, table_of(image, parts))
    found = [error for error in errors(result) if error.kind == "file_list.entry"]
    assert what in found[0].message


def many_files(count=3000):
    return {f"usr/{number:05}": b"" for number in range(count)}


@HOW
def test_file_list_when_chunks_are_swapped_then_named(layout, how):
    image = make_image(many_files())
    good = make_table(*image.layers)
    root = _core.SeekRoot(good.root)
    ranges = [root.toc_chunk_range(number) for number in range(root.toc_chunk_count)]
    start, first, second = (
        good.file_list[: ranges[0][0]],
        *(good.file_list[slice(*range_)] for range_ in ranges[:2]),
    )
    rest = good.file_list[ranges[1][1] :]
    changed = Table(good.root, start + second + first + rest, good.layers)
    found = errors(verified(layout, image, changed, **how))
    assert {error.kind for error in found} == {"file_list.chunk"}
    assert "file list chunk 0" in found[0].message


# Tables of other images


@HOW
def test_seek_table_when_of_another_image_then_named(layout, image, how):
    other = make_image({"etc/motd": b"hello"}, {"etc/hosts": b"::1"})
    message = only_error(verified(layout, image, make_table(*other.layers), **how), "seek.image")
    assert "(1 of 2 layers are the same, and 2 are listed)" in message


@HOW
def test_seek_table_when_it_claims_the_layers_of_another_image_then_named(layout, image, how):
    other = make_image({"etc/motd": b"HELLO", "usr/words": WORDS[::-1]}, {"etc/hosts": b"::1"})
    digests = [layer.digest for layer in image.layer_descriptors]
    result = verified(layout, image, make_table(*other.layers, digests=digests), **how)
    assert not result.ok
    assert errors(result)[0].kind.startswith(("seek", "file_list"))


@HOW
def test_layer_when_changed_afterwards_then_named(layout, image, table, how):
    image.put(layout, tag="app")
    add_referrer(layout, "app", table)
    path = (
        layout.path
        / "blobs/sha256"
        / str(image.layer_descriptors[0].digest).removeprefix("sha256:")
    )
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    found = {error.kind for error in errors(verify(reference(layout), **how))}
    assert found == ({"seek_layer.span"} if how else {"layer.digest"})


def test_subject_when_of_another_manifest_then_named(layout, image, table):
    image.put(layout, tag="app")
    found = layout.resolve("app").plain()
    table.put(layout, replace(found, size=found.size + 1))
    assert "subject is" in only_error(verify(reference(layout)), "seek.subject")


def test_bound_table_when_it_has_a_subject_then_warning(layout, image, table):
    found = image.put(layout, tag="app")
    put = table.put(layout, found.plain())
    manifest = Manifest.from_json(image.manifest)
    bound = replace(manifest, annotations={SEEK_TABLE_DIGEST: str(put.digest)})
    layout.put_manifest(bound.to_json(), OCI_MANIFEST, tag="bound")
    result = verify(reference(layout, "bound"))
    assert result.ok
    kinds = {found.kind: found.severity for found in result.all_findings}
    assert kinds == {"seek.subject": Severity.WARNING, "seek.unlisted": Severity.WARNING}


def test_annotation_when_not_a_digest_then_named(layout, image):
    manifest = Manifest.from_json(image.manifest)
    bound = replace(manifest, annotations={SEEK_TABLE_DIGEST: "sha256:nothing"})
    image.put(layout)
    layout.put_manifest(bound.to_json(), OCI_MANIFEST, tag="app")
    assert SEEK_TABLE_DIGEST in only_error(verify(reference(layout)), "seek.annotation")


def test_bound_table_when_missing_then_named(layout, image):
    manifest = Manifest.from_json(image.manifest)
    bound = replace(manifest, annotations={SEEK_TABLE_DIGEST: str(Digest.of(b"gone"))})
    image.put(layout)
    layout.put_manifest(bound.to_json(), OCI_MANIFEST, tag="app")
    only_error(verify(reference(layout)), "seek.missing")


def test_manifest_when_it_has_too_few_blobs_then_named(layout, image, table):
    fewer = replace(table, layers=table.layers[:1])
    only_error(verified(layout, image, fewer), "seek.layers")


def test_image_when_it_has_neither_index_then_error(layout, image):
    image.put(layout, tag="app")
    with pytest.raises(NotFoundError, match="has no SOCI index or seek table"):
        verify(reference(layout))


# Results


def test_result_when_printed_as_json_then_seek_tables_are_in_it(layout, image, table):
    document = verified(layout, image, table).to_dict()
    ((found,),) = (platform["seek_tables"] for platform in document["platforms"])
    assert (found["bound"], found["span_size"], found["ok"]) == (False, SPAN_SIZE, True)
    assert found["checked_entries"] == found["entry_count"]
    assert [one["digest"] for one in found["layers"]] == [
        str(layer.digest) for layer in image.layer_descriptors
    ]
    assert json.dumps(document)
