"""What the kubelet puts into a pod's containers: hosts, resolv.conf, volumes and the environment."""

import base64
import os
import re

from network import DNS_IP, POD_IP

RESOLV_CONF = f"""\
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver {DNS_IP}
options ndots:5
"""


class Unsupported(Exception):
    """A part of a manifest that this kubelet does not know; it must not be passed over."""


def written(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return path


def hosts(pod):
    """/etc/hosts as the kubelet writes it."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        f"{POD_IP}\t{pod['metadata']['name']}",
    ]
    aliases = pod["spec"].get("hostAliases", [])
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([alias["ip"], *alias["hostnames"]]) for alias in aliases]
    return "\n".join(lines) + "\n"


class Objects:
    """The Secrets and ConfigMaps of the pod's namespace."""

    def __init__(self, manifests):
        self.known = {(one["kind"], one["metadata"]["name"]): one for one in manifests}

    def data(self, kind, name, optional=False):
        """Its keys and values, or none where that is allowed."""
        if (kind, name) not in self.known:
            if optional:
                return None
            raise LookupError(f'{kind.lower()} "{name}" not found')
        found = self.known[kind, name]
        data = {key: text.encode() for key, text in found.get("stringData", {}).items()}
        for key, text in found.get("data", {}).items():
            data[key] = base64.b64decode(text) if kind == "Secret" else text.encode()
        return data


def volume(folder, spec, objects):
    """Makes one volume, and returns its folder."""
    path = os.path.join(folder, "volumes", spec["name"])
    os.makedirs(path)
    os.chmod(path, 0o755)
    if "secret" in spec:
        its = spec["secret"]
        data = objects.data("Secret", its["secretName"], its.get("optional", False))
    elif "configMap" in spec:
        its = spec["configMap"]
        data = objects.data("ConfigMap", its["name"], its.get("optional", False))
    elif "emptyDir" in spec:
        os.chmod(path, 0o777)
        return path
    else:
        raise Unsupported(f"volume {spec}")
    data = data or {}
    items = its.get("items", [{"key": key, "path": key} for key in data])
    # As the kubelet's atomic writer does it: a rotated secret appears all at once, by one rename.
    inner = "..2026_11_24_08_00_00.1234567890"
    os.makedirs(f"{path}/{inner}")
    os.symlink(inner, f"{path}/..data")
    for item in items:
        if item["key"] not in data:
            raise LookupError(f"references non-existent secret key: {item['key']}")
        mode = item.get("mode", its.get("defaultMode", 0o644))
        written(f"{path}/{inner}/{item['path']}", data[item["key"]], mode)
        first = item["path"].split("/")[0]
        if not os.path.islink(f"{path}/{first}"):
            os.symlink(f"..data/{first}", f"{path}/{first}")
    return path


def mounts(container, volumes, folder):
    """Where the container sees what."""
    found = [
        {"source": f"{folder}/hosts", "target": "/etc/hosts", "readOnly": False},
        {"source": f"{folder}/resolv.conf", "target": "/etc/resolv.conf", "readOnly": False},
    ]
    for one in container.get("volumeMounts", []):
        if "subPath" in one or "subPathExpr" in one:
            raise Unsupported("subPath")
        source, target = volumes[one["name"]], one["mountPath"]
        found.append({"source": source, "target": target, "readOnly": one.get("readOnly", False)})
    return found


def environment(container, pod, objects):
    """The container's own variables, with $(NAME) replaced by the values of those before."""
    found = {}
    for one in container.get("envFrom", []):
        raise Unsupported(f"envFrom {one}")
    for one in container.get("env", []):
        if "valueFrom" in one:
            value = value_from(one["valueFrom"], pod, objects)
            if value is not None:
                found[one["name"]] = value
        else:
            found[one["name"]] = expanded(one.get("value", ""), found)
    return found


def value_from(source, pod, objects):
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if field in source:
            its = source[field]
            data = objects.data(kind, its["name"], its.get("optional", False)) or {}
            if its["key"] in data:
                return data[its["key"]].decode()
            if its.get("optional", False):
                return None
            raise LookupError(f"couldn't find key {its['key']} in {kind} default/{its['name']}")
    path = source.get("fieldRef", {}).get("fieldPath")
    fields = {"status.podIP": POD_IP, "metadata.name": pod["metadata"]["name"], "metadata.namespace": "default"}
    if path not in fields:
        raise Unsupported(f"valueFrom {source}")
    return fields[path]


def expanded(text, known):
    """$(NAME) where NAME is known, and $$ for a dollar; everything else stays."""

    def one(match):
        if match[0] == "$$":
            return "$"
        return known.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", one, text)
