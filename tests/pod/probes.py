"""The kubelet's probes: from the node to the pod's IP, as often and as patiently as the manifest says."""

import http.client
import threading

from network import POD_IP, enter, path_of


def http_get(probe):
    """Why the probe fails, or None."""
    get = probe["httpGet"]
    if get.get("scheme", "HTTP") != "HTTP" or "host" in get:
        raise NotImplementedError(f"httpGet {get}")
    connection = http.client.HTTPConnection(POD_IP, get["port"], timeout=probe["timeoutSeconds"])
    headers = {"User-Agent": "kube-probe/1.34", "Accept": "*/*", "Connection": "close"}
    headers |= {one["name"]: one["value"] for one in get.get("httpHeaders", [])}
    try:
        connection.request("GET", get["path"], headers=headers)
        reply = connection.getresponse()
        text = reply.read(10 << 10).decode(errors="replace").strip()
        return None if 200 <= reply.status < 400 else f"HTTP {reply.status}: {text}"
    except (OSError, http.client.HTTPException) as problem:
        return f"{type(problem).__name__}: {problem}"
    finally:
        connection.close()


def with_defaults(probe, scale):
    """The probe with what the API server fills in, its times scaled."""
    defaults = {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1}
    scaled = {key: probe.get(key, value) * scale for key, value in defaults.items()}
    return {"failureThreshold": 3, "successThreshold": 1, **probe, **scaled}


def watch(namespace, probe, stop, judge):
    """Probes until `stop` is set or `judge` returns True.

    That is told why the probe failed, or None, and what the thresholds make of it: True, False or not yet anything.
    """

    def run():
        enter(path_of(namespace))
        good = bad = 0
        if stop.wait(probe["initialDelaySeconds"]):
            return
        while not stop.is_set():
            problem = http_get(probe)
            good, bad = (0, bad + 1) if problem else (good + 1, 0)
            verdict = None
            if good >= probe["successThreshold"]:
                verdict = True
            elif bad >= probe["failureThreshold"]:
                verdict = False
            if stop.is_set() or judge(problem, verdict):
                return
            stop.wait(probe["periodSeconds"])

    threading.Thread(target=run, daemon=True).start()
