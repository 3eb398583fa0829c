"""UIDs of the results."""

from __future__ import annotations

import re
import uuid
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich_node.report.identifiers import Identity, uid

IDENTITY = Identity(
    study_uid="1.2.3",
    series_uid="1.2.3.4",
    input_digest="ab",
    model_id="ich",
    model_version="1.0",
    model_sha256="ff",
    device_name="ICHNODE",
    configuration="{}",
)
TEXTS = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=20), max_size=4)


@given(st.text(max_size=10), TEXTS)
def test_a_uid_is_a_valid_uid_made_of_a_version_8_uuid(role: str, values: dict[str, str]) -> None:
    made = uid(role, **values)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d{0,38})", made)
    assert made.is_valid
    assert uuid.UUID(int=int(made[5:])).version == 8
    assert uuid.UUID(int=int(made[5:])).variant == uuid.RFC_4122


@given(st.text(max_size=10), TEXTS, st.text(max_size=10), TEXTS)
def test_two_uids_are_equal_exactly_when_all_fields_are(
    role: str, values: dict[str, str], other_role: str, others: dict[str, str]
) -> None:
    assert (uid(role, **values) == uid(other_role, **others)) == ((role, values) == (other_role, others))


def test_the_border_between_two_fields_matters() -> None:
    assert uid("x", a="12", b="3") != uid("x", a="1", b="23")
    assert uid("x", a='1","b=2') != uid("x", a="1", b="2")
    assert uid("x", a="1", ab="") != uid("xa", a="1", b="")


def test_the_order_in_which_fields_are_named_does_not_matter() -> None:
    assert uid("x", a="1", b="2") == uid("x", b="2", a="1")


def test_a_uid_is_the_same_on_every_machine() -> None:
    assert uid("sc", source="1.2.3") == "2.25.111889734470529920362690816406763637073"


@pytest.mark.parametrize("field", [field.name for field in fields(Identity)])
def test_every_field_of_the_identity_changes_the_instance_uid(field: str) -> None:
    other = replace(IDENTITY, **{field: "other"})
    assert other.instance("sc", "1.2.3.4.5") != IDENTITY.instance("sc", "1.2.3.4.5")
    assert other.series("sc") != IDENTITY.series("sc")


def test_role_and_source_tell_siblings_apart() -> None:
    made = {
        IDENTITY.instance("sc", "1"),
        IDENTITY.instance("sc", "2"),
        IDENTITY.instance("sr", "1"),
        IDENTITY.series("sc"),
    }
    assert len(made) == 4


def test_a_correction_keeps_the_lasting_series_only() -> None:
    corrected = replace(IDENTITY, input_digest="cd")
    assert corrected.lasting_series("sr") == IDENTITY.lasting_series("sr")
    assert corrected.series("sc") != IDENTITY.series("sc")


def test_the_device_uid_changes_with_the_model_and_not_with_the_study() -> None:
    assert replace(IDENTITY, study_uid="9", series_uid="9", input_digest="9").device_uid == IDENTITY.device_uid
    for field in ("model_id", "model_version", "model_sha256", "device_name"):
        assert replace(IDENTITY, **{field: "other"}).device_uid != IDENTITY.device_uid
