"""The checker of the restricted standard itself: a pod that meets it, and each way not to."""

import copy

import restricted

GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [
        {
            "name": "init",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                "seccompProfile": {"type": "Localhost", "localhostProfile": "x"},
                "procMount": "Default",
            },
        }
    ],
    "containers": [
        {
            "name": "app",
            "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": 80}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
    "volumes": [{"name": "a", "secret": {}}, {"name": "b", "emptyDir": {}}, {"name": "c", "projected": {}}],
}

# Where something is set to what is forbidden; None takes it away.
BAD = [
    ("hostNetwork", True),
    ("hostPID", True),
    ("hostIPC", True),
    ("volumes.0.hostPath", {"path": "/"}),
    ("volumes.0.nfs", {}),
    ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
    ("securityContext.seccompProfile", None),
    ("securityContext.seccompProfile.type", "Unconfined"),
    ("securityContext.runAsNonRoot", None),
    ("securityContext.runAsNonRoot", False),
    ("securityContext.runAsUser", 0),
    ("securityContext.seLinuxOptions", {"type": "spc_t"}),
    ("securityContext.seLinuxOptions", {"user": "system_u"}),
    ("securityContext.appArmorProfile", {"type": "Unconfined"}),
    ("securityContext.windowsOptions", {"hostProcess": True}),
    ("containers.0.securityContext", None),
    ("containers.0.securityContext.privileged", True),
    ("containers.0.securityContext.allowPrivilegeEscalation", None),
    ("containers.0.securityContext.allowPrivilegeEscalation", True),
    ("containers.0.securityContext.capabilities", None),
    ("containers.0.securityContext.capabilities.drop", ["NET_RAW"]),
    ("containers.0.securityContext.capabilities.add", ["NET_ADMIN"]),
    ("containers.0.securityContext.runAsUser", 0),
    ("containers.0.securityContext.runAsNonRoot", False),
    ("containers.0.securityContext.procMount", "Unmasked"),
    ("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}),
    ("containers.0.securityContext.seLinuxOptions", {"role": "x"}),
    ("containers.0.securityContext.appArmorProfile", {"type": "Unconfined"}),
    ("containers.0.securityContext.windowsOptions", {"hostProcess": True}),
    ("containers.0.ports.0.hostPort", 80),
    ("containers.0.livenessProbe.httpGet.host", "10.0.0.1"),
    ("containers.0.lifecycle", {"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}),
    ("initContainers.0.securityContext.privileged", True),
    ("initContainers.0.securityContext.capabilities.drop", []),
    ("ephemeralContainers", [{"name": "debug"}]),
]


def put(pod, path, value):
    """`pod` with one thing changed."""
    made = copy.deepcopy(pod)
    at = made
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return made


def check(report):
    report.none("a pod that meets the restricted standard is found to", restricted.violations(GOOD))
    for path, value in BAD:
        with report.check(f"a pod whose {path} is {value} is found to violate the restricted standard"):
            assert restricted.violations(put(GOOD, path, value))
    with report.check("AppArmor by annotation counts"):
        key = restricted.APPARMOR_ANNOTATION + "app"
        assert restricted.violations(GOOD, {key: "unconfined"}) and not restricted.violations(GOOD, {key: "runtime/default"})
    with report.check("a sysctl that Kubernetes counts as safe is none"):
        sysctl = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]
        assert not restricted.violations(put(GOOD, "securityContext.sysctls", sysctl))
    with report.check("a Windows pod needs no capabilities to drop"):
        windows = put(put(GOOD, "os", {"name": "windows"}), "containers.0.securityContext", None)
        assert not restricted.violations(windows)
