"""Checks what the program injects: the golden files, and that it says what the manifests say."""

import argparse
import json
import pathlib
import re
import subprocess
import sys

import check_bootstrap
import kube
import restricted
from check_manifests import Tools
from report import Report

NAME = "wechat-sidecar"


def pairs(folder):
    """Name, input and output of each golden file."""
    for before in sorted(folder.glob("*.in.*")):
        after = before.with_name(before.name.replace(".in.", ".out."))
        yield before.name.split(".in.")[0], kube.load(before.read_text()), kube.load(after.read_text())


def ours(spec):
    """The sidecars of a pod, each with the list that it stands in and its place there."""
    for kind in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(kind) or []):
            if container["name"] == NAME:
                yield kind, at, container


def check_pair(report, name, before, after):
    """Whether an output is as right as its input was. Says which inputs are odd themselves."""
    with report.check(f"{name}: as many objects come out as went in"):
        assert len(before) == len(after), f"{len(before)} and {len(after)}"
    odd = set()
    added, wrong = [], []
    for old, new in zip(before, after):
        for version in kube.versions():
            if kube.problems(old, version):
                odd.add(version)
            else:
                wrong += kube.problems(new, version)
        meta, spec = kube.template(new)
        if spec is None:
            continue
        old_meta, old_spec = kube.template(old)
        found = set(restricted.violations(spec, meta.get("annotations")))
        added += found - set(restricted.violations(old_spec, old_meta.get("annotations")))
        had = [container for _, _, container in ours(old_spec)]
        for kind, at, container in ours(spec):
            if container not in had:
                added += restricted.violations({"containers": [container]})
                if at:
                    wrong.append(f"{kube.name(new)}: the sidecar is not the first of {kind}")
    report.none(f"{name}: the output validates strictly where the input does", wrong)
    report.none(f"{name}: injection violates nothing of the restricted standard", added)
    return odd


def check_files(report, folder):
    files, odd = 0, []
    for name, before, after in pairs(folder):
        files += 1
        if check_pair(report, name, before, after):
            odd.append(name)
    with report.check("there are at least 60 golden files"):
        assert files >= 60, files
    if odd:
        print(f"odd by themselves, in some version at least: {', '.join(odd)}")


# The components, and the settings by which the program injects the same.
COMPONENTS = {
    "native": ["sidecar=native"],
    "classic": ["sidecar=classic"],
    "https": ["mode=transparent", "https=true"],
}


def by_name(things):
    return sorted(things, key=lambda one: one["name"])


def sidecar(thing):
    """The sidecar of a workload with its volumes, and what the pod and the app's containers get for its sake."""
    _, spec = kube.template(thing)
    ((kind, at, found),) = ours(spec)
    # Its variables' order means nothing, as none is made of another.
    found = {**found, "env": by_name(found["env"]), "volumeMounts": by_name(found["volumeMounts"])}
    volumes = by_name(volume for volume in spec["volumes"] if volume["name"].startswith(NAME))
    pod = (spec.get("hostAliases"), spec.get("securityContext"))
    apps = {
        container["name"]: (by_name(container["env"]), container.get("volumeMounts"))
        for container in spec["containers"]
        if container["name"] != NAME
    }
    return kind, at, found, volumes, pod, apps


def check_components(report, tools):
    """The sidecar that kustomize's components put in is the one that the program injects."""
    overlays = kube.HERE / "overlays"
    workloads = tools.output("kubectl", "kustomize", overlays / "workloads")
    labelled = {thing["metadata"]["name"] for thing in kube.load(workloads)} - {"opted-out", "unlabelled"}
    for mode, settings in COMPONENTS.items():
        sets = [word for setting in settings for word in ("--set", setting)]
        done = tools.run("binary", "inject", "-f", "-", *sets, input=workloads)
        with report.check(f"the program injects the {mode} workloads of the tests"):
            assert done.returncode == 0, done.stderr
        injected = {thing["metadata"]["name"]: thing for thing in kube.load(done.stdout)}
        built = {thing["metadata"]["name"]: thing for thing in tools.kustomize(overlays / mode)}
        for name in sorted(labelled):
            with report.check(f"the {mode} component gives a {name} the sidecar that the program does"):
                one, other = sidecar(built[name]), sidecar(injected[name])
                assert one == other, f"kustomize {json.dumps(one)}\nprogram {json.dumps(other)}"
    with report.check("what a component made, the program leaves as it is"):
        text = tools.output("kubectl", "kustomize", kube.K8S / "example")
        done = tools.run("binary", "inject", "-f", "-", input=text)
        assert done.returncode == 0 and kube.load(done.stdout) == kube.load(text), done.stderr


def check_injector(report, tools):
    """The program takes what the injector's manifests give it, and has the settings that the chart has."""
    with report.check("the program takes the arguments in the injector's Deployment"):
        for folder in (kube.K8S / "injector", kube.HERE / "overlays/namespace-annotations"):
            (deployment,) = (thing for thing in tools.kustomize(folder) if thing["kind"] == "Deployment")
            args = kube.template(deployment)[1]["containers"][0]["args"]
            # Without its certificate it ends at once, after it has read its arguments.
            args = ["/nonexistent/tls.crt" if arg == "/run/tls/tls.crt" else arg for arg in args]
            done = tools.run("binary", *args, timeout=20)
            assert done.returncode and "/nonexistent/tls.crt" in done.stderr + done.stdout, done.stderr
    with report.check("the chart's defaults are the program's settings, and both guides list them"):
        shown = tools.output("binary", "inject", "--help").partition("Settings")[2]
        settings = re.findall(r"^  ([a-z-]+) ", shown, re.M)
        schema = json.loads((kube.K8S / "chart/values.schema.json").read_text())
        assert settings and set(settings) == set(schema["properties"]["defaults"]["properties"]), settings
        for guide in kube.GUIDES:
            listed = re.findall(r"^\| `([a-z-]+)` \|", guide.read_text(), re.M)
            assert listed == settings, f"{guide}: {listed}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    for tool in ("binary", "kubectl", "helm"):
        parser.add_argument(f"--{tool}", type=pathlib.Path, required=True)
    paths = parser.parse_args()
    report = Report()
    check_files(report, paths.folder)
    try:
        check_components(report, Tools(paths))
        check_injector(report, Tools(paths))
        check_bootstrap.check(report, Tools(paths))
    except subprocess.TimeoutExpired as error:
        with report.check("the program ends by itself"):
            raise AssertionError(error) from None
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
