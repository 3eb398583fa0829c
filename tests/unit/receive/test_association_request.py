"""An A-ASSOCIATE-RQ is read before pynetdicom sees it: what counts, what does not, and what it may cost."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from ich_node.receive import association_request
from ich_node.receive.association_request import (
    FIXED,
    HEAD,
    LONGEST_REQUEST,
    NO_CLASS,
    Proposal,
    clean_title,
    read_proposal,
    read_titles,
    request_length,
)

CT = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"
MAX, CLASS = struct.pack(">BxHI", 0x51, 4, 16384), b"\x52\0\0\x071.2.3.4"


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int = 1, abstract: bytes = CT, syntaxes: tuple[bytes, ...] = (EXPLICIT,)) -> bytes:
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, abstract) + b"".join(item(0x40, ts) for ts in syntaxes))


def proposal(items: bytes, version: int = 1) -> Proposal:
    fixed = struct.pack(">HH", version, 0) + b"ICHNODE".ljust(16) + b"CT1".ljust(16) + bytes(32)
    return read_proposal(read_titles(fixed), items, lambda _uid: True)


def as_pynetdicom_reads(found: Proposal) -> A_ASSOCIATE_RQ:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(found.encoded())
    pdu.to_primitive()
    return pdu


@pytest.mark.parametrize(
    ("odd_one", "words"),
    [
        (context(2), "context 2: its ID is even"),
        (context(0), "context 0: its ID is even"),
        (context(1, abstract=b"1.2.3"), "context 1: its ID came before"),
        (context(5, syntaxes=()), "context 5: it has no transfer syntax that is a UID"),
        (context(5, syntaxes=(b"GE private",)), "context 5: it has no transfer syntax that is a UID"),
        (context(5, abstract=b"CT Image"), "context 5: its abstract syntax is no UID"),
    ],
)
def test_a_context_that_the_standard_does_not_allow_is_named_and_the_others_are_negotiated(odd_one, words):
    found = proposal(context(1) + odd_one + context(3))
    assert found.senseless == [words]
    supported = [each.id for each in found.contexts.values() if each.abstract_syntax == CT.decode()]
    assert supported == [1, 3]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"CT1".ljust(16), "CT1"),
        (b"CT1".ljust(16, b"\0"), "CT1"),
        (b"CT1\0".ljust(16), "CT1"),
        (b"CT1\0rubbish", "CT1"),
        (b"  CT 1", "CT 1"),
        ("CT_K\u00d6LN".encode("latin-1"), "CT_K?LN"),
        (b"CT\t1\\", "CT?1?"),
        (bytes(16), ""),
        (b" " * 16, ""),
        (b"\x1b[2J\nx", "?[2J?x"),
    ],
)
def test_a_title_is_what_stands_before_the_first_nul(sent: bytes, read: str) -> None:
    assert clean_title(sent) == read


@pytest.mark.parametrize(
    "user",
    [
        MAX + CLASS,
        MAX + CLASS + item(0x55, b"ABCDEFGHIJKLMNOPQ"),
        MAX + CLASS + item(0x55, b"x" * 400),
        MAX + CLASS + item(0x55, "M\u00dcLLER".encode("latin-1")),
        MAX + CLASS + item(0x55, b"RAW\0\0\0"),
        MAX + CLASS + item(0x55, b"    "),
        MAX + CLASS + item(0x5F, b"abc"),
        MAX + item(0x52, b"1.2.3.4\0"),
        MAX + item(0x52, b"GE.MEDICAL"),
        MAX + item(0x52, b"1." + b"2" * 68),
        MAX + item(0x53, b"\0\x08\0\1"),
        MAX + item(0x54, struct.pack(">H", len(CT)) + CT + b"\1\1"),
        MAX + item(0x54, b"\0"),
        MAX + item(0x56, struct.pack(">H", len(CT)) + CT + b"\2\0"),
        MAX + item(0x58, b"\2\0\0\3bob\0\3pwd"),
        CLASS,
        item(0x51, b"\0\0\0\1") + CLASS,
        item(0x51, b"\xff" * 4) + CLASS,
        b"",
    ],
)
def test_informational_fields_are_informational(user: bytes) -> None:
    found = proposal(item(0x10, b"1.2.840.10008.3.1.1.1\0") + context() + item(0x50, user))
    assert found.contexts[1].abstract_syntax == CT.decode()
    assert as_pynetdicom_reads(found).calling_ae_title == "CT1"


def test_no_user_information_and_unknown_items_are_no_reason_either() -> None:
    assert as_pynetdicom_reads(proposal(context() + item(0x99, b"zz"))).called_ae_title == "ICHNODE"


@pytest.mark.parametrize("version", [1, 3, 0x8001])
def test_one_bit_of_the_protocol_version_counts(version: int) -> None:
    assert proposal(context(), version).titles.version == 1
    assert proposal(context(), 2).titles.version == 2


def test_uids_are_read_without_what_stands_round_them() -> None:
    found = proposal(context(1, CT + b"\0", (EXPLICIT + b" ", IMPLICIT + b"\0")))
    assert found.contexts[1].abstract_syntax == CT.decode()
    assert found.contexts[1].transfer_syntaxes == (EXPLICIT.decode(), IMPLICIT.decode())


def test_contexts_that_can_not_be_answered_are_left_out_and_the_others_stay() -> None:
    found = proposal(context(2) + context(3, syntaxes=()) + context(5, b"no uid") + context(7) + context(7, b"1.2"))
    assert set(found.contexts) == {5, 7}
    assert found.contexts[5].abstract_syntax == NO_CLASS
    assert found.contexts[7].abstract_syntax == CT.decode()
    as_pynetdicom_reads(found)


def test_of_transfer_syntaxes_only_those_are_kept_that_count() -> None:
    fixed = struct.pack(">HH", 1, 0) + bytes(64)
    titles = read_titles(fixed)
    many = tuple(b"1.2.%d" % n for n in range(50))
    kept = read_proposal(
        titles, context(1, CT, (*many, EXPLICIT)) + context(3, CT, many), lambda uid: uid == EXPLICIT.decode()
    )
    assert kept.contexts[1].transfer_syntaxes == (EXPLICIT.decode(),)
    assert kept.contexts[3].transfer_syntaxes == ("1.2.0",)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\1\0\0",
        b"GET /x",
        b"\1\0" + (FIXED - 1).to_bytes(4, "big"),
        b"\1\0" + (LONGEST_REQUEST + 1).to_bytes(4, "big"),
    ],
)
def test_what_is_no_request_is_known_by_its_first_bytes(head: bytes) -> None:
    with pytest.raises(ValueError, match="not an association request"):
        request_length(head[:HEAD])


def test_what_is_cut_short_is_no_request() -> None:
    with pytest.raises(ValueError, match="cut short"):
        proposal(context()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        read_titles(bytes(20))


FLOODS = {
    "contexts": lambda size: context(1, b"1", (b"1",)) * (size // 18),
    "empty contexts": lambda size: item(0x20, bytes((1, 0, 0, 0))) * (size // 8),
    "transfer syntaxes": lambda size: item(0x20, bytes((1, 0, 0, 0)) + item(0x40, b"1") * (size // 5 - 2)),
    "roles": lambda size: item(0x50, item(0x54, b"\0\x011\1\1") * (size // 9 - 1)),
    "related classes": lambda size: item(0x50, item(0x57, b"\0\x011\0\x011\0\0") * (size // 12 - 1)),
    "user information": lambda size: item(0x50, MAX) * (size // 12),
    "application contexts": lambda size: item(0x10, b"1") * (size // 5),
    "unknown": lambda size: item(0x99, b"") * (size // 4),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_twice_the_items_take_twice_the_steps_and_too_many_are_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, walk = [0], association_request._walk

    def counted(data: bytes):  # type: ignore[no-untyped-def]
        for found in walk(data):
            steps[0] += 1
            yield found

    monkeypatch.setattr(association_request, "_walk", counted)
    taken = []
    for size in (4000, 8000):
        steps[0] = 0
        proposal(FLOODS[kind](size))
        taken.append(steps[0])
    assert 1.9 < taken[1] / taken[0] < 2.2
    steps[0] = 0
    try:
        found = proposal(FLOODS[kind](LONGEST_REQUEST - 200))
    except ValueError:
        pass
    else:
        assert len(found.contexts) <= 128
        assert len(found.encoded()) <= LONGEST_REQUEST
    assert steps[0] <= 4 * association_request.MOST_ITEMS


@settings(max_examples=300)
@given(st.binary(max_size=600), st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=8))
def test_whatever_is_read_pynetdicom_reads_too(rubbish: bytes, items: list[tuple[int, bytes]]) -> None:
    for data in (rubbish, b"".join(item(kind, value) for kind, value in items) + context() + item(0x50, MAX + rubbish)):
        try:
            found = proposal(data)
        except ValueError:
            continue
        as_pynetdicom_reads(found)
