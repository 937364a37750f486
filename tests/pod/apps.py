"""A pod of the apps of tests/https_clients, which have https://api.weixin.qq.com in their code: a container for each."""

import glob
import os
import subprocess

from process import Image

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "https_clients")
APPS, MODULES = "/apps", "/node_modules"
# Where the file appears at which they end.
SHARED, END = "/shared", "end"
# Debian's settings of Java, PHP and OpenSSL, and the links by which its programs are called.
SETTINGS = ("/etc/alternatives", "/etc/ssl", "/etc/php", "/etc/ca-certificates", "/usr/share/ca-certificates")
# Debian's packages of Apache's client, without which App.java does not compile.
JARS = ":".join(f"/usr/share/java/{name}.jar" for name in ("httpclient5", "httpcore5", "httpcore5-h2", "slf4j-api"))


def commands(python):
    """What each container runs, but for the last word."""
    return {
        "python": [python, "-B", f"{APPS}/app.py", "aiohttp"],
        "wechatpy": [python, "-B", f"{APPS}/wechatpy_app.py"],
        "node": ["node", f"{APPS}/app.js", "fetch"],
        "co-wechat-api": ["node", f"{APPS}/co_wechat_api_app.js"],
        "php-curl": ["php", f"{APPS}/app.php", "curl"],
        "php-streams": ["php", f"{APPS}/app.php", "streams"],
        "ruby": ["ruby", f"{APPS}/app.rb"],
        "perl": ["perl", f"{APPS}/app.pl"],
        "java": ["java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", f"/built:{JARS}", "App", "httpclient"],
        "go": ["/built/app"],
        "curl": ["sh", f"{APPS}/curl.sh"],
        "wget": ["sh", f"{APPS}/wget.sh"],
    }


def build(folder):
    """Compiles those that have to be."""
    os.makedirs(folder)
    for command in (
        ["go", "build", "-o", f"{folder}/app", f"{SOURCES}/app.go"],
        ["javac", "-cp", JARS, "-d", folder, f"{SOURCES}/App.java"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def image(tools, shop, built):
    """The shop's, with all apps and what Debian's programs want of /etc."""
    exists = [path for path in (*SETTINGS, *glob.glob("/etc/java-*"), "/bin") if os.path.exists(path)]
    own = {APPS: SOURCES, MODULES: f"{tools.sdk}/node/node_modules", "/built": built}
    environment = shop.environment | {"NODE_PATH": MODULES}
    return Image(shop.files | {path: path for path in exists} | own, ["none"], environment=environment)


def container(name, command):
    """As its owner writes it, who knows of no sidecar."""
    context = {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    shared = {"name": "shared", "mountPath": SHARED}
    return {"name": name, "image": "apps:1", "command": command, "securityContext": context, "volumeMounts": [shared]}


def pod_spec(python):
    """All of them, and an init container that makes one round."""
    return {
        "restartPolicy": "Never",
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "initContainers": [container("once", ["node", f"{APPS}/node_easywechat_app.js", "1"])],
        "containers": [container(name, [*words, f"{SHARED}/{END}"]) for name, words in commands(python).items()],
    }


def end(pod):
    """Lets them end after the round that they are in."""
    open(os.path.join(pod.volumes["shared"], END), "x").close()
