"""Configuration: all problems at once, each with its key path; nothing accepted that would surprise."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ich_node.domain.errors import ConfigError
from ich_node.runtime import config


def problems(data: dict, base: Path = Path("/etc/ich_node")) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(data, base)
    return caught.value.problems


def test_an_empty_configuration_is_the_defaults():
    assert config.parse({}, Path("/")) == config.Config()


def test_every_problem_is_told_at_once_with_its_path():
    found = problems({"ae_title": "X" * 17, "receive": {"port": 0}, "deliver": {"destinations": [{"name": "a"}]}})
    assert any(p.startswith("ae_title:") for p in found)
    assert any(p.startswith("receive.port:") for p in found)
    assert any(p.startswith("deliver.destinations.0.host:") for p in found)


def test_an_unknown_key_is_an_error_with_a_suggestion():
    assert problems({"receive": {"quiet_period": 3}}) == [
        "receive.quiet_period: unknown key; did you mean quiet_period_s?"
    ]


def test_a_suggestion_reaches_into_lists():
    destination = {"name": "a", "ae_title": "A", "host": "h", "prot": 104}
    assert problems({"deliver": {"destinations": [destination]}}) == [
        "deliver.destinations.0.prot: unknown key; did you mean port?"
    ]


def test_two_destinations_of_the_same_name_are_refused():
    twice = [{"name": "a", "ae_title": "A", "host": "h"}] * 2
    assert problems({"deliver": {"destinations": twice}}) == [
        "deliver.destinations: two destinations have the same name"
    ]


def test_an_address_that_is_none_is_refused():
    (problem,) = problems({"receive": {"callers": [{"ae_title": "CT", "addresses": ["10.0.0.300"]}]}})
    assert problem.startswith("receive.callers.0.addresses:")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [({"Station": "^ED"}, "Station is no DICOM keyword"), ({"StationName": "("}, "not a regular expression")],
)
def test_an_urgent_rule_that_could_never_match_is_refused(rule, problem):
    (found,) = problems({"receive": {"urgent_rule": rule}})
    assert found.startswith("receive.urgent_rule:") and problem in found


def test_relative_paths_start_at_the_configuration_file(tmp_path):
    file = tmp_path / "node.yaml"
    file.write_text("infer: {bundle: models/a}\nstore: {state_dir: state}\n")
    loaded = config.load(file)
    assert loaded.bundle_dir == tmp_path / "models/a"
    assert loaded.state_dir == tmp_path / "state"


def test_a_section_with_every_key_commented_out_is_the_defaults(tmp_path):
    file = tmp_path / "node.yaml"
    file.write_text("deliver:\n  # destinations: []\n")
    assert config.load(file) == config.Config()


@pytest.mark.parametrize("text", ["- a list", "a: b: c", "\tx: 1"])
def test_what_is_not_a_mapping_is_a_configuration_error(tmp_path, text):
    file = tmp_path / "node.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        config.load(file)


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.yaml")


def test_a_configuration_can_not_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        config.Config().ae_title = "OTHER"


def test_nobody_but_loopback_may_call_by_default():
    (caller,) = config.Config().receive.callers
    assert caller.addresses == ("127.0.0.0/8", "::1/128")
    assert config.Config().receive.address == "127.0.0.1"
