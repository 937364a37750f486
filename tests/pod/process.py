"""From a container of a manifest to the process that `container.py` makes of it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import files

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "container.py")


@dataclass
class Image:
    """What the container sees of the machine, by the path at which it sees it, and what runs there."""

    files: dict
    entrypoint: list
    user: int = 0
    environment: dict = field(default_factory=dict)
    # How long a busy node takes until the first instruction runs.
    delay: float = 0


class Refused(Exception):
    """CreateContainerConfigError."""


class Process:
    """A running container; `process` is its runner, `pid` the first process inside."""

    def __init__(self, spec, folder, name, log):
        self.spec, self.file, self.log = spec, f"{folder}/{name}.json", log
        files.written(self.file, json.dumps(spec))
        reading, writing = os.pipe()
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-B", RUNNER, self.file, str(writing)],
                stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=[writing],
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as status:
            said = status.read().split()
        if b"ready" not in said:
            self.process.wait()
            with open(log) as text:
                raise OSError(f"{name} cannot be started: {text.read()}")
        self.pid = int(next(word for word in said if word != b"ready"))

    def execute(self, command, within):
        """The exit code of a command inside; 124 where it takes too long."""
        file = f"{self.file}.exec"
        files.written(file, json.dumps({**self.spec, "enter": True, "command": command}))
        with open(self.log, "ab") as output:
            hook = subprocess.Popen(
                [sys.executable, "-B", RUNNER, file, str(self.pid)], stdin=subprocess.PIPE, stdout=output, stderr=output
            )
        try:
            return hook.wait(within)
        except subprocess.TimeoutExpired:
            hook.stdin.close()
            hook.wait()
            return 124

    def wait(self):
        return self.process.wait()

    def terminate(self):
        """SIGTERM for the first process inside, which the runner passes on."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL, which no runner can pass on: it comes as the runner ends with its input."""
        if not self.process.stdin.closed:
            self.process.stdin.close()

    def status(self):
        """What the kernel says of the first process inside."""
        with open(f"/proc/{self.pid}/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def root_is_read_only(self):
        with open(f"/proc/{self.pid}/mountinfo") as file:
            roots = [line.split() for line in file if line.split()[4] == "/"]
        return "ro" in roots[-1][5].split(",")


def spec_of(container, pod, images, volumes, objects, network, folder):
    """What `container.py` has to do for this container of this pod."""
    if container["image"] not in images:
        raise Refused(f'Failed to pull image "{container["image"]}"')
    image = images[container["image"]]
    context = {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}
    if "fsGroup" in context:
        raise files.Unsupported("fsGroup")
    uid = context.get("runAsUser", image.user)
    if context.get("runAsNonRoot") and uid == 0:
        raise Refused("container has runAsNonRoot and image will run as root")
    environment = image.environment | files.environment(container, pod, objects)
    command = container.get("command", image.entrypoint) + container.get("args", [])
    capabilities = context.get("capabilities", {})
    root = f"{folder}/roots/{container['name']}"
    os.makedirs(root, exist_ok=True)
    return {
        "network": network.pod,
        "hostname": pod["metadata"]["name"],
        "root": root,
        "image": image.files,
        "mounts": files.mounts(container, volumes, folder),
        "readOnlyRoot": context.get("readOnlyRootFilesystem", False),
        "uid": uid,
        "gid": context.get("runAsGroup", image.user),
        "groups": context.get("supplementalGroups", []),
        "addCaps": capabilities.get("add", []),
        "dropCaps": capabilities.get("drop", []),
        "noNewPrivileges": context.get("allowPrivilegeEscalation") is False,
        "delay": image.delay,
        "command": [files.expanded(word, environment) for word in command],
        "env": {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    }
