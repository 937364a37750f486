"""Alerts, dashboard and monitors: that they ask for what the program counts, and say what they should."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import yaml

import kube

FOLDER = kube.K8S / "monitoring"
# What of ours is on no page of the program's: the API server's, and Prometheus' own.
FOREIGN = {"apiserver_admission_webhook_rejection_count", "apiserver_admission_webhook_fail_open_count"}
# What Grafana puts into an expression.
GRAFANA = {"$__rate_interval": "5m", "$namespace": ".*", "$account": ".*"}
TARGET = "__meta_kubernetes_"


def rules():
    return yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())["spec"]


def alerts():
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text())


def expressions():
    """Those of the dashboard, by panel, as Prometheus gets them."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for name, value in GRAFANA.items():
                text = text.replace(name, value)
            yield panel["title"], text


def source():
    """The program's sources as one text."""
    return "".join(file.read_text() for file in (kube.ROOT / "src").rglob("*.rs"))


def unknown(source, expression):
    """Metrics that the program does not have, and label values that it never says."""
    for metric in re.findall(r"\bwechat_sidecar_[a-z_]+", expression):
        bare = re.sub("_(bucket|sum|count)$", "", metric)
        if not re.search(rf'\b({metric}|{bare})\b|"{bare.removeprefix("wechat_sidecar_")}"', source):
            yield f"no metric {metric}"
    for metric in re.findall(r"\b(?!wechat_)[a-z]+_[a-z_]+(?=\{)", expression):
        if metric not in FOREIGN and f'"{metric.removeprefix("process_")}"' not in source:
            yield f"no metric {metric}"
    for label, value in re.findall(r'\b(outcome|reason|cause|side)=~?"([^"]*)"', expression):
        yield from (f"no {label} {one}" for one in value.split("|") if f'"{one}"' not in source)


def check(report, tools):
    texts = source()
    asked = [(rule["alert"], rule["expr"]) for rule in alerts()] + list(expressions())
    report.none(
        "alerts and dashboard ask only for metrics and labels that the program has",
        (f"{name}: {problem}" for name, expression in asked for problem in unknown(texts, expression)),
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules(), allow_unicode=True))
        shutil.copy(kube.HERE / "alerts_test.yaml", folder)
        with report.check("promtool accepts every alert"):
            tools.output("promtool", "check", "rules", folder / "rules.yaml")
        with report.check("the alerts fire when they should, and not otherwise"):
            done = tools.run("promtool", "test", "rules", folder / "alerts_test.yaml")
            assert done.returncode == 0, done.stdout + done.stderr
        with report.check("promtool accepts every expression of the dashboard"):
            made = [{"record": f"panel:{at}", "expr": text} for at, (_, text) in enumerate(expressions())]
            (folder / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
            tools.output("promtool", "check", "rules", folder / "panels.yaml")
        check_targets(report, tools, folder)
    with report.check("each alert fires in a test"):
        tested = (kube.HERE / "alerts_test.yaml").read_text()
        missing = [rule["alert"] for rule in alerts() if rule["alert"] not in tested]
        assert not missing, missing
    with report.check("both guides list each alert"):
        for guide in kube.GUIDES:
            text = guide.read_text()
            missing = [rule["alert"] for rule in alerts() if not re.search(rf"\b{rule['alert']}\b", text)]
            assert not missing, f"{guide}: {missing}"
    pages = [*kube.ROOT.glob("docs/**/*.md"), *kube.ROOT.glob("benches/drill/**/*.py")]
    named = {(page.name, name) for page in pages for name in re.findall(r"\bWechat[A-Z]\w+", page.read_text())}
    report.none(
        "no page of the documentation and no fault of the drill names an alert that is not there",
        (f"{page}: {name}" for page, name in sorted(named) if name not in [rule["alert"] for rule in alerts()]),
    )
    with report.check("each alert says what to do, and in Chinese what happened"):
        for rule in alerts():
            assert set(rule["annotations"]) == {"summary", "description", "summary_zh"}, rule["alert"]
            assert re.search(r"[\u4e00-\u9fff]", rule["annotations"]["summary_zh"]), rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
    check_dashboard(report)


def check_dashboard(report):
    made = dashboard()
    with report.check("the dashboard can be imported: panels with places and numbers of their own, and its variables"):
        panels = made["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        assert "id" not in made and made["uid"] and made["schemaVersion"] >= 36
        variables = [variable["name"] for variable in made["templating"]["list"]]
        assert variables == ["datasource", "namespace", "account"], variables
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24 and not cells & taken, f"{panel['title']} lies over another"
            taken |= cells
            for target in panel.get("targets", []):
                assert target["datasource"]["uid"] == "${datasource}", panel["title"]
    with report.check("the dashboard shows every metric of the sidecar's"):
        page = (kube.ROOT / "src/metrics/page.rs").read_text()
        families = re.findall(r'= "(?:counter|gauge|histogram)" "([a-z_]+)"', page)
        shown = str(list(expressions()))
        missing = [family for family in families if f"wechat_sidecar_{family}" not in shown]
        assert families and not missing, missing


def scrape(monitor, endpoint, targets, folder):
    """A scrape configuration as the Prometheus operator makes it of a PodMonitor, but for where targets come from."""
    relabel = [{"action": "drop", "source_labels": [TARGET + "pod_phase"], "regex": "(Failed|Succeeded)"}]
    for key, value in monitor["spec"]["selector"].get("matchLabels", {}).items():
        label = re.sub("[^a-zA-Z0-9_]", "_", key)
        relabel.append({"action": "keep", "source_labels": [TARGET + "pod_label_" + label], "regex": re.escape(value)})
    relabel.append({"action": "keep", "source_labels": [TARGET + "pod_container_port_name"], "regex": endpoint["port"]})
    for label, source in (("namespace", "namespace"), ("container", "pod_container_name"), ("pod", "pod_name")):
        relabel.append({"source_labels": [TARGET + source], "target_label": label})
    for own in endpoint["relabelings"]:
        made = {"action": own["action"], "target_label": own["targetLabel"], "replacement": own["replacement"]}
        relabel.append(made)
    (folder / "targets.json").write_text(json.dumps(targets))
    job = {
        "job_name": monitor["metadata"]["name"],
        "scheme": endpoint["scheme"],
        "metrics_path": endpoint["path"],
        "file_sd_configs": [{"files": [str(folder / "targets.json")]}],
        "relabel_configs": relabel,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    return job["job_name"]


def target(pod, container, port, number, phase="Running", init=False, **labels):
    """A port of a container, as Prometheus discovers it."""
    meta = {
        "namespace": "shop",
        "pod_name": pod,
        "pod_phase": phase,
        "pod_container_name": container,
        "pod_container_port_name": port,
        "pod_container_port_number": str(number),
        "pod_container_init": str(init).lower(),
        **{"pod_label_" + key: value for key, value in labels.items()},
    }
    return {"targets": [f"10.0.0.{number % 250}:{number}"], "labels": {TARGET + key: value for key, value in meta.items()}}


def check_targets(report, tools, folder):
    """Which of a cluster's ports the PodMonitors scrape."""
    targets = [
        target("native", "wechat-sidecar", "wechat-metrics", 7081, init=True),
        target("native", "app", "http", 8080),
        target("classic", "wechat-sidecar", "wechat-metrics", 7082),
        target("done", "wechat-sidecar", "wechat-metrics", 7083, phase="Succeeded", init=True),
        target("injector", "injector", "https", 9443, app_kubernetes_io_name="wechat-sidecar-injector"),
        target("stranger", "web", "https", 443),
    ]
    wanted = {
        "podmonitor-sidecars.yaml": [("native", "wechat-sidecar"), ("classic", "wechat-sidecar")],
        "podmonitor-injector.yaml": [("injector", "wechat-sidecar-injector")],
    }
    for file, scraped in wanted.items():
        with report.check(f"{file} scrapes {', '.join(pod for pod, _ in scraped)} and nothing else"):
            monitor = yaml.safe_load((FOLDER / file).read_text())
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            job = scrape(monitor, endpoint, targets, folder)
            done = tools.output("promtool", "check", "service-discovery", "--timeout", "1s", folder / "prometheus.yaml", job)
            kept = [one["labels"] for one in json.loads(done) if one.get("labels")]
            found = sorted((one["pod"], one["job"]) for one in kept)
            assert found == sorted(scraped), found
