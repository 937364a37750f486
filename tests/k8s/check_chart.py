"""The Helm chart: what it renders, that it says what kustomize says, and which values it refuses."""

import copy
import json
import re

import yaml

import chart_values
import kube
import restricted

CHART = kube.K8S / "chart"
HELMS_LABELS = {"helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
PROVIDED = {"source": "provided", "caBundle": PEM, "cert": PEM, "key": PEM.replace("CERTIFICATE", "PRIVATE KEY")}

# Values that the chart takes, by what they are for.
GOOD = {
    "defaults": {},
    "existing certificates": {"certificates": {"source": "existing", "secretName": "mine", "caBundle": "QUFBQQ=="}},
    "provided certificates": {"certificates": PROVIDED},
    "an issuer of one's own": {"certificates": {"certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}}}},
    "namespaces' annotations": {"namespaceAnnotations": True},
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True, "annotations": {"folder": "wechat"}},
    },
    "everything": {
        "replicas": 3,
        "image": {"repository": "registry.example.com/w", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "prefix": "sidecars.example.com",
        "failurePolicy": "Ignore",
        "timeoutSeconds": 3,
        "excludedNamespaces": ["kube-public", "kube-system"],
        "defaults": {
            "cpu-request": 1,
            "readiness": False,
            "sidecar": "classic",
            "config-map": "wechat",
            "mode": "transparent",
            "https": True,
            "trust-env": "requests, java",
            "trust-also": "company-roots",
        },
        "listen": "[::]:8443",
        "shutdownDelay": "10s",
        "serviceAccount": {"annotations": {"a/b": "c"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "platform"},
        "resources": {"requests": {"cpu": 1, "memory": "64Mi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"},
        ],
        "priorityClassName": "system-cluster-critical",
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": True, "apiServerPorts": [16443]},
    },
    "as little as can be": {
        "certificates": {"source": "existing"},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "resources": {},
    },
}

# Values that it refuses.
BAD = [
    {"replica": 2},
    {"replicas": 0},
    {"replicas": "2"},
    {"image": {"name": "x"}},
    {"image": {"digest": "sha256:abc"}},
    {"image": {"pullPolicy": "always"}},
    {"prefix": "Wechat_Sidecar"},
    {"failurePolicy": "fail"},
    {"timeoutSeconds": 31},
    {"excludedNamespaces": "kube-public"},
    {"defaults": {"cpu": "10m"}},
    {"defaults": {"sidecar": "istio"}},
    {"defaults": {"https": "yes"}},
    {"defaults": {"trust-env": "node"}},
    {"namespaceAnnotations": "true"},
    {"certificates": {"source": "self-signed"}},
    {"certificates": {"source": "provided"}},
    {"certificates": {**PROVIDED, "key": ""}},
    {"certificates": {**PROVIDED, "cert": "not PEM"}},
    {"certificates": {"certManager": {"issuer": "x"}}},
    {"listen": "9443"},
    {"shutdownDelay": 5},
    {"logFormat": "text"},
    {"resources": {"limit": {}}},
    {"nodeSelector": {"a": 1}},
    {"networkPolicy": {"enabled": "yes"}},
    {"networkPolicy": {"apiServerPorts": [0]}},
    {"podMonitor": {"enable": True}},
    {"dashboard": {"enabled": True, "label": {}}},
]


def render(tools, values, namespace="wechat-sidecar"):
    """How `helm template` ends with these values."""
    return tools.run(
        "helm", "template", "injector", CHART, "--namespace", namespace, "--values", "-", input=json.dumps(values)
    )


def rendered(tools, values, namespace="wechat-sidecar"):
    done = render(tools, values, namespace)
    assert done.returncode == 0, done.stderr
    return kube.load(done.stdout)


def bare(thing):
    """An object without what only Helm says, to compare it."""
    thing = copy.deepcopy(thing)
    thing["metadata"]["labels"] = {
        key: value for key, value in thing["metadata"].get("labels", {}).items() if key not in HELMS_LABELS
    }
    return thing


def by_name(things):
    return {kube.name(thing): bare(thing) for thing in things}


def differences(ours, theirs, path=""):
    """Where two values differ, as paths."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours or key not in theirs:
                yield f"{path}.{key} is only in {'kustomize' if key in theirs else 'the chart'}"
            else:
                yield from differences(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, (one, other) in enumerate(zip(ours, theirs)):
            yield from differences(one, other, f"{path}[{at}]")
    elif ours != theirs:
        yield f"{path}: chart {ours!r}, kustomize {theirs!r}"


def compare(ours, theirs):
    """Where the chart's objects differ from kustomize's, but for the Namespace, which Helm makes itself."""
    theirs = {name: thing for name, thing in by_name(theirs).items() if not name.startswith("Namespace ")}
    yield from differences(by_name(ours), theirs)


def check(report, tools, built):
    with report.check("helm lint finds nothing"):
        done = tools.run("helm", "lint", CHART, "--strict")
        assert done.returncode == 0 and "[WARNING]" not in done.stdout and "[ERROR]" not in done.stdout, done.stdout + done.stderr
    for name, values in GOOD.items():
        things = []
        with report.check(f"the chart renders with {name}"):
            things = rendered(tools, values)
        report.none(f"what the chart renders with {name} validates strictly", kube.all_problems(things))
        for thing in things:
            meta, spec = kube.template(thing)
            if spec is not None:
                report.none(f"the injector with {name} meets the restricted standard", restricted.violations(spec))
    pairs = {
        "defaults": ({}, "cert-manager"),
        "existing certificates": ({"certificates": {"source": "existing"}}, "injector"),
    }
    for name, (values, folder) in pairs.items():
        report.none(f"with {name} the chart renders what kustomize builds of {folder}", compare(rendered(tools, values), built[folder]))
    with report.check("with namespaces' annotations the chart renders what the component adds"):
        values = {"certificates": {"source": "existing"}, "namespaceAnnotations": True}
        found = list(compare(rendered(tools, values), built["namespace-annotations"]))
        assert not found, "\n".join(found)
    with report.check("the chart's monitors, rule and dashboard are those of k8s/monitoring"):
        ours = by_name(rendered(tools, {key: {"enabled": True} for key in ("podMonitor", "prometheusRule", "dashboard")}))
        theirs = by_name(built["monitoring"])
        for name, thing in theirs.items():
            for part in ("spec", "data"):
                left, right = (ours[name].get(part), thing.get(part))
                if name.startswith("ConfigMap"):
                    left, right = ({key: json.loads(text) for key, text in (one or {}).items()} for one in (left, right))
                assert left == right, f"{name} differs in {part}"
            assert thing["metadata"]["labels"].items() <= ours[name]["metadata"]["labels"].items() or "Pod" in name or "Rule" in name
    for values in BAD:
        with report.check(f"the chart refuses {json.dumps(values)[:80]}"):
            done = render(tools, values)
            assert done.returncode != 0, "it took them"
            assert "schema" in done.stderr.lower() or "at '/" in done.stderr, done.stderr
    check_values(report, tools)


def check_values(report, tools):
    """What single values do."""
    with report.check("the chart's README has the values as values.yaml explains them"):
        assert (CHART / "README.md").read_text() == chart_values.readme(), "run tests/k8s/chart_values.py"
    with report.check("every value has a comment, a place in the schema, and is used"):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        schema = json.loads((CHART / "values.schema.json").read_text())
        assert set(values) == set(schema["properties"]) - {"global"}, set(values) ^ set(schema["properties"])
        templates = "".join(file.read_text() for file in (CHART / "templates").iterdir())
        unused = [name for name in values if not re.search(rf"\.Values\.{name}\b", templates)]
        assert not unused, unused
    with report.check("the chart is for Kubernetes 1.25 and newer"):
        for version, wanted in (("1.24.9", False), ("1.25.0", True), ("1.29.3-gke.1", True)):
            done = tools.run("helm", "template", "injector", CHART, "--kube-version", version)
            assert (done.returncode == 0) == wanted, f"{version}: {done.stderr}"
    with report.check("the notes name the prefix, and how to bring a Secret that is not there"):
        for values, told in (({"prefix": "example.com"}, False), ({"certificates": {"source": "existing"}}, True)):
            args = ("install", "injector", CHART, "--namespace", "w", "--dry-run=client", "--values", "-")
            notes = tools.run("helm", *args, input=json.dumps(values)).stdout.partition("NOTES:")[2]
            assert f"{values.get('prefix', 'wechat-sidecar.dev')}/inject" in notes, notes
            assert ("webhook-certs --service wechat-sidecar-injector --namespace w " in notes) == told, notes
    with report.check("a budget for disruptions stands beside several replicas only, for one could never be moved"):
        for replicas in (1, 2):
            kinds = {thing["kind"] for thing in rendered(tools, {"replicas": replicas})}
            assert ("PodDisruptionBudget" in kinds) == (replicas > 1), (replicas, kinds)
    things = {thing["kind"]: thing for thing in rendered(tools, GOOD["everything"], "elsewhere")}
    args = things["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    with report.check("defaults become --set, after an image that is the injector's"):
        said = [args[at + 1] for at, arg in enumerate(args) if arg == "--set"]
        assert said == [
            "config-map=wechat",
            "cpu-request=1",
            "https=true",
            f"image=registry.example.com/w@sha256:{'0' * 64}",
            "mode=transparent",
            "readiness=false",
            "sidecar=classic",
            "trust-also=company-roots",
            "trust-env=requests, java",
        ], said
    with report.check("another prefix is the program's, the selectors' and the webhooks'"):
        assert args[args.index("--prefix") + 1] == "sidecars.example.com"
        text = json.dumps(things["MutatingWebhookConfiguration"])
        assert "sidecars.example.com/inject" in text and "wechat-sidecar.dev" not in text, text
    with report.check("another namespace is excluded, and its name is the Service's and the certificate's"):
        configuration = things["MutatingWebhookConfiguration"]
        assert configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].startswith("elsewhere/")
        for webhook in configuration["webhooks"]:
            assert webhook["clientConfig"]["service"]["namespace"] == "elsewhere"
            assert webhook["failurePolicy"] == "Ignore" and webhook["timeoutSeconds"] == 3
            excluded = webhook["namespaceSelector"]["matchExpressions"][-1]["values"]
            assert excluded == ["kube-system", "kube-node-lease", "elsewhere", "kube-public"], excluded
    with report.check("a CA is published as base64 of PEM, however it was given"):
        given = {"certificates": {**PROVIDED, "caBundle": "LS0tLS1C\n RUdJTg==\n"}}
        for values, wanted in ((GOOD["provided certificates"], "LS0tLS1CRUdJTiBD"), (given, "LS0tLS1CRUdJTg==")):
            made = {thing["kind"]: thing for thing in rendered(tools, values)}
            for webhook in made["MutatingWebhookConfiguration"]["webhooks"]:
                assert webhook["clientConfig"]["caBundle"].startswith(wanted), webhook["clientConfig"]
    with report.check("the port is the container's, the Service's and the policy's"):
        assert things["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] == 8443
        assert things["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] == 8443
