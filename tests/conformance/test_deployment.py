"""Container file and manifests: right by schema, and every name in them is one that the node really has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ich_node.board import app, health
from ich_node.commands import cli
from ich_node.domain.ledger import JobState
from ich_node.infer.worker import WORKER_NAME_VARIABLE
from ich_node.runtime import config, service
from tests.conformance.test_systemd_units import UNITS

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "packaging/kubernetes"
CONTAINERFILE = ROOT / "packaging/Containerfile"
KUBERNETES = "1.31"  # the oldest that its project still mended when this was written
PARTS = ("receive", "infer", "deliver")


def objects() -> list[dict[str, Any]]:
    """Every object of every manifest that kustomization.yaml names."""
    named = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    return [found for name in named for found in yaml.safe_load_all((MANIFESTS / name).read_text())]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [found for found in objects() if found["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    """The pod of each component."""
    found = {}
    for item in objects():
        spec = item.get("spec", {})
        if item["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            found[spec["template"]["metadata"]["labels"]["app.kubernetes.io/component"]] = spec["template"]["spec"]
    return found


def container(component: str) -> dict[str, Any]:
    (only,) = pods()[component]["containers"]
    return dict(only)


@pytest.fixture(scope="module")
def settings() -> config.Config:
    return config.load(MANIFESTS / "ich_node.yaml")


def strings(value: object) -> Iterator[str]:
    """Every string in a tree."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


# --- by schema --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", objects(), ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_an_object_is_what_its_schema_says_and_has_no_key_beyond(item):
    kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_a_misspelt_key_is_found():
    item = of_kind("Deployment")[0]
    item["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_every_file_is_named_and_kustomize_takes_them(tmp_path):
    named = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in MANIFESTS.iterdir()} == {*named, "kustomization.yaml", "ich_node.yaml"}
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    made = subprocess.run(["kubectl", "kustomize", str(MANIFESTS)], capture_output=True, text=True, check=True).stdout
    assert len(list(yaml.safe_load_all(made))) == len(objects()) + 1


def test_the_linter_has_nothing_to_say_about_the_container_file():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, str(CONTAINERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# --- what a captured container could reach ---------------------------------------------------------------------------


@pytest.mark.parametrize("component", pods())
def test_a_pod_has_no_rights_and_writes_to_the_state_and_tmp_only(component):
    pod, only = pods()[component], container(component)
    around, own = pod["securityContext"], only["securityContext"]
    assert around["runAsNonRoot"] and around["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    writable = {mount["mountPath"] for mount in only["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/var/lib/ich_node", "/tmp"}  # noqa: S108
    assert "memory" in only["resources"]["limits"]


def test_only_who_speaks_tls_sees_the_private_key():
    seeing = {name for name, pod in pods().items() if "ich-node-tls" in strings(pod["volumes"])}
    assert seeing == {"receive", "deliver"}


def test_who_is_not_named_talks_to_nobody():
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind("NetworkPolicy")}
    assert policies["ich-node-nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    chosen = {
        spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for name, spec in policies.items()
        if name != "ich-node-nobody"
    }
    assert chosen == pods().keys()
    assert all(set(spec["policyTypes"]) == {"Ingress", "Egress"} for spec in policies.values())
    open_ones = {name for name, spec in policies.items() if spec.get("ingress")}
    assert open_ones == {"ich-node-receive", "ich-node-board"}


def test_no_secret_stands_in_a_manifest(settings):
    assert not of_kind("Secret")
    assert "@" in (settings.store.database or "") and ":" not in (settings.store.database or "").split("@")[0][13:]


# --- every name is one that the node has -----------------------------------------------------------------------------


@pytest.mark.parametrize("component", pods())
def test_the_command_is_one_that_the_program_knows(component):
    words = container(component)["args"]
    assert cli.parser(words[:1]).parse_args(words).run
    if "--state" in words:
        assert words[words.index("--state") + 1] in set(JobState)


def test_the_image_starts_the_program_whose_verbs_these_are():
    text = CONTAINERFILE.read_text()
    assert 'ENTRYPOINT ["ich-node"]' in text
    user = int(re.search(r"^USER (\d+):\1$", text, re.M)[1])
    assert user > 0
    assert {pod["securityContext"]["runAsUser"] for pod in pods().values()} == {user}
    assert {pod["securityContext"]["fsGroup"] for pod in pods().values()} == {user}


def test_variables_are_those_that_the_node_reads():
    ours = {service.ALIVE_VARIABLE, WORKER_NAME_VARIABLE, "PGPASSWORD"}
    named = {variable["name"] for name in pods() for variable in container(name).get("env", [])}
    assert named == ours
    names = {variable["name"] for variable in container("infer")["env"]}
    assert WORKER_NAME_VARIABLE in names


def test_the_configuration_is_one_that_the_node_takes_and_its_places_are_those_of_the_pods(settings):
    assert settings.receive.address == settings.board.address == "0.0.0.0"  # noqa: S104
    for name in pods():
        mounts = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
        assert str(settings.state_dir) in mounts
        assert str(cli.DEFAULT_CONFIG.parent) in mounts
    keys = {f"{cli.DEFAULT_CONFIG.parent}/{path}" for path in strings(pods()["receive"]["volumes"]) if "/" in path}
    tls = settings.receive.tls
    assert {str(tls.certificate), str(tls.private_key), str(tls.ca)} == keys
    assert f"{cli.DEFAULT_CONFIG.parent}/database-ca.pem" in settings.store.database
    assert "database-ca.pem" in set(strings(pods()["infer"]["volumes"]))


def test_ports_are_those_of_the_configuration(settings):
    ports = {port["name"]: port["containerPort"] for n in ("receive", "board") for port in container(n)["ports"]}
    assert ports == {"dicom": settings.receive.port, "http": settings.board.port}
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind("NetworkPolicy")}
    assert policies["ich-node-receive"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": settings.receive.port}]
    assert policies["ich-node-board"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": settings.board.port}]


def test_callers_and_destinations_are_let_through(settings):
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind("NetworkPolicy")}
    blocks = {text for text in strings(policies["ich-node-receive"]["ingress"]) if "/" in text}
    assert blocks == {str(network) for caller in settings.receive.callers for network in caller.addresses}
    out = policies["ich-node-deliver"]["egress"]
    ports = {port["port"] for rule in out for port in rule["ports"]}
    assert {destination.port for destination in settings.deliver.destinations} <= ports


@pytest.mark.parametrize("name", PARTS)
def test_a_probe_is_as_patient_as_the_watchdog_of_the_unit(name):
    unit = next(path for path in UNITS.glob(f"ich-node-{name}*.service")).read_text()
    watchdog = int(re.search(r"^WatchdogSec=(\d+)$", unit, re.M)[1])
    alive = container(name)["livenessProbe"]["exec"]["command"]
    file = next(variable["value"] for variable in container(name)["env"] if variable["name"] == service.ALIVE_VARIABLE)
    assert alive[-1] == f"test -n \"$(find {file} -newermt '-{watchdog} seconds')\""
    assert container(name)["startupProbe"]["exec"]["command"] == ["test", "-e", file]
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1])
    assert pods()[name]["terminationGracePeriodSeconds"] == stop


def test_the_probe_tells_young_from_old(tmp_path, monkeypatch):
    alive = tmp_path / "alive"
    monkeypatch.setenv(service.ALIVE_VARIABLE, str(alive))
    probe = container("receive")["livenessProbe"]["exec"]["command"]
    command = [word.replace("/tmp/alive", str(alive)) for word in probe]  # noqa: S108

    def passes() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert not passes()
    service.notify("READY=1")
    assert passes()
    long_ago = alive.stat().st_mtime - 31
    os.utime(alive, (long_ago, long_ago))
    assert not passes()


def test_pages_that_probes_and_prometheus_ask_for_are_the_boards():
    asked = {
        container("board")[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    deployment = next(item for item in of_kind("Deployment") if item["metadata"]["name"] == "ich-node-board")
    asked.add(deployment["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"])
    assert asked == {"/healthz", "/metrics"}
    assert asked <= {
        path for text in [Path(app.__file__).read_text()] for path in re.findall(r'Route\("([^"]+)"', text)
    }


def test_workers_follow_a_metric_that_the_node_exports():
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["external"]["metric"]["name"]
    assert name.removeprefix("ich_node_") in Path(health.__file__).read_text()
    target = scaler["spec"]["scaleTargetRef"]
    assert target["name"] in {item["metadata"]["name"] for item in of_kind(target["kind"])}
    assert container("infer")["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_callers_keep_their_addresses_and_some_of_every_part_is_left_when_hosts_are_emptied():
    services = {item["metadata"]["name"]: item["spec"] for item in of_kind("Service")}
    receive = services["ich-node-receive"]
    assert (receive["type"], receive["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    budgets = {
        item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for item in of_kind("PodDisruptionBudget")
    }
    assert budgets == set(PARTS)
    (claim,) = of_kind("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
