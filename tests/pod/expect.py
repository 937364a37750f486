"""The manifests that go in, and what every scenario expects of a pod."""

import json
import os
import re

from world import APPID, SECRET, until

PREFIX = "wechat-sidecar.dev/"
TRANSPARENT = "http://api.weixin.qq.com"
SIDECAR, APP = "wechat-sidecar", "shop"
ADMIN_PORT = 7081
# Longer than anything here takes on a busy machine.
LONG = 60


def plain(kind="Pod", grace=30, annotations=None, **environment):
    """A manifest as its owner writes it, who knows of no sidecar but by the annotations."""
    values = {"APPID": APPID} | environment
    pod = {
        "metadata": {
            "labels": {"app": "shop", PREFIX + "inject": "true"},
            "annotations": {PREFIX + "config-map": "wechat-sidecar"}
            | {PREFIX + name: value for name, value in (annotations or {}).items()},
        },
        "spec": {
            "terminationGracePeriodSeconds": grace,
            "containers": [
                {
                    "name": APP,
                    "image": "shop:1",
                    "env": [{"name": name, "value": value} for name, value in values.items()],
                    "securityContext": {
                        "runAsUser": 1000,
                        "runAsGroup": 1000,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    name = {"name": "shop"}
    if kind == "Pod":
        pod["metadata"] |= name
        return {"apiVersion": "v1", "kind": "Pod", **pod}
    if kind == "Job":
        pod["spec"]["restartPolicy"] = "Never"
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": name, "spec": {"template": pod}}
    spec = {"selector": {"matchLabels": {"app": "shop"}}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": name, "spec": spec}


def pod_spec(manifest):
    return manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]


def sidecar_of(manifest):
    spec = pod_spec(manifest)
    both = spec.get("initContainers", []) + spec["containers"]
    return next(one for one in both if one["name"] == SIDECAR)


def with_init(manifest):
    """The same with an initContainer that makes calls, too."""
    spec = pod_spec(manifest)
    app = spec["containers"][0]
    calls = [{"name": "CALLS", "value": "3"}, {"name": "FIRST", "value": "yes"}]
    spec["initContainers"] = [{**app, "name": "prepare", "env": app["env"] + calls}]
    return manifest


def summary(container):
    """What an app says of itself at its end."""
    found = re.findall(r"^summary (.*)$", container.log(), re.M)
    assert len(found) == 1, f"{container.name} says nothing at its end"
    return json.loads(found[0])


def until_ready(pod):
    pod.until(lambda: pod.ready, LONG, "the pod is ready")


def until_app_says(pod, text, within=LONG):
    def so():
        assert not any(pod[APP].exit_codes), f"the app has ended, and has not said: {text}"
        return text in pod[APP].log()

    until(so, within, f"the app says: {text}")


def until_over(pod):
    """Waits for the end of a pod that nobody deletes."""
    pod.until(lambda: pod.phase in ("Succeeded", "Failed"), LONG, "the pod has ended")
    assert pod.phase == "Succeeded", pod.phase


def order(pod):
    """What happened at the end, in order."""
    ends = ("SIGTERM", "SIGKILL", "exited")
    return [(one["what"], one["container"]) for one in pod.events if one["what"] in ends]


def rotate_under(world, times):
    """Ends all tokens again and again, never between a call's two sends, for which there is no cure."""
    for _ in range(times):
        before = world.stats()
        world.wechat("POST", "rotate")

        def healed():
            now = world.stats()
            calm = now["refused"] == healed.refused
            healed.refused = now["refused"]
            return calm and now["refused"] > before["refused"] and now["calls"] > before["calls"] + 60

        healed.refused = -1
        until(healed, LONG, "calls go on after a rotation")


def check_no_call_lost(world, pod):
    """Each call of the app was answered well, and WeChat saw each of them."""
    all_said = [summary(one) for one in pod.containers.values() if one.name != SIDECAR]
    said, stats = all_said[-1], world.stats()
    assert not any(one["failures"] for one in all_said), all_said
    assert sum(one["succeeded"] for one in all_said) == stats["calls"] - stats["refused"], (all_said, stats)
    assert stats["cut_short"] == stats["malformed"] == 0 and not stats["saw_placeholder"], stats
    log = pod[SIDECAR].log()
    assert "panicked" not in log and SECRET not in log and not re.search(r"TOK\d+-", log), log
    return said, stats


def check_confined(pod):
    """The kernel says what the security context promises."""
    status = pod[SIDECAR].process.status()
    ids = (status["Uid"].split(), status["Gid"].split(), status["Groups"].split())
    assert ids == (["65532"] * 4, ["65532"] * 4, []), status
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(status[name], 16) for name in sets} == {0}, status
    assert status["NoNewPrivs"] == "1", status
    assert pod[SIDECAR].process.root_is_read_only()


def check_healthy(pod):
    """No probe has made the kubelet do anything, and nothing was restarted."""
    assert not pod.happened("unhealthy"), pod.happened("unhealthy")
    assert [one.restarts for one in pod.containers.values()] == [0] * len(pod.containers)


def secrets_in(container, secrets):
    """Where a running container has each of these, but for the files of its image, which are the machine's."""
    proc = f"/proc/{container.process.pid}"
    roots = [f"{proc}/root{one['mountPath']}" for one in container.spec["volumeMounts"]]
    paths = [container.log_path, f"{proc}/environ", f"{proc}/cmdline"]
    own = os.stat(f"{proc}/root").st_dev
    for at, folders, files in os.walk(f"{proc}/root"):
        folders[:] = [one for one in folders if os.lstat(os.path.join(at, one)).st_dev == own]
        paths += [os.path.join(at, one) for one in files if os.lstat(os.path.join(at, one)).st_dev == own]
    for root in roots:
        paths += [os.path.join(at, one) for at, _, files in os.walk(root) for one in files]
    found = {}
    for path in paths:
        with open(path, "rb") as file:
            text = file.read()
        found |= {what: path for what, secret in secrets.items() if secret in text}
    return found
