"""The webhook's certificates without cert-manager: what webhook-certs writes, and that no command takes the webhooks' rules away."""

import base64
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile

import check_chart
import kube

NAME = "wechat-sidecar-injector"
CONFIGURATIONS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
# What a webhook loses when it is applied without.
WHOLE = ("clientConfig", "rules", "namespaceSelector", "objectSelector", "admissionReviewVersions", "sideEffects", "failurePolicy")
TEXTS = (".md", ".txt", ".yaml", ".json", ".tpl", ".py", ".rs", ".sh")
MANIFEST = kube.K8S / "injector/mutatingwebhookconfiguration.yaml"

# A cluster in a folder, for as much as the documents do to it: the objects, and what was done.
KUBECTL = """#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>"$CLUSTER/log"
case "$*" in
"apply -k k8s/injector") cp "$MANIFEST" "$CLUSTER/configuration.yaml" ;;
"get mutatingwebhookconfiguration wechat-sidecar-injector -o jsonpath="*)
    "$KUBECTL" patch --local -f "$CLUSTER/configuration.yaml" -p '{}' -o "${*: -1}" ;;
"patch mutatingwebhookconfiguration wechat-sidecar-injector --patch-file "*)
    "$KUBECTL" patch --local -f "$CLUSTER/configuration.yaml" --patch-file "${*: -1}" -o yaml >"$CLUSTER/patched"
    mv "$CLUSTER/patched" "$CLUSTER/configuration.yaml" ;;
"apply --server-side -f "*) cp "${*: -1}" "$CLUSTER/applied.yaml" ;;
*) echo "this cluster does not know: kubectl $*" >&2; exit 1 ;;
esac
"""


def partial(things):
    """The webhooks that are less than whole."""
    for thing in things:
        if isinstance(thing, dict) and thing.get("kind") in CONFIGURATIONS:
            for webhook in thing.get("webhooks") or [{}]:
                missing = [field for field in WHOLE if not webhook.get(field)]
                if missing:
                    yield f"{kube.name(thing)}, {webhook.get('name')}: without {', '.join(missing)}"


def texts():
    """Every text of the project, by its path."""
    for folder, folders, files in os.walk(kube.ROOT):
        folders[:] = [one for one in folders if one not in ("target", ".git")]
        for file in files:
            path = pathlib.Path(folder) / file
            if path.suffix in TEXTS or not path.suffix:
                with contextlib.suppress(UnicodeDecodeError):
                    yield path.relative_to(kube.ROOT), path.read_text()


def check_texts(report):
    """No document and no manifest has a partial object, nor a command that could apply one."""
    found, piped = [], []
    for path, text in texts():
        command = re.sub(r"\\\n[ #/!]*", "", re.sub(r"\|\s*\n[ #/!]*", "| ", text))
        piped += [f"{path}: {line}" for line in command.splitlines() if re.search(r"webhook-certs.*\| *kubectl ", line)]
        blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S) if path.suffix == ".md" else [text]
        for block in blocks:
            # A chart's template is none of these before it is rendered.
            if re.search(r"^kind: .*WebhookConfiguration", block, re.M) and "{{" not in block:
                found += [f"{path}: {problem}" for problem in partial(kube.load(block))]
    report.none("no document and no manifest has a WebhookConfiguration without rules", found)
    report.none("no document pipes webhook-certs to kubectl", piped)


def check_outputs(report, tools):
    """Nothing that kustomize, the chart or the program makes is a partial object."""
    folders = sorted({file.parent for root in (kube.K8S, kube.HERE) for file in root.rglob("kustomization.yaml")})
    things = []
    with report.check("kustomize builds at least the injector and what is made of it"):
        # A component is built by an overlay.
        folders = [folder for folder in folders if "kind: Component" not in (folder / "kustomization.yaml").read_text()]
        things = [thing for folder in folders for thing in tools.kustomize(folder)]
        assert sum(thing["kind"] in CONFIGURATIONS for thing in things) >= 3, folders
    report.none("kustomize builds no WebhookConfiguration without rules", partial(things))
    for name, values in check_chart.GOOD.items():
        report.none(f"the chart renders none with {name}", partial(check_chart.rendered(tools, values)))


def bundle(thing):
    """The certificates that both webhooks trust."""
    (found,) = {webhook["clientConfig"]["caBundle"] for webhook in thing["webhooks"]}
    return re.findall(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n", base64.b64decode(found).decode())


class Cluster:
    """The folder that the commands of the documents run in, with that script as kubectl."""

    def __init__(self, tools, folder, manifest=MANIFEST):
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "bin/kubectl").write_text(KUBECTL)
        (folder / "bin/kubectl").chmod(0o755)
        (folder / "bin/wechat-sidecar").symlink_to(pathlib.Path(tools.paths["binary"]).resolve())
        (folder / "configuration.yaml").write_text(pathlib.Path(manifest).read_text())
        self.environment = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "CLUSTER": str(folder),
            "KUBECTL": str(pathlib.Path(tools.paths["kubectl"]).resolve()),
            "MANIFEST": str(manifest),
        }

    def run(self, commands):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stderr}"

    def read(self, file):
        (thing,) = kube.load((self.folder / file).read_text())
        return thing

    def check(self, cas):
        """The webhooks are as they were, but for a CA, and trust that of the Secret first."""
        configuration, secret = self.read("configuration.yaml"), self.read("applied.yaml")
        found = [*partial([configuration]), *kube.all_problems([configuration, secret])]
        assert not found, found
        trusted = bundle(configuration)
        assert len(trusted) == cas and base64.b64decode(secret["data"]["ca.crt"]).decode() == trusted[0], trusted
        for webhook in configuration["webhooks"]:
            del webhook["clientConfig"]["caBundle"]
        (before,) = kube.load(pathlib.Path(self.environment["MANIFEST"]).read_text())
        assert configuration == before, configuration
        log = (self.folder / "log").read_text().splitlines()
        assert log[-2].startswith("patch ") and log[-1].startswith("apply --server-side"), log
        return secret


def check_commands(report, tools):
    """What the documents tell an operator to do, done."""
    text = kube.GUIDES[0].read_text()
    blocks = [block for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if "--patch-file" in block]
    with report.check("the documented commands give the webhooks a CA, keep the old one, and change nothing else"):
        bootstrap, roll = blocks
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(tools, pathlib.Path(folder))
            cluster.run(bootstrap)
            secret = cluster.check(1)
            manifests = {thing["kind"]: thing for thing in tools.kustomize(kube.K8S / "injector")}
            mounted = kube.template(manifests["Deployment"])[1]["volumes"][0]["secret"]["secretName"]
            assert (secret["metadata"]["name"], secret["type"]) == (mounted, "kubernetes.io/tls")
            assert {"tls.crt", "tls.key"} <= set(secret["data"]), list(secret["data"])
            old = bundle(cluster.read("configuration.yaml"))
            cluster.run(roll)
            cluster.check(2)
            assert bundle(cluster.read("configuration.yaml"))[1:] == old
    for prefix in ("wechat-sidecar.dev", "sidecars.example.com"):
        with report.check(f"the chart's notes do so for the prefix {prefix}"):
            values = {"certificates": {"source": "existing", "secretName": "mine"}, "prefix": prefix}
            args = ("install", "injector", check_chart.CHART, "--namespace", "w", "--dry-run=client", "--values", "-")
            notes = tools.run("helm", *args, input=json.dumps(values)).stdout.partition("NOTES:")[2]
            lines = re.search(r"^ +wechat-sidecar webhook-certs .*?\n\n", notes + "\n\n", re.M | re.S)[0]
            (configuration,) = (thing for thing in check_chart.rendered(tools, values, "w") if thing["kind"] in CONFIGURATIONS)
            with tempfile.TemporaryDirectory() as folder:
                manifest = pathlib.Path(folder) / "manifest.yaml"
                manifest.write_text(json.dumps(configuration))
                cluster = Cluster(tools, pathlib.Path(folder), manifest)
                cluster.run(lines)
                metadata = cluster.check(1)["metadata"]
                assert metadata == {"name": "mine", "namespace": "w"}, metadata


def check_program(report, tools):
    """What the program writes and prints."""
    with tempfile.TemporaryDirectory() as folder:
        patch, secret = (pathlib.Path(folder) / name for name in ("patch.yaml", "secret.yaml"))
        args = ("webhook-certs", "--patch-file", patch, "--secret-file", secret, "--prefix")
        with report.check("kubectl refuses to apply the patch"):
            tools.output("binary", *args, "wechat-sidecar.dev")
            done = tools.run("kubectl", "apply", "--server-side", "-f", patch, env={"HOME": folder})
            assert done.returncode and "kind not set" in done.stderr, done.stderr
        with report.check("a patch for another prefix would add webhooks that the API server refuses"):
            tools.output("binary", *args, "other.example")
            added = kube.load(tools.output("kubectl", "patch", "--local", "-f", MANIFEST, "--patch-file", patch, "-o", "yaml"))
            assert len(added[0]["webhooks"]) == 8 and len(kube.all_problems(added)) >= 4 * len(kube.versions()), added
    with report.check("the chart takes what webhook-certs --format values prints"):
        values = tools.output("binary", "webhook-certs", "--format", "values")
        done = tools.run("helm", "template", "injector", kube.K8S / "chart", "-n", "wechat-sidecar", "--values", "-", input=values)
        assert done.returncode == 0, done.stderr
        things = {thing["kind"]: thing for thing in kube.load(done.stdout)}
        given = kube.load(values)[0]["certificates"]
        assert things["Secret"]["type"] == "kubernetes.io/tls"
        assert all(one["clientConfig"]["caBundle"] == given["caBundle"] for one in things["MutatingWebhookConfiguration"]["webhooks"])
        assert not [*partial(things.values()), *partial(kube.load(values))]


def check(report, tools):
    check_texts(report)
    check_outputs(report, tools)
    check_commands(report, tools)
    check_program(report, tools)
