"""The promises about an injected pod, each with a world of its own."""

import os
import re
import threading
import time

import apps
from expect import (
    ADMIN_PORT,
    APP,
    LONG,
    SIDECAR,
    TRANSPARENT,
    check_confined,
    check_healthy,
    check_no_call_lost,
    order,
    plain,
    pod_spec,
    rotate_under,
    secrets_in,
    sidecar_of,
    until_app_says,
    until_over,
    until_ready,
    with_init,
)
from kubelet import LEAST_GRACE
from world import APPID, SECRET, until


def native_drains(world):
    """A native sidecar serves its app from its first instruction until it has drained, while tokens end under it."""
    world.images["wechat-sidecar:0.1.0"].delay = 1
    pod = world.run(world.inject(plain("Deployment", DRAIN="3", FIRST="yes")))
    until_ready(pod)
    check_confined(pod)
    rotate_under(world, 3)
    ending = threading.Thread(target=pod.delete, daemon=True)
    ending.start()
    until_app_says(pod, "draining")
    rotate_under(world, 1)
    ending.join()
    said, stats = check_no_call_lost(world, pod)
    check_healthy(pod)
    assert said["while_draining"] > 20, said
    assert order(pod) == [("SIGTERM", APP), ("exited", APP), ("SIGTERM", SIDECAR), ("exited", SIDECAR)], order(pod)
    assert pod[APP].exit_codes == pod[SIDECAR].exit_codes == [0] and pod.phase == "Succeeded"
    return f"{said['succeeded']} calls, {stats['refused']} healed, {said['while_draining']} while draining"


def native_overstayed(world):
    """A native sidecar ends well though its app has used up the grace and was killed."""
    pod = world.run(world.inject(plain("Pod", 2, DRAIN="100")))
    until_app_says(pod, "calls succeed")
    took = pod.delete()
    assert order(pod) == [
        ("SIGTERM", APP),
        ("SIGKILL", APP),
        ("exited", APP),
        ("SIGTERM", SIDECAR),
        ("exited", SIDECAR),
    ], order(pod)
    assert pod[SIDECAR].exit_codes == [0] and "calls fail" not in pod[APP].log()
    assert took < 2 + LEAST_GRACE, took
    return f"after {took:.1f} s"


def classic_drains(world):
    """A classic sidecar, told to stop with its app, serves that until it has drained."""
    grace = 11
    pod = world.run(world.inject(plain("Pod", grace, {"sidecar": "classic"}, DRAIN="4")))
    until_ready(pod)
    check_confined(pod)
    rotate_under(world, 2)
    world.wechat("POST", "change", {"refusal_chance": 0.05})
    took = pod.delete()
    said, stats = check_no_call_lost(world, pod)
    check_healthy(pod)
    assert said["while_draining"] > 20, said
    assert set(order(pod)[:2]) == {("SIGTERM", APP), ("SIGTERM", SIDECAR)}, order(pod)
    assert order(pod)[2:] == [("exited", APP), ("exited", SIDECAR)], order(pod)
    assert pod[APP].exit_codes == pod[SIDECAR].exit_codes == [0]
    assert took < grace, took
    said = f"{said['succeeded']} calls, {stats['refused']} healed, {said['while_draining']} while draining"
    return f"{said}, the pod ended in {took:.1f} of {grace} s"


def classic_start(world):
    """A classic sidecar is there at its app's first instruction, though it starts slowly."""
    world.images["wechat-sidecar:0.1.0"].delay = 1.5
    world.wechat("POST", "change", {"token_delay_ms": 700})
    pod = world.run(world.inject(plain("Job", 6, {"sidecar": "classic"}, FIRST="yes", CALLS="3")))
    pod.until(lambda: pod[APP].finished, LONG, "the app has ended")
    assert pod[APP].exit_codes == [0]
    assert pod.happened("postStart", SIDECAR, code=0)
    check_healthy(pod)
    said, _ = check_no_call_lost(world, pod)
    return f"{said['succeeded']} calls"


def transparent(world):
    """An app that calls http://api.weixin.qq.com goes through the sidecar, which finds WeChat past /etc/hosts."""
    wanted = {"mode": "transparent", "readiness": "true"}
    pod = world.run(world.inject(plain("Deployment", annotations=wanted, BASE=TRANSPARENT, DRAIN="1")))
    until_ready(pod)
    check_confined(pod)
    until_app_says(pod, "calls succeed")
    rotate_under(world, 3)
    asked = set(world.dns.asked)
    pod.delete()
    said, _ = check_no_call_lost(world, pod)
    check_healthy(pod)
    assert ("api.weixin.qq.com", "A") in asked, asked
    # As it stands, without a detour over the search domains of the cluster.
    assert all(name.endswith("weixin.qq.com") for name, _ in asked), asked
    return f"{said['succeeded']} calls, DNS was asked {len(world.dns.asked)} times"


def https(world):
    """Apps on twelve clients call https://api.weixin.qq.com unchanged, while tokens end and the sidecar is killed."""
    manifest = plain("Pod", 2, {"mode": "transparent", "https": "true", "trust-env": "all"})
    manifest["spec"] |= apps.pod_spec(world.tools.python)
    names = [one["name"] for one in manifest["spec"]["containers"]]
    world.images["apps:1"] = apps.image(world.tools, world.images["shop:1"], apps.build(f"{world.folder}/built"))
    pod = world.run(world.inject(manifest))

    def said(word):
        """How often each app has begun a line with this word."""
        return {name: len(re.findall(f"^{word}", pod[name].log(), re.M)) for name in names}

    def until_all_make_a_round():
        """A whole one: each app is in the middle of one now."""
        before = said("round ")

        def so():
            assert not any(any(pod[name].exit_codes) for name in names), "an app has failed"
            return all(count >= before[name] + 2 for name, count in said("round ").items())

        until(so, LONG, f"each of {', '.join(names)} makes a round")

    until_ready(pod)
    assert pod["once"].exit_codes == [0]
    until_all_make_a_round()
    check_confined(pod)
    check_secrets_are_private(pod, names)
    rotate_under(world, 2)
    stats = world.stats()
    assert stats["cut_short"] == 0 and not any(said("again").values()), (stats, said("again"))
    pod[SIDECAR].process.kill()
    pod.until(lambda: pod[SIDECAR].restarts == 1 and len(pod.happened("up", SIDECAR)) == 2, LONG, "a new sidecar")
    until_all_make_a_round()
    cut = said("again")
    rotate_under(world, 1)
    apps.end(pod)
    until_over(pod)
    # Only while there was no sidecar did a call get no reply; and all replies were right, or the app would have failed.
    assert any(cut.values()) and said("again") == cut, (cut, said("again"))
    for name in names:
        assert re.search(f"^\\d+ rounds without an error; its token was sidecar-{APPID}$", pod[name].log(), re.M), name
    stats = world.stats()
    assert stats["malformed"] == 0 and not stats["saw_placeholder"], stats
    rounds, again = sum(said("round ").values()), sum(cut.values())
    return f"{rounds} rounds of {len(names)} apps, {stats['refused']} calls healed, {again} rounds begun again"


def check_secrets_are_private(pod, names):
    """Neither the AppSecret nor the CA's key is in an app: in its environment, its own files, its volumes, its log."""
    with open(os.path.join(pod.volumes["wechat-sidecar-ca"], "ca", "issuing.key"), "rb") as file:
        key = max(file.read().split(), key=len)
    secrets = {"AppSecret": SECRET.encode(), "key": key, "any key": b"PRIVATE KEY"}
    # That it is found in the sidecar shows that it would be found in an app.
    assert set(secrets_in(pod[SIDECAR], secrets)) == set(secrets), secrets_in(pod[SIDECAR], secrets)
    for name in names:
        assert not secrets_in(pod[name], secrets), (name, secrets_in(pod[name], secrets))


def transparent_meets_hosts(world):
    """Without skip-hosts-file the sidecar would meet its own hosts entry."""
    manifest = world.inject(plain("Pod", 5, {"mode": "transparent"}, BASE=TRANSPARENT, OUTAGES="yes"))
    container = sidecar_of(manifest)
    kept = [one for one in container["env"] if one["name"] != "WECHAT_SIDECAR_SKIP_HOSTS_FILE"]
    assert len(kept) == len(container["env"]) - 1
    container["env"] = kept
    pod = world.run(manifest)
    until_app_says(pod, "calls fail")
    assert "api.weixin.qq.com" not in {name for name, _ in world.dns.asked}, world.dns.asked
    assert world.stats()["token_requests"] == 0
    return "no call succeeded"


def transparent_port(world):
    """Without the pod's sysctl the sidecar could not listen on port 80."""
    manifest = world.inject(plain("Pod", 5, {"mode": "transparent"}, BASE=TRANSPARENT))
    assert pod_spec(manifest)["securityContext"].pop("sysctls")
    pod = world.run(manifest)
    pod.until(lambda: pod.happened("exited", SIDECAR), LONG, "the sidecar gives up")
    assert pod[SIDECAR].exit_codes[0] == 1 and "127.0.0.1:80 cannot be listened on" in pod[SIDECAR].log()
    assert not pod.happened("started", APP)
    return "it says so and exits with 1"


def outlives(world, go_away, sidecar):
    """What every outage has in common; returns how long the first call took when WeChat was back."""
    go_away()
    # A tenth of the liveness probe's period; its threshold stays.
    pod = world.run(world.inject(plain("Pod", 6, {"sidecar": sidecar}, OUTAGES="yes")), scale=0.1)

    def stays_alive():
        seen = len(pod.happened("probe", SIDECAR, probe="liveness"))
        pod.until(
            lambda: len(pod.happened("probe", SIDECAR, probe="liveness")) >= seen + 4, LONG, "four more liveness probes"
        )

    until_ready(pod)
    until_app_says(pod, "calls fail")
    stays_alive()
    assert "calls succeed" not in pod[APP].log()
    world.network.internet_is_back()
    world.network.wechat_answers()
    back = time.monotonic()
    until_app_says(pod, "calls succeed")
    took = time.monotonic() - back
    # And away again, under a pod that runs.
    go_away()
    stays_alive()
    check_healthy(pod)
    assert not pod.happened("not ready")
    problems = [one["problem"] for one in pod.happened("probe", SIDECAR, probe="liveness")]
    assert not any(problems), problems
    ready = pod.happened("ready")[0]["at"]
    return f"ready after {ready:.1f} s, the first call {took:.1f} s after its end"


def refused(world):
    """While WeChat refuses connections, a pod starts, stays alive and ready, and works when that is over."""
    return outlives(world, world.network.wechat_refuses, "native")


def swallowed(world):
    """The same holds while all packets to WeChat are lost."""
    return outlives(world, world.network.wechat_is_swallowed, "native")


def offline(world):
    """The same holds for a classic pod while there is no network at all, DNS included."""
    return outlives(world, world.network.internet_is_swallowed, "classic")


def native_job(world):
    """A Job's pod with a native sidecar ends when its app does, and serves initContainers before that."""
    pod = world.run(world.inject(with_init(plain("Job", CALLS="5"))))
    until_over(pod)
    said, _ = check_no_call_lost(world, pod)
    check_healthy(pod)
    assert order(pod) == [("exited", "prepare"), ("exited", APP), ("SIGTERM", SIDECAR), ("exited", SIDECAR)], order(pod)
    assert pod[APP].exit_codes == pod[SIDECAR].exit_codes == [0]
    took = pod.events[-1]["at"] - pod.happened("exited", APP)[0]["at"]
    assert took < 5, took
    return f"{said['succeeded']} calls, the pod ended {took:.1f} s after its app"


def accounts_job(world):
    """A sidecar serves the accounts of a ConfigMap, whose secrets are keys of the Secret."""
    wanted = {"accounts": "config-map", "config-map": "wechat-accounts"}
    pod = world.run(world.inject(plain("Job", annotations=wanted, CALLS="5")))
    until_over(pod)
    said, _ = check_no_call_lost(world, pod)
    assert "WECHAT_APPID" not in pod[SIDECAR].process.spec["env"]
    check_healthy(pod)
    return f"{said['succeeded']} calls"


def classic_job(world):
    """A Job's pod with a classic sidecar ends when its app asks the sidecar to."""
    goodbye = f"http://127.0.0.1:{ADMIN_PORT}/quitquitquit"
    pod = world.run(world.inject(plain("Job", 30, {"sidecar": "classic"}, CALLS="5", GOODBYE=goodbye)))
    until_over(pod)
    said, _ = check_no_call_lost(world, pod)
    # Nobody else has told it, and which of the two ends first is nobody's business.
    assert set(order(pod)) == {("exited", APP), ("exited", SIDECAR)}, order(pod)
    assert pod[APP].exit_codes == pod[SIDECAR].exit_codes == [0]
    took = pod.events[-1]["at"] - pod.happened("exited", APP)[0]["at"]
    assert took < 5, took
    return f"{said['succeeded']} calls, the pod ended {took:.1f} s after its app"


ALL = {
    "refused": refused,
    "swallowed": swallowed,
    "offline": offline,
    "native-drains": native_drains,
    "native-overstayed": native_overstayed,
    "native-job": native_job,
    "accounts-in-a-config-map": accounts_job,
    "classic-start": classic_start,
    "classic-drains": classic_drains,
    "classic-job": classic_job,
    "transparent": transparent,
    "https": https,
    "transparent-without-skip-hosts-file": transparent_meets_hosts,
    "transparent-without-sysctl": transparent_port,
}
