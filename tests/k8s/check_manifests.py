"""Checks everything in k8s/, the Dockerfile and the examples that is not a program: see main(). image.py builds the image."""

import argparse
import pathlib
import subprocess
import sys

import yaml

import check_chart
import check_examples
import check_monitoring
import check_restricted
import kube
import restricted
from report import Report

FOLDERS = ["base", "example", "job", "injector", "cert-manager", "monitoring"]
OVERLAYS = ["native", "classic", "https", "namespace-annotations"]


class Tools:
    """Programs from elsewhere."""

    def __init__(self, paths):
        self.paths = {name: str(path) for name, path in vars(paths).items()}

    def run(self, tool, *args, **more):
        """Output, error output and whether it went well."""
        done = subprocess.run([self.paths[tool], *map(str, args)], capture_output=True, text=True, check=False, **more)
        return done

    def output(self, tool, *args):
        done = self.run(tool, *args)
        assert done.returncode == 0, f"{tool} {' '.join(map(str, args))}: {done.stderr}"
        return done.stdout

    def kustomize(self, folder):
        """All objects that a kustomization makes."""
        return kube.load(self.output("kubectl", "kustomize", folder))


def pods(things):
    """The pod specs of those objects that have one, by name."""
    for thing in things:
        meta, spec = kube.template(thing)
        if spec is not None:
            yield kube.name(thing), meta, spec


def unrestricted(things):
    """Where pods do not meet the restricted standard."""
    for name, meta, spec in pods(things):
        for violation in restricted.violations(spec, meta.get("annotations")):
            yield f"{name}: {violation}"


def sidecars(spec, kind="initContainers"):
    return [at for at, container in enumerate(spec.get(kind) or []) if container["name"] == "wechat-sidecar"]


def check_files(report):
    """Every YAML file is used, and each whole object in it is right by itself."""
    used, objects = set(), []
    for file in sorted(kube.K8S.rglob("kustomization.yaml")):
        if "chart" in file.parts:
            continue
        used.add(file)
        said = yaml.safe_load(file.read_text())
        patches = [patch["path"] for patch in said.get("patches", []) if "path" in patch]
        for entry in said.get("resources", []) + patches:
            path = (file.parent / entry).resolve()
            if path.is_file():
                used.add(path)
                if entry not in patches:
                    objects += kube.load(path.read_text())
    every = {file for file in kube.K8S.rglob("*.yaml") if "chart" not in file.parts}
    report.none("no manifest is left out of the kustomizations", (str(file) for file in every - used))
    report.none("each manifest validates strictly in each version", kube.all_problems(objects))


def check_kustomizations(report, tools):
    """What each folder and each overlay of the tests builds."""
    built = {}
    for folder in [kube.K8S / name for name in FOLDERS] + [kube.HERE / "overlays" / name for name in OVERLAYS]:
        with report.check(f"kustomize builds {folder.name}"):
            built[folder.name] = tools.kustomize(folder)
    for name, things in built.items():
        # A sidecar that is an init container is unknown before 1.28, and here is nothing older.
        report.none(f"what kustomize builds of {name} validates strictly", kube.all_problems(things))
        if name not in ("native", "classic", "https"):
            report.none(f"the pods of {name} meet the restricted standard", unrestricted(things))
    return built


def check_components(report, built):
    """The components put the sidecar where it belongs, and nowhere else."""
    both = ("initContainers", "containers")
    for name, (kind, other) in {"native": both, "classic": both[::-1], "https": both}.items():
        things = {thing["metadata"]["name"]: thing for thing in built[name]}
        left = {label: things.pop(label) for label in ("opted-out", "unlabelled")}
        report.none(
            f"{name}: workloads without the label keep what they had",
            (label for label, thing in left.items() if "wechat" in str(kube.template(thing)[1]).lower()),
        )
        for label, thing in things.items():
            with report.check(f"{name}: the {label} has one sidecar, first among its {kind}"):
                meta, spec = kube.template(thing)
                assert sidecars(spec, kind) == [0] and not sidecars(spec, other), spec
                sidecar = spec[kind][0]
                assert (sidecar.get("restartPolicy") == "Always") == (name != "classic")
                apps = [container for container in spec["containers"] if container is not sidecar]
                for app in apps:
                    found = [one for one in app["env"] if one["name"] == "WECHAT_API_BASE_URL"]
                    assert found == [{"name": "WECHAT_API_BASE_URL", "value": "http://127.0.0.1:7080"}], app
                    mounts = [one for one in app.get("volumeMounts", []) if one["name"] == "wechat-sidecar-trust"]
                    assert [one["readOnly"] for one in mounts] == [True] * (name == "https"), app
                assert "WECHAT_API_BASE_URL" not in str(sidecar)
                assert "wechat-sidecar-ca" not in str(apps)
                assert [container["name"] for container in apps] == ["app", "helper"]
                own = [container["name"] for container in spec["initContainers"] if container is not sidecar]
                assert own == ["migrate", "proxy"], own
                # The label on a Pod is the pod's; elsewhere the template's.
                assert meta["labels"]["wechat-sidecar.dev/inject"] == "false", meta
                ends = "WECHAT_SIDECAR_ENABLE_SHUTDOWN" in str(sidecar["env"])
                assert ends == (name == "classic" and thing["kind"] in ("Job", "CronJob")), sidecar["env"]
        with report.check(f"{name}: every kind gets the same sidecar"):
            every = [plain(kube.template(thing)[1], kind) for thing in things.values()]
            assert all(one == every[0] for one in every), every
        report.none(
            f"{name}: the sidecar meets the restricted standard",
            restricted.violations({"containers": [kube.template(next(iter(things.values())))[1][kind][0]]}),
        )


def plain(spec, kind):
    """A pod's sidecar with its volume, without what Jobs have more."""
    sidecar = dict(spec[kind][0])
    sidecar["env"] = [one for one in sidecar["env"] if one["name"] != "WECHAT_SIDECAR_ENABLE_SHUTDOWN"]
    return sidecar, [volume for volume in spec["volumes"] if volume["name"] == "wechat-sidecar-secret"]


def check_injector(report, built):
    """What no schema says about the injector."""
    things = {thing["kind"]: thing for thing in built["injector"]}
    with report.check("the injector has no rights unless namespaces' annotations are wanted"):
        assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & set(things), list(things)
        more = {thing["kind"]: thing for thing in built["namespace-annotations"]}
        assert more["ClusterRole"]["rules"] == [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]
        assert more["ClusterRoleBinding"]["subjects"][0]["namespace"] == "wechat-sidecar"
    deployment = things["Deployment"]["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    with report.check("pods get the image that the injector runs"):
        args = container["args"]
        assert args[args.index("--set") + 1] == "image=" + container["image"], args
    with report.check("an injector without certificates and one with cert-manager's mount the same Secret"):
        certificates = {one["metadata"]["name"]: one for one in built["cert-manager"] if one["kind"] == "Certificate"}
        leaf = certificates["wechat-sidecar-injector-tls"]["spec"]
        assert leaf["secretName"] == deployment["template"]["spec"]["volumes"][0]["secret"]["secretName"]
        assert "wechat-sidecar-injector.wechat-sidecar.svc" in leaf["dnsNames"]
    with report.check("the pod's word beats the namespace's, and no pod is reviewed for both"):
        check_selectors(things["MutatingWebhookConfiguration"])
    with report.check("everything has the injector's label, and every selector selects its pods"):
        labels = deployment["template"]["metadata"]["labels"].items()
        for thing in built["injector"]:
            assert thing["metadata"]["labels"]["app.kubernetes.io/name"] == "wechat-sidecar-injector", kube.name(thing)
        assert things["Service"]["spec"]["selector"].items() <= labels
        assert things["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
        assert things["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    with report.check("the network policy lets the webhook's port through"):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        service = things["Service"]["spec"]["ports"][0]
        assert things["NetworkPolicy"]["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": ports[service["targetPort"]]}]}]


def selects(selector, labels):
    """Whether a label selector of the API's selects something with `labels`."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in (selector or {}).get("matchExpressions") or []:
        has = term["key"] in labels if "values" not in term else labels.get(term["key"]) in term["values"]
        if has != (term["operator"] in ("In", "Exists")):
            return False
    return True


def check_selectors(configuration):
    """Which webhook sees a pod, for all that its labels and its namespace's may say."""
    own = ("kube-system", "kube-node-lease", "wechat-sidecar")
    for namespace in ("shop", *own):
        for injection in (None, "enabled", "disabled", "true", "Enabled"):
            for inject in (None, "true", "false", "yes", "True"):
                around = {"kubernetes.io/metadata.name": namespace, "wechat-sidecar.dev/injection": injection}
                pod = {"wechat-sidecar.dev/inject": inject}
                seen = [
                    webhook["name"].split(".")[0]
                    for webhook in configuration["webhooks"]
                    if selects(webhook["namespaceSelector"], {key: value for key, value in around.items() if value})
                    and selects(webhook["objectSelector"], {key: value for key, value in pod.items() if value})
                ]
                assert seen == reviewer(namespace in own, injection, inject), f"{namespace} {injection} {inject}: {seen}"


def reviewer(untouched, injection, inject):
    """The webhook of a pod with this label in a namespace with that one, as the documents say."""
    if untouched or inject == "false":
        return []
    if inject == "true":
        return ["pod"]
    if inject is not None:
        return [] if injection == "disabled" else ["unclear-pod"]
    return {None: [], "disabled": [], "enabled": ["namespace"]}.get(injection, ["unclear-namespace"])


def main():
    parser = argparse.ArgumentParser()
    for tool in ("helm", "kubectl", "promtool", "hadolint"):
        parser.add_argument(f"--{tool}", type=pathlib.Path, required=True)
    tools = Tools(parser.parse_args())
    report = Report()
    check_restricted.check(report)
    check_files(report)
    built = check_kustomizations(report, tools)
    check_components(report, built)
    check_injector(report, built)
    check_chart.check(report, tools, built)
    check_monitoring.check(report, tools)
    check_examples.check(report, tools)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
