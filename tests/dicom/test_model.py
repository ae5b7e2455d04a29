from __future__ import annotations

import base64
import json
import struct
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicom_files import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PYDICOM_DATA,
    Built,
    Encoding,
    Nested,
    Plain,
    dataset_bytes,
    file_bytes,
    file_id,
    meta_bytes,
    pydicom_files,
    us,
    write_series,
)
from pydicom.config import disable_value_validation

from dicomzarr_watch.dicom import model
from dicomzarr_watch.dicom.alike import Templates
from dicomzarr_watch.dicom.instance import read_header
from dicomzarr_watch.dicom.model import INLINE_LIMIT_BYTES, ByReference, Elements, of_file

Json = dict[str, Any]
UTF_8 = "ISO_IR 192"
PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}


def gathered(*contents: bytes) -> Elements:
    found = Elements()
    for data in contents:
        found.add(read_header(BytesIO(data)))
    return found


def gathered_in_turn(*contents: bytes) -> Elements:
    """Gather files of which each is held against those before it."""
    found, templates = Elements(), Templates()
    for data in contents:
        found.add(read_header(BytesIO(data), templates))
    return found


def named(place: ByReference) -> str:
    return f"{place.file}:{place.start}:{place.end}"


def rebuilt(document: Json, count: int) -> list[Json]:
    """Put each file's data set together again from `shared` and `columns`."""
    files: list[Json] = [dict(document["shared"]) for _ in range(count)]
    for tag, column in document["columns"].items():
        for file, at in zip(files, column["of"], strict=True):
            if at is not None:
                file[tag] = column["distinct"][at]
    return files


def inlined(found: Json, contents: Sequence[bytes]) -> Json:
    """Put the bytes that a reference names in its place."""
    made = {}
    for tag, element in found.items():
        if "BulkDataURI" in element:
            file, start, end = map(int, element["BulkDataURI"].split(":"))
            binary = base64.b64encode(contents[file][start:end]).decode()
            element = {"vr": element["vr"], "InlineBinary": binary}  # noqa: PLW2901
        made[tag] = element
    return made


def by_pydicom(data: bytes) -> Json:
    """Say what pydicom says of the elements, but not of the pixel data."""
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(data))
        found: Json = {}
        for part in (dataset.file_meta, dataset):
            for tag in part.keys():  # noqa: SIM118
                if tag not in PIXELS:
                    found[f"{tag:08X}"] = part[tag].to_json_dict(None, 0)
    return found


def texts(found: object) -> str:
    return json.dumps(found, sort_keys=True)


def is_comparable(path: Path) -> bool:
    """Leave out what pydicom cannot read (badVR), or reads less of (the end of cut files)."""
    return path.name not in {"badVR.dcm", "MR_truncated.dcm", "rtplan_truncated.dcm"}


@pytest.mark.parametrize("path", [*filter(is_comparable, pydicom_files())], ids=file_id)
def test_a_real_file_says_in_json_what_pydicom_says_of_it(path: Path) -> None:
    data = path.read_bytes()
    header = read_header(BytesIO(data))
    elements = gathered(data)
    (found,) = rebuilt(elements.document([0], named), 1)
    expected = by_pydicom(data)
    if header.part10.inflated is not None:
        expected = {t: e for t, e in expected.items() if not t.startswith("0002")}
    assert texts(inlined(found, [data])) == texts(expected)
    assert elements.unreadable == set()


def test_many_files_of_all_character_sets_are_told_apart_again() -> None:
    contents = [p.read_bytes() for p in sorted((PYDICOM_DATA / "charset_files").glob("*.dcm"))]
    found = rebuilt(gathered(*contents).document(range(len(contents)), named), len(contents))
    assert len(found) > 10
    for one, data in zip(found, contents, strict=True):
        assert texts(inlined(one, contents)) == texts(by_pydicom(data))


@pytest.mark.parametrize("syntax", [EXPLICIT.uid, IMPLICIT.uid, BIG.uid])
def test_a_series_is_what_its_files_share_and_columns_of_what_differs(
    tmp_path: Path, syntax: str
) -> None:
    paths = write_series(tmp_path, 5, syntax=syntax)
    contents = [p.read_bytes() for p in paths]
    document = gathered(*contents).document(range(5), named)
    assert set(document["columns"]) == {"00020003", "00080018", "00200013", "00200032"}
    assert document["shared"]["00080060"] == {"vr": "CS", "Value": ["CT"]}
    column = document["columns"]["00200013"]
    assert column["of"] == [0, 1, 2, 3, 4]
    assert [e["Value"] for e in column["distinct"]] == [[1], [2], [3], [4], [5]]
    for one, data in zip(rebuilt(document, 5), contents, strict=True):
        assert texts(inlined(one, contents)) == texts(by_pydicom(data))


def test_files_that_lack_an_element_for_a_while_have_it_again() -> None:
    name, age = Plain(0x00100010, "PN", b"A^B "), Plain(0x00101010, "AS", b"010Y")
    held = [[name, age], [name], [name, age], [age], [], [name, age]]
    contents = [file_bytes(elements) for elements in held]
    found = rebuilt(gathered(*contents).document(range(6), named), 6)
    for one, data in zip(found, contents, strict=True):
        assert texts(one) == texts(by_pydicom(data))


def test_files_of_one_layout_and_files_of_many_say_the_same(tmp_path: Path) -> None:
    paths = write_series(
        tmp_path, 30, gap_mm=7.3, PatientName="Ärzte^Ö", SpecificCharacterSet=UTF_8
    )
    contents = [path.read_bytes() for path in paths]
    contents[3:3] = [contents[3].replace(b"ISO_IR 192", b"ISO_IR 100")]
    contents += contents[:5]
    order = range(len(contents))
    document = gathered_in_turn(*contents).document(order, named)
    assert texts(document) == texts(gathered(*contents).document(order, named))
    for one, data in zip(rebuilt(document, len(contents)), contents, strict=True):
        assert texts(inlined(one, contents)) == texts(by_pydicom(data))


def test_what_elements_are_read_by_may_stand_elsewhere_in_the_next_file() -> None:
    contents = []
    for length, name in ((2, b"\xc4^B "), (8, b"\xd6^B "), (2, b"\xc4^B ")):
        maker = Plain(0x00020016, "AE", b"A" * length)
        elements = [
            Plain(0x00080005, "CS", b"ISO_IR 100"),
            Plain(0x00100010, "PN", name),
            *private(b"GEMS_ACQU_01", Plain(0x00191002, "UN", name)),
        ]
        meta = meta_bytes(EXPLICIT.uid, [maker])
        contents.append(bytes(128) + b"DICM" + meta + dataset_bytes(elements, EXPLICIT))
    found = rebuilt(gathered_in_turn(*contents).document(range(3), named), 3)
    for one, data in zip(found, contents, strict=True):
        assert texts(one) == texts(by_pydicom(data))


@pytest.mark.parametrize("gather", [gathered, gathered_in_turn])
def test_a_character_set_in_another_vr_is_another(gather: Callable[..., Elements]) -> None:
    name = Plain(0x00100010, "PN", b"\xc4^B ")
    sets = [Plain(0x00080005, vr, b"ISO_IR 144") for vr in ("CS", "BS")]
    contents = [file_bytes([charset, name]) for charset in (*sets, *sets)]
    document = gather(*contents).document(range(4), named)
    for n, content in enumerate(contents):
        alone = gathered(content).document([0], named)["shared"]
        assert of_file(document, n)["00100010"].keys() == alone["00100010"].keys()


@pytest.mark.parametrize("gather", [gathered, gathered_in_turn])
def test_of_the_elements_that_others_are_read_by_the_last_counts(
    gather: Callable[..., Elements],
) -> None:
    name = Plain(0x00100010, "PN", b"\xc4^B ")
    sets = [Plain(0x00080005, "CS", charset) for charset in (b"ISO_IR 100", b"ISO_IR 144")]
    contents = [file_bytes([sets[0], last, name]) for last in (*sets, *sets)]
    document = gather(*contents).document(range(4), named)
    column = document["columns"]["00100010"]
    assert column["of"] == [0, 1, 0, 1]
    assert [e["Value"] for e in column["distinct"]] == [
        [{"Alphabetic": "Ä^B"}],
        [{"Alphabetic": "Ф^B"}],
    ]


def test_the_columns_follow_the_order_that_is_asked_for() -> None:
    names = [b"AX", b"BX", b"AX", b""]
    contents = [file_bytes([Plain(0x00100020, "LO", n)] if n else []) for n in names]
    column = gathered(*contents).document([3, 1, 0, 2], named)["columns"]["00100020"]
    assert column["of"] == [None, 0, 1, 1]
    assert [e["Value"] for e in column["distinct"]] == [["BX"], ["AX"]]


def private(creator: bytes, value: Built) -> list[Built]:
    return [Plain(0x00190010, "LO", creator), value]


def mixed() -> dict[str, list[bytes]]:
    """Make files in which the same bytes mean something else."""
    name = Plain(0x00100010, "PN", b"\xd0\xd0 ^")
    number = Plain(0x00191002, "UN", b"1234")
    smallest = Plain(0x00280106, "US", b"\xff\xff")
    return {
        "character sets": [
            file_bytes([Plain(0x00080005, "CS", charset), name])
            for charset in (b"ISO_IR 100", b"ISO_IR 144")
        ],
        "private creators": [
            file_bytes(private(creator, number), encoding)
            for creator in (b"GEMS_ACQU_01", b"SIEMENS CT VA0 COAD ", b"NOBODY")
            for encoding in (IMPLICIT, EXPLICIT)
        ],
        "signs": [file_bytes([us(0x00280103, sign), smallest], IMPLICIT) for sign in (0, 1)],
        "VRs": [file_bytes([Plain(0x00200013, vr, b"12")]) for vr in ("IS", "DS", "IS")],
        "byte orders": [
            file_bytes([Plain(0x00280010, "US", b"\x01\x02")], encoding)
            for encoding in (EXPLICIT, BIG)
        ],
    }


@pytest.mark.parametrize("case", mixed())
def test_the_same_bytes_are_read_by_what_stands_around_them(case: str) -> None:
    contents = mixed()[case]
    order = range(len(contents))
    document = gathered(*contents).document(order, named)
    assert gathered_in_turn(*contents).document(order, named) == document
    found = rebuilt(document, len(contents))
    for one, data in zip(found, contents, strict=True):
        assert texts(one) == texts(by_pydicom(data))
    assert len({texts({t: e for t, e in one.items() if t[:4] > "0008"}) for one in found}) > 1


def test_sequences_keep_all_that_they_hold_private_elements_too() -> None:
    inner = Nested(0x00400008, ((Plain(0x00080100, "SH", b"T1"), Plain(0x00080104, "LO", b"")),))
    items = ((inner, *private(b"ACME", Plain(0x00191001, "DS", b"0.50"))), ())
    contents = [
        file_bytes([Nested(0x00400275, items, is_undefined, is_undefined)], encoding)
        for is_undefined in (True, False)
        for encoding in (EXPLICIT, BIG)
    ]
    found = rebuilt(gathered(*contents).document(range(4), named), 4)
    sequences = {texts(one["00400275"]) for one in found}
    assert sequences == {texts(by_pydicom(contents[0])["00400275"])}
    assert '"InlineBinary"' not in sequences.pop()


@pytest.mark.parametrize("vr", ["OB", "OW", "UN"])
def test_a_long_binary_value_is_named_by_its_place(vr: str) -> None:
    short = Plain(0x00091001, vr, b"\x01" * INLINE_LIMIT_BYTES)
    long = Plain(0x00091002, vr, b"\x02" * (INLINE_LIMIT_BYTES + 2))
    plain = file_bytes([Plain(0x00080060, "CS", b"MR")])
    data = file_bytes([short, long])
    document = gathered(plain, data).document([0, 1], named)
    (one,) = document["columns"]["00091001"]["distinct"]
    assert base64.b64decode(one["InlineBinary"]) == short.value
    (other,) = document["columns"]["00091002"]["distinct"]
    assert (other["vr"], set(other)) == (vr, {"vr", "BulkDataURI"})
    file, start, end = map(int, other["BulkDataURI"].split(":"))
    assert (file, data[start:end]) == (1, long.value)


@pytest.mark.parametrize("is_undefined", [True, False])
def test_a_sequence_of_more_than_some_megabytes_is_named_by_its_place(
    is_undefined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sequence(count: int) -> Nested:
        items = tuple((Plain(0x00080060, "CS", b"SM"),) for _ in range(count))
        return Nested(0x52009230, items, is_undefined)

    # real ones are of 4 MB and more
    monkeypatch.setattr(model, "SEQUENCE_LIMIT_BYTES", 200)
    contents = [file_bytes([sequence(count)]) for count in (8, 20)]
    document = gathered(*contents).document([0, 1], named)
    short, long = document["columns"]["52009230"]["distinct"]
    assert len(short["Value"]) == 8
    assert (long["vr"], set(long)) == ("SQ", {"vr", "BulkDataURI"})
    _, start, end = map(int, long["BulkDataURI"].split(":"))
    value = contents[1][start:end]
    assert value.startswith(b"\xfe\xff\x00\xe0")
    assert value.count(b"SM") == 20


def test_long_binary_values_that_differ_at_their_end_are_two() -> None:
    values = [b"\x01" * 5000 + last for last in (b"ab", b"cd", b"ab")]
    contents = [file_bytes([Plain(0x00091002, "OB", v)]) for v in values]
    column = gathered(*contents).document(range(3), named)["columns"]["00091002"]
    assert column["of"] == [0, 1, 0]


def test_of_long_values_no_more_is_kept_than_where_they_stand() -> None:
    count, size = 200, 100_000
    elements, templates = Elements(), Templates()
    tracemalloc.start()
    try:
        for n in range(count):
            long = Plain(0x00291010, "OB", n.to_bytes(2, "little") * (size // 2))
            elements.add(read_header(BytesIO(file_bytes([long])), templates))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 10 * size
    column = elements.document(range(count), named)["columns"]["00291010"]
    assert len(column["distinct"]) == count


def test_a_deflated_file_has_no_place_to_name_so_long_values_stand_inline() -> None:
    long = Plain(0x00091002, "OB", b"\x02" * 5000)
    shared = gathered(file_bytes([long], DEFLATED)).document([0], named)["shared"]
    assert base64.b64decode(shared["00091002"]["InlineBinary"]) == long.value


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280008, "IS", b"1A"),
        (0x00280010, "US", b"\x01\x02\x03"),
        (0x00280030, "DS", b"0,5 "),
        (0x00181200, "DA", b"9999"),
    ],
)
def test_an_element_that_cannot_be_read_is_kept_as_bytes(
    tag: int, vr: str, value: bytes, encoding: Encoding
) -> None:
    around = [Plain(0x00080060, "CS", b"MR"), Plain(0x7FDF0010, "LO", b"after ")]
    data = file_bytes([around[0], Plain(tag, vr, value), around[1]], encoding)
    elements = gathered(data)
    shared = elements.document([0], named)["shared"]
    assert (shared["00080060"]["Value"], shared["7FDF0010"]["Value"]) == (["MR"], ["after"])
    key = f"{tag:08X}"
    if vr == "DA":
        assert shared[key] == {"vr": "DA", "Value": ["9999"]}, "strange, but text"
        return
    assert elements.unreadable == {tag}
    assert base64.b64decode(inlined(shared, [data])[key]["InlineBinary"]) == value


def test_odd_elements_say_the_same_whatever_else_is_new() -> None:
    """An unknown VR has a length of its own kind; an element without VR stands as in implicit."""
    contents = []
    for name, number in ((b"Name", 1), (b"Nome", 1), (b"Name", 2), (b"Nome", 3)):
        parts = [
            dataset_bytes([Plain(0x00080060, "CS", b"MR")], EXPLICIT),
            dataset_bytes([us(0x00280103, 0)], IMPLICIT),
            struct.pack("<HH2sHI", 0x0040, 0x0012, b"ZZ", 0, 4) + name,
            dataset_bytes([Plain(0x00404000, "LT", b"ID%d " % number)], EXPLICIT),
            dataset_bytes([Plain(0x00404010, "ST", name)], IMPLICIT),
        ]
        contents.append(file_bytes([]) + b"".join(parts))
    for gather in (gathered, gathered_in_turn):
        elements = gather(*contents)
        found = rebuilt(elements.document(range(4), named), 4)
        assert elements.unreadable == {0x00400012}
        for n, one in enumerate(found):
            (alone,) = rebuilt(gathered(contents[n]).document([0], named), 1)
            assert texts(inlined(one, contents)) == texts(inlined(alone, contents[n:]))
            assert one["00400012"]["vr"] == "ZZ"
        assert [one["00404000"]["Value"] for one in found] == [["ID1"], ["ID1"], ["ID2"], ["ID3"]]


def test_what_stands_behind_the_pixel_data_is_told_too() -> None:
    pixels = Plain(0x7FE00010, "OW", bytes(4))
    behind = [Plain(0xFFFAFFFA, "LO", b""), Plain(0xFFFCFFFC, "OB", bytes(4))]
    elements = gathered(file_bytes([Plain(0x00080060, "CS", b"MR"), pixels, *behind]))
    shared = elements.document([0], named)["shared"]
    told = {t for t in shared if not t.startswith("0002")}
    assert told == {"00080060", "FFFAFFFA", "FFFCFFFC"}
    assert shared["FFFCFFFC"] == {"vr": "OB", "InlineBinary": "AAAAAA=="}
    assert elements.unreadable == set()


def test_of_an_element_that_repeats_the_first_is_told() -> None:
    twice = [Plain(0x00080060, "CS", b"MR"), Plain(0x00080060, "CS", b"CT")]
    content = file_bytes(twice)
    for elements in (gathered(content, content), gathered_in_turn(content, content)):
        shared = elements.document([0, 1], named)["shared"]
        assert shared["00080060"]["Value"] == ["MR"]


def test_no_files_say_nothing() -> None:
    assert Elements().document([], named) == {"shared": {}, "columns": {}}
