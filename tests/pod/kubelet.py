"""A kubelet for one pod: the order of its start and of its end, its hooks, its probes, its restarts.

It enforces no limits of CPU and memory. What it does not know of a manifest it refuses.
"""

import json
import os
import threading
import time

import files
import probes
from process import Process, Refused, spec_of

# The kubelet gives a sidecar this much however little of the grace is left.
LEAST_GRACE = 2
# How long it waits before each restart; the first is at once.
BACKOFF = (0, 10, 20, 40, 80, 160, 300)
KNOWN = {
    "containers", "initContainers", "volumes", "hostAliases", "securityContext", "restartPolicy",
    "terminationGracePeriodSeconds",
}  # fmt: skip


class Container:
    """A container of the pod, through all its restarts."""

    def __init__(self, spec, kind, policy, log):
        self.spec, self.name, self.kind, self.policy, self.log_path = spec, spec["name"], kind, policy, log
        self.process = None
        self.running = self.started = self.ready = self.finished = False
        self.exit_codes = []
        # Set when this run of it is over, and with it its probes.
        self.over = threading.Event()

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as file:
            return file.read()

    @property
    def restarts(self):
        return max(0, len(self.exit_codes) - self.finished)


class Pod:
    """Runs a manifest; `scale` shortens the periods of all probes but the startup probe's."""

    def __init__(self, manifest, images, objects, network, folder, scale=1):
        unknown = set(manifest["spec"]) - KNOWN
        if unknown:
            raise files.Unsupported(f"spec: {unknown}")
        self.manifest, self.images, self.objects, self.network = manifest, images, objects, network
        self.folder, self.scale = folder, scale
        self.grace = manifest["spec"].get("terminationGracePeriodSeconds", 30)
        self.phase, self.ready, self.ending = "Pending", False, False
        self.events, self.since = [], time.monotonic()
        self.changed = threading.Condition(threading.RLock())
        # Nothing starts behind the back of the end.
        self.launching = threading.Lock()
        os.makedirs(f"{folder}/logs")
        policy = manifest["spec"].get("restartPolicy", "Always")
        inits = manifest["spec"].get("initContainers", [])
        kinds = {"Always": "sidecar"}
        self.inits = [self._container(one, kinds.get(one.get("restartPolicy"), "init"), policy) for one in inits]
        self.sidecars = [one for one in self.inits if one.kind == "sidecar"]
        self.apps = [self._container(one, "app", policy) for one in manifest["spec"]["containers"]]
        self.containers = {one.name: one for one in self.inits + self.apps}

    def _container(self, spec, kind, policy):
        if kind == "sidecar":
            policy = "Always"
        elif kind == "init" and policy == "Always":
            policy = "OnFailure"
        return Container(spec, kind, policy, f"{self.folder}/logs/{spec['name']}.log")

    def __getitem__(self, name):
        return self.containers[name]

    # What happened

    def record(self, what, container=None, **more):
        """Writes down an event, and wakes who waits for a change."""
        with self.changed:
            self._write(what, container, more)
            lasting = self.sidecars + self.apps
            ready = self.phase == "Running" and all(one.running and one.started and one.ready for one in lasting)
            if ready != self.ready:
                self.ready = ready
                self._write("ready" if ready else "not ready", None, {})
            self.changed.notify_all()

    def _write(self, what, container, more):
        event = {"at": round(time.monotonic() - self.since, 3), "what": what}
        if container:
            event["container"] = container.name
        self.events.append(event | more)
        with open(f"{self.folder}/events.jsonl", "a") as file:
            file.write(json.dumps(self.events[-1]) + "\n")

    def happened(self, what, container=None, **more):
        """The events of this kind."""
        wanted = {"what": what, **more} | ({"container": container} if container else {})
        return [one for one in self.events if wanted.items() <= one.items()]

    def until(self, so, within, what):
        """Waits until this is so."""
        with self.changed:
            if not self.changed.wait_for(so, within):
                raise AssertionError(f"not within {within} s: {what}")

    def story(self):
        """All events, good probes aside, and the ends of the logs."""
        lines = [json.dumps(one) for one in self.events if one.get("problem", one) is not None]
        for one in self.containers.values():
            lines += [f"--- {one.name}", *one.log().splitlines()[-60:]]
        return "\n".join(lines)

    # The beginning

    def start(self):
        """Returns at once; the rest happens as it does."""
        spec = self.manifest["spec"]
        for one in spec.get("securityContext", {}).get("sysctls", []):
            self.network.sysctl(self.network.pod, one["name"], one["value"])
        files.written(f"{self.folder}/hosts", files.hosts(self.manifest))
        files.written(f"{self.folder}/resolv.conf", files.RESOLV_CONF)
        volumes = spec.get("volumes", [])
        self.volumes = {one["name"]: files.volume(self.folder, one, self.objects) for one in volumes}
        threading.Thread(target=self._start, daemon=True).start()

    def _start(self):
        for one in self.inits:
            self._run(one)
            with self.changed:
                self.changed.wait_for(
                    lambda one=one: self.ending or one.finished or (one.kind == "sidecar" and one.started)
                )
            if self.ending or not one.exit_codes and not one.started:
                return
            if one.kind == "init" and one.exit_codes[-1] != 0:
                return self._end("Failed")
        self.phase = "Running"
        for one in self.apps:
            if not self.ending:
                self._run(one)

    def _run(self, one):
        """Starts a container; returns when its postStart hook is through, as the kubelet's loop does."""
        try:
            spec = spec_of(one.spec, self.manifest, self.images, self.volumes, self.objects, self.network, self.folder)
        except (Refused, LookupError) as problem:
            one.finished = True
            return self.record("refused", one, reason=str(problem))
        with self.launching:
            if self.ending:
                one.finished = True
                return
            one.process = Process(spec, self.folder, one.name, one.log_path)
            one.over = over = threading.Event()
            one.running = True
        self.record("started", one)
        threading.Thread(target=self._wait_for, args=(one,), daemon=True).start()
        hook = one.spec.get("lifecycle", {}).get("postStart")
        if hook:
            code = one.process.execute(hook["exec"]["command"], within=600)
            self.record("postStart", one, code=code)
            if code != 0:
                return self._stop(one, self.grace)
        self._probe(one, over)

    def _probe(self, one, over):
        namespace = self.network.node

        def judged(kind, problem, verdict):
            self.record("probe", one, probe=kind, problem=problem)
            if verdict is False and not self.ending:
                self.record("unhealthy", one, probe=kind)
                over.set()
                self._stop(one, self.grace)

        def readiness(problem, verdict):
            one.ready = one.ready if verdict is None else verdict
            self.record("probe", one, probe="readiness", problem=problem)

        def lives():
            one.started = True
            if "livenessProbe" in one.spec:
                probe = probes.with_defaults(one.spec["livenessProbe"], self.scale)
                probes.watch(namespace, probe, over, lambda *result: judged("liveness", *result))
            if "readinessProbe" in one.spec:
                probe = probes.with_defaults(one.spec["readinessProbe"], self.scale)
                probes.watch(namespace, probe, over, readiness)
            else:
                one.ready = True
            self.record("up", one)

        def startup(problem, verdict):
            judged("startup", problem, verdict)
            if verdict:
                lives()
            return verdict

        if "startupProbe" not in one.spec:
            return lives()
        # Not scaled: a first token request takes what it takes.
        probes.watch(namespace, probes.with_defaults(one.spec["startupProbe"], 1), over, startup)

    # The end

    def _wait_for(self, one):
        code = one.process.wait()
        one.over.set()
        with self.changed:
            one.running = one.started = one.ready = False
            one.exit_codes.append(code)
            wanted = one.policy == "Always" or (one.policy == "OnFailure" and code != 0)
            again = wanted and not self.ending
            one.finished = not again
            self.record("exited", one, code=code)
        if again:
            pause = BACKOFF[min(len(one.exit_codes), len(BACKOFF)) - 1]
            with self.changed:
                if self.changed.wait_for(lambda: self.ending, pause):
                    one.finished = True
                    return
            self._run(one)
        elif not self.ending and all(app.finished for app in self.apps):
            self._end()

    def _stop(self, one, grace):
        """preStop, SIGTERM, and SIGKILL when the grace is over."""
        if not one.running:
            return
        ends = time.monotonic() + grace
        hook = one.spec.get("lifecycle", {}).get("preStop")
        if hook:
            code = one.process.execute(hook["exec"]["command"], within=grace)
            self.record("preStop", one, code=code)
        self.record("SIGTERM", one)
        one.process.terminate()
        with self.changed:
            if self.changed.wait_for(lambda: not one.running, max(0, ends - time.monotonic())):
                return
        self.record("SIGKILL", one)
        one.process.kill()
        with self.changed:
            self.changed.wait_for(lambda: not one.running)

    def _end(self, phase=None):
        """The containers at once; when they have ended, the sidecars from the last to the first."""
        with self.launching, self.changed:
            if self.ending:
                return
            self.ending = True
            self.changed.notify_all()
        ends = time.monotonic() + self.grace
        stopping = [threading.Thread(target=self._stop, args=(one, self.grace), daemon=True) for one in self.apps]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        for one in reversed(self.inits):
            self._stop(one, max(LEAST_GRACE, ends - time.monotonic()))
        well = all(one.exit_codes and one.exit_codes[-1] == 0 for one in self.apps)
        self.phase = phase or ("Succeeded" if well else "Failed")
        self.record(self.phase)

    def delete(self):
        """As `kubectl delete pod`; returns the seconds it took."""
        started = time.monotonic()
        self.record("deleted")
        self._end()
        return time.monotonic() - started

    def destroy(self):
        """Whatever is left, at once."""
        with self.launching, self.changed:
            self.ending = True
            self.changed.notify_all()
        for one in self.containers.values():
            if one.running:
                one.process.kill()
                with self.changed:
                    self.changed.wait_for(lambda one=one: not one.running, 10)
