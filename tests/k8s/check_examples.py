"""The Dockerfiles, the Compose files and the systemd unit."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import compose_spec
import yaml

import image
import kube

EXAMPLES = kube.ROOT / "examples"
# The apps in languages; tests/examples.rs runs them.
APPS = sorted(file.parent for file in EXAMPLES.glob("*/Dockerfile"))
BINARY = "/usr/local/bin/wechat-sidecar"


def check(report, tools):
    check_image(report, tools)
    check_compose(report)
    check_apps(report, tools)
    check_unit(report)


def check_image(report, tools):
    text = (kube.ROOT / "Dockerfile").read_text()
    with report.check("hadolint finds nothing in the Dockerfile"):
        done = tools.run("hadolint", "--no-color", kube.ROOT / "Dockerfile")
        assert done.returncode == 0, done.stdout
    with report.check("patterns of a .dockerignore are understood as Docker does"):
        known = image.rules("# a*\n*\n !a/ \n/a/b*\n!a/bc\n**/*.log\n!d/?/**/f\n")
        kept = ("a", "a/x", "a/x/b", "a/bc", "a/bc/x", "d/1/f", "d/1/2/3/f")
        wrong = [path for path in kept if image.ignored(path, known)]
        lost = ("b", "b/a", "a/b", "a/bd/x", "a/bc/x.log", "x.log", "d/f", "d/12/f", "d/1/f.log")
        wrong += [path for path in lost if not image.ignored(path, known)]
        assert not wrong, wrong
    with report.check("the image's build gets all that it copies, and nothing else"):
        known = image.rules((kube.ROOT / ".dockerignore").read_text())
        copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M) for word in line.split()]
        assert copied and all((kube.ROOT / path).exists() for path in copied), copied
        # The compiler gets the profile only where all of it is there, and says nothing where it is not.
        assert set(image.NEEDED) <= set(copied), copied
        sources = [str(file.relative_to(kube.ROOT)) for file in (kube.ROOT / "src").rglob("*") if file.is_file()]
        left_out = [path for path in copied + sources if image.ignored(path, known)]
        assert not left_out, left_out
        others = ("target/release/x", ".git/HEAD", "tests/run", "k8s/README.md", "pgo/renew", "pgo/build", "packaging/image")
        let_in = [path for path in others if not image.ignored(path, known)]
        assert not let_in, let_in
    with report.check("the sources include no file that the image's build does not copy"):
        for file in (kube.ROOT / "src").rglob("*.rs"):
            for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', file.read_text()):
                path = (file.parent / included).resolve()
                assert path.is_relative_to(kube.ROOT / "src"), f"{file} includes {included}"
    with report.check("the image and the manifests agree on the program's place and its user"):
        assert f'ENTRYPOINT ["{BINARY}"]' in text and "USER 65532:65532" in text
    with report.check("the image, the chart and the manifests have the package's version"):
        version = re.search(r'^version = "(.*)"', (kube.ROOT / "Cargo.toml").read_text(), re.M)[1]
        assert f'image.version="{version}"' in text
        chart = yaml.safe_load((kube.K8S / "chart/Chart.yaml").read_text())
        assert (chart["version"], chart["appVersion"]) == (version, version)
        files = [*kube.K8S.rglob("*.yaml"), *EXAMPLES.rglob("*.yaml")]
        tags = {tag for file in files for tag in re.findall(r"wechat-sidecar:(\d[\w.-]*)", file.read_text())}
        assert tags == {version}, tags


def check_compose(report):
    for file in (EXAMPLES / "compose.yaml", *(app / "compose.yaml" for app in APPS)):
        check_compose_file(report, file)
    app = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]["app"]
    with report.check("the app that the Compose file mounts is there"):
        mounted = app["volumes"][0].split(":")[0]
        assert (EXAMPLES / mounted).resolve().is_file(), mounted


def check_compose_file(report, file):
    name, text = file.relative_to(kube.ROOT), file.read_text()
    with report.check(f"{name} follows the specification"):
        try:
            compose_spec.PyCompose.from_yaml(text)
        except ValueError as error:
            raise AssertionError(error) from None
    compose = yaml.safe_load(text)
    sidecar, app = compose["services"]["sidecar"], compose["services"]["app"]
    with report.check(f"{name}: the sidecar shares the app's network, reads a secret's file, and is looked after"):
        assert sidecar["network_mode"] == "service:app" and "ports" not in sidecar
        (secret,) = sidecar["secrets"]
        assert sidecar["environment"]["WECHAT_SECRET_FILE"] == f"/run/secrets/{secret}" and secret in compose["secrets"]
        assert compose["secrets"][secret]["file"].startswith("${WECHAT_SECRET_PATH:?")
        assert sidecar["healthcheck"]["test"] == ["CMD", BINARY, "health"] and sidecar["restart"] == "unless-stopped"
        assert app["environment"]["WECHAT_API_BASE_URL"] == "http://127.0.0.1:7080"
        assert all(port.startswith("127.0.0.1:") for port in app["ports"]), app["ports"]
    with report.check(f"{name} builds from folders with a Dockerfile"):
        built = [service["build"]["context"] for service in compose["services"].values() if "build" in service]
        assert built and all((file.parent / context / "Dockerfile").is_file() for context in built), built


def check_apps(report, tools):
    texts = {app.name: (app / "compose.yaml").read_text() for app in APPS}
    with report.check("the apps have one Compose file but for its name"):
        assert set(texts) == {"go", "java", "node", "python"}, set(texts)
        assert len({text.replace(f"name: wechat-sidecar-{name}\n", "") for name, text in texts.items()}) == 1
    compose = yaml.safe_load(texts["python"])
    sidecar, fake = compose["services"]["sidecar"], compose["services"]["wechat"]
    with report.check("their sidecar is that of the Compose file for any app, but for its upstream"):
        plain = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]["sidecar"]
        upstream = sidecar["environment"].pop("WECHAT_SIDECAR_UPSTREAM")
        assert {**sidecar, "build": plain["build"]} == plain
    with report.check("fake.env sets what the Compose file asks for, to the account that the fake documents"):
        lines = (EXAMPLES / "fake.env").read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        asked = set(re.findall(r"\$\{(\w+)", texts["python"]))
        assert set(variables) == asked | {"COMPOSE_PROFILES"}, asked
        assert [variables["COMPOSE_PROFILES"]] == fake["profiles"] and "network_mode" in fake
        assert upstream == "${WECHAT_UPSTREAM:-https://api.weixin.qq.com}"
        secret = (EXAMPLES / "python" / variables["WECHAT_SECRET_PATH"]).read_text()
        guide = (kube.ROOT / "docs/testing.md").read_text()
        known = (f"`{variables['WECHAT_APPID']}`", f"`{secret}`", variables["WECHAT_UPSTREAM"].removeprefix("http://"))
        assert all(value in guide for value in known), known
    for app in APPS:
        dockerfile = app / "Dockerfile"
        with report.check(f"hadolint finds nothing in the Dockerfile of {app.name}, and what it copies is there"):
            done = tools.run("hadolint", "--no-color", dockerfile)
            assert done.returncode == 0, done.stdout
            lines = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile.read_text(), re.M)
            copied = [word for line in lines for word in line.split()]
            assert copied and all((app / word).is_file() for word in copied), copied


def check_unit(report):
    unit = EXAMPLES / "wechat-sidecar.service"
    text = unit.read_text()
    with report.check("the unit takes the secret as a credential"):
        assert "LoadCredential=secret:" in text and "WECHAT_SECRET_FILE=%d/secret" in text
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as folder:
        # Only the program is not there on this machine.
        there = Path(folder) / unit.name
        there.write_text(text.replace(BINARY, shutil.which("true")))
        for sentence, args in (
            ("systemd understands the unit", ["verify", "--man=no"]),
            ("systemd rates the unit's exposure at most 2.0", ["security", "--offline=yes", "--no-pager", "--threshold=20"]),
        ):
            with report.check(sentence):
                done = subprocess.run(["systemd-analyze", *args, there], capture_output=True, text=True, check=False)
                assert done.returncode == 0 and "Unknown" not in done.stderr, done.stderr + done.stdout[-500:]
