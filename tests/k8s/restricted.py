"""The restricted profile of the Pod Security Standards, as the newest Kubernetes has it."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def violations(pod_spec, annotations=None):
    """What the restricted profile forbids in a pod: sentences."""
    found = []
    pod = pod_spec.get("securityContext") or {}
    for switch in ("hostNetwork", "hostPID", "hostIPC"):
        if pod_spec.get(switch):
            found.append(f"{switch} is true")
    for volume in pod_spec.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(f"volume {volume.get('name')} is a {', '.join(sorted(kinds - VOLUMES))}")
    for sysctl in pod.get("sysctls") or []:
        if sysctl.get("name") not in SYSCTLS:
            found.append(f"sysctl {sysctl.get('name')}")
    for key, value in (annotations or {}).items():
        if key.startswith(APPARMOR_ANNOTATION) and value != "runtime/default" and not value.startswith("localhost/"):
            found.append(f"AppArmor is {value}")
    found += common("the pod", pod)
    if pod.get("runAsUser") == 0:
        found.append("the pod runs as root")
    windows = (pod_spec.get("os") or {}).get("name") == "windows"
    for container in containers(pod_spec):
        found += of_container(container, pod, windows)
    return found


def containers(pod_spec):
    """Containers of all three kinds."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod_spec.get(kind) or []


def common(who, context):
    """What a pod's context and a container's have in common."""
    found = []
    apparmor = (context.get("appArmorProfile") or {}).get("type")
    if apparmor not in (None, "RuntimeDefault", "Localhost"):
        found.append(f"{who}: appArmorProfile {apparmor}")
    selinux = context.get("seLinuxOptions") or {}
    if (selinux.get("type") or "") not in SELINUX_TYPES:
        found.append(f"{who}: seLinuxOptions.type {selinux['type']}")
    found += [f"{who}: seLinuxOptions.{field}" for field in ("user", "role") if selinux.get(field)]
    seccomp = (context.get("seccompProfile") or {}).get("type")
    if seccomp not in (None, "RuntimeDefault", "Localhost"):
        found.append(f"{who}: seccompProfile {seccomp}")
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        found.append(f"{who}: hostProcess")
    return found


def of_container(container, pod, windows):
    """What the profile forbids in one container, `pod` being its pod's security context."""
    who = container.get("name")
    context = container.get("securityContext") or {}
    found = common(who, context)
    if context.get("privileged"):
        found.append(f"{who}: privileged")
    if context.get("procMount") not in (None, "Default"):
        found.append(f"{who}: procMount {context['procMount']}")
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            found.append(f"{who}: hostPort {port['hostPort']}")
    found += [f"{who}: {place} names a host" for place in hosts(container)]
    non_root = context.get("runAsNonRoot", pod.get("runAsNonRoot"))
    if non_root is not True:
        found.append(f"{who}: runAsNonRoot is not true")
    if context.get("runAsUser") == 0:
        found.append(f"{who}: runs as root")
    if windows:
        return found
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        found.append(f"{who}: does not drop ALL capabilities")
    extra = set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}
    if extra:
        found.append(f"{who}: adds {', '.join(sorted(extra))}")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append(f"{who}: allowPrivilegeEscalation is not false")
    if not (context.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type"):
        found.append(f"{who}: no seccompProfile")
    return found


def hosts(container):
    """Probes and hooks that go to another host than the pod."""
    places = [(probe, container.get(probe)) for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    places += list((container.get("lifecycle") or {}).items())
    for place, action in places:
        for kind in ("httpGet", "tcpSocket"):
            if isinstance(action, dict) and (action.get(kind) or {}).get("host"):
                yield place
