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
    assert problems({"deliver": {"destinations": twice}}) == ["deliver: two destinations have the same name"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"host": "http://pacs"}, "without a scheme"),
        ({"host": "pacs:104"}, "write host: pacs and port: 104"),
        ({"host": "user@pacs"}, "alone"),
        ({"host": "localhost", "port": 11112}, "is this node itself"),
        ({"priorities": []}, "priorities"),
        ({"senders": []}, "senders"),
        ({"objects": []}, "objects"),
    ],
)
def test_a_destination_that_would_get_nothing_in_silence_is_refused(wrong, words):
    pacs = {"name": "pacs", "ae_title": "A", "host": "h", **wrong}
    (problem,) = problems({"deliver": {"destinations": [pacs]}})
    assert words in problem


def test_an_ipv6_address_is_a_host():
    pacs = {"name": "pacs", "ae_title": "A", "host": "fd00::7"}
    assert config.parse({"deliver": {"destinations": [pacs]}}, Path("/")).deliver.destinations[0].host == "fd00::7"


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


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "ich_node.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(written(folder, text))
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_may_carry_a_byte_order_mark(tmp_path, encoding):
    text = "# Müller\nae_title: CT1\n".encode(encoding)
    assert config.load(written(tmp_path, text)).ae_title == "CT1"


@pytest.mark.parametrize("encoding", ["latin-1", "cp850", "shift_jis"])
def test_another_encoding_is_refused_with_the_line(tmp_path, encoding):
    word = "ミュラー" if encoding == "shift_jis" else "Müller"
    assert "line 2 is not UTF-8" in refusal(tmp_path, f"ae_title: CT1\n# {word}\n".encode(encoding))


@pytest.mark.parametrize(
    "text",
    [
        "receive:\n  port: 1\ninfer:\n  threads: 1\nreceive:\n  grace_s: 1\n",
        "receive:\n  port: 104\n  port: 105\n",
        "deliver:\n  destinations:\n    - {name: a, host: h, ae_title: A, host: i}\n",
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(tmp_path, text):
    assert "given twice, in lines" in refusal(tmp_path, text)


@pytest.mark.parametrize(("text", "port"), [("0104", 104), ("104", 104), ("'104'", 104), ("00011112", 11112)])
def test_a_leading_zero_is_no_octal_number(tmp_path, text, port):
    assert config.load(written(tmp_path, f"receive:\n  port: {text}\n")).receive.port == port


@pytest.mark.parametrize("text", ["10:30", "0x68", "0o150", "1e2", "104.5"])
def test_what_is_no_plain_number_is_no_port(tmp_path, text):
    assert refusal(tmp_path, f"receive:\n  port: {text}\n").startswith("receive.port:")


@pytest.mark.parametrize("title", ["NO", "ON", "YES", "0123", "123", "1e3", "12:30"])
def test_an_ae_title_stays_the_word_that_was_written(tmp_path, title):
    assert config.load(written(tmp_path, f"ae_title: {title}\n")).ae_title == title


@pytest.mark.parametrize(("word", "meaning"), [("yes", True), ("no", False), ("on", True), ("true", True)])
def test_a_truth_value_may_be_said_in_words(tmp_path, word, meaning):
    assert config.load(written(tmp_path, f"receive:\n  fast_path: {word}\n")).receive.fast_path is meaning


@pytest.mark.parametrize("addresses", ["192.0.2.7", "[192.0.2.7]", '"192.0.2.7"', "192.0.2.7 ", '"192.0.2.7, "'])
def test_a_lone_address_is_a_list_of_one(tmp_path, addresses):
    text = f"receive:\n  callers:\n    - ae_title: CT\n      addresses: {addresses}\n"
    assert config.load(written(tmp_path, text)).receive.callers[0].addresses == ("192.0.2.7",)


def test_a_lone_destination_is_a_list_of_one(tmp_path):
    text = "deliver:\n  destinations: {name: pacs, ae_title: PACS, host: pacs.example}\n"
    assert [d.name for d in config.load(written(tmp_path, text)).deliver.destinations] == ["pacs"]


def test_no_address_at_all_is_refused(tmp_path):
    text = "receive:\n  callers:\n    - ae_title: CT\n      addresses: []\n"
    assert refusal(tmp_path, text) == "receive.callers.0.addresses: names no address"
