#!/usr/bin/env python3
"""The README of the Helm chart, with a table that is made from the comments in values.yaml.

    tests/k8s/chart_values.py           writes k8s/chart/README.md
    tests/k8s/chart_values.py --check   exits 1 if it is not what would be written
"""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parents[2] / "k8s/chart"
HEAD = """# wechat-sidecar-injector

Gives pods a sidecar that holds WeChat's access_token. `docs/kubernetes.md` in the project says how to install the
chart and how a pod asks for a sidecar.

```sh
helm install injector oci://REGISTRY/charts/wechat-sidecar-injector --namespace wechat-sidecar --create-namespace
helm install injector wechat-sidecar-injector-VERSION.tgz --namespace wechat-sidecar --create-namespace
```

## Values

`values.schema.json` refuses unknown ones. This table is made from the comments in `values.yaml`, by
`tests/k8s/chart_values.py`.

| value | default | meaning |
|---|---|---|
"""


def comment(text):
    """One line of it; examples and lists of choices keep their lines."""
    words = " ".join(text.split())
    if text.startswith("   "):
        return f"<br>`{words}`"
    return f"<br>{words}" if re.match(r"(provided|existing): ", words) else words


def values(text):
    """Each value that has no values below it: its path, its default as YAML writes it, and the comments on it."""
    found, above, comments = [], [], []
    for line in text.splitlines():
        words = line.strip()
        depth = (len(line) - len(words)) // 2
        if not words:
            comments = []
        elif words.startswith("#"):
            comments.append(comment(words.removeprefix("#")))
        elif words.startswith("- "):
            found[-1][1].append(words.removeprefix("- "))
        else:
            key, value = re.fullmatch(r"([\w-]+): ?(.*)", words).groups()
            above = above[:depth] + [(key, " ".join(comments))]
            meaning = " ".join(said for _, said in above if said)
            meaning = meaning.replace(" <br>", "<br>")
            # The parent was no value, since it has values below.
            parent = ".".join(name for name, _ in above[:-1])
            found = [one for one in found if one[0] != parent]
            found.append((".".join(name for name, _ in above), [value] if value else [], meaning))
            comments = []
    return found


def readme():
    rows = []
    for name, default, meaning in values((CHART / "values.yaml").read_text()):
        shown = default[0] if len(default) == 1 else f"[{', '.join(default)}]"
        rows.append(f"| `{name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |\n")
    return HEAD + "".join(rows)


def main():
    file = CHART / "README.md"
    if sys.argv[1:] != ["--check"]:
        file.write_text(readme())
    elif not file.exists() or file.read_text() != readme():
        print("k8s/chart/README.md is not up to date: run tests/k8s/chart_values.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
