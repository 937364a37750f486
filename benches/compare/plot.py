"""CPU a request relative to nginx, as an SVG that suits light and dark pages."""

import statistics
from html import escape

from lib.peers import ENVOY, HAPROXY, NGINX, PINGORA, SIDECAR

KINDS = [SIDECAR, NGINX, HAPROXY, ENVOY, PINGORA]
CELLS = {
    "post-1": "POST 200 B, 1 core",
    "post-2": "POST 200 B, 2 cores",
    "get-2": "GET 2 KiB, 2 cores",
    "download": "1 MiB reply",
    "upload": "1 MiB upload",
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .small { font-size: 11px; fill: #57606a }
.grid { stroke: #d0d7de } .one { stroke: #57606a; stroke-dasharray: 4 3 } .range { stroke: #24292f; stroke-width: 1.5 }
.sidecar { fill: #1a7f37 } .other { fill: #afb8c1 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 }
.grid { stroke: #3d444d } .one { stroke: #9198a1 } .range { stroke: #e6edf3 }
.sidecar { fill: #3fb950 } .other { fill: #656c76 }
}
"""
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 760, 160, 60, 64, 18, 40


def relative(seen, kind):
    """Median, lowest and highest ratio to nginx, or None."""
    if kind not in seen or NGINX not in seen:
        return None
    pairs = zip(seen[kind]["cpu_us"], seen[NGINX]["cpu_us"], strict=True)
    values = [one / other for one, other in pairs]
    return statistics.median(values), min(values), max(values)


def svg(report):
    groups = []
    for name, title in CELLS.items():
        seen = report["cells"].get(name, {}).get("seen", {})
        bars = [(kind, relative(seen, kind)) for kind in KINDS]
        bars = [(kind, values) for kind, values in bars if values]
        if bars:
            groups.append((title, bars))
    most = max((values[2] for _, bars in groups for _, values in bars), default=1)
    axis = max(1.5, -(-most * 2 // 1) / 2)
    scale = (WIDTH - LEFT - RIGHT) / axis
    parts, at = [], TOP
    for title, bars in groups:
        parts.append(f'<text x="16" y="{at + 13}" font-weight="600">{escape(title)}</text>')
        at += 22
        for kind, (middle, low, high) in bars:
            parts += bar(kind, at, LEFT, scale, middle, low, high)
            at += BAR + 4
        at += GAP - 22
    bottom = at - GAP + 26
    lines = []
    step = 0.5 if axis <= 4 else 1
    for index in range(int(axis / step) + 1):
        x = LEFT + index * step * scale
        style = "one" if index * step == 1 else "grid"
        lines.append(f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        lines.append(f'<text class="small" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{index * step:g}</text>')
    machine = report["machine"]
    foot = f"{report['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; "
    foot += ", ".join(f"{kind} {report['versions'][kind]}" for kind in KINDS if kind in report["versions"])
    height = bottom + 46
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'{head} role="img" aria-label="CPU a request, relative to nginx">',
            f"<style>{STYLE}</style>",
            '<text class="title" x="16" y="26">CPU a request, relative to nginx (less is better)</text>',
            '<text class="small" x="16" y="46">Median of interleaved repetitions; the thin line is their range. '
            "TLS 1.3 to the upstream.</text>",
            *lines,
            *parts,
            f'<text class="small" x="16" y="{height - 10}">{escape(foot)}</text>',
            "</svg>\n",
        ]
    )


def bar(kind, top, left, scale, middle, low, high):
    style = "sidecar" if kind == SIDECAR else "other"
    weight = ' font-weight="600"' if kind == SIDECAR else ""
    y = top + BAR / 2
    label, one = left + high * scale + 8, left + scale
    if label < one < label + 32:
        # The line at 1 would go through the number.
        label = one + 8
    parts = [
        f'<text x="{left - 10}" y="{y + 4.5}" text-anchor="end"{weight}>{kind}</text>',
        f'<rect class="{style}" x="{left}" y="{top}" width="{middle * scale:.1f}" height="{BAR}" rx="2"/>',
        f'<text x="{label:.1f}" y="{y + 4.5}"{weight}>{middle:.2f}</text>',
    ]
    if low != high:
        ends = [left + value * scale for value in (low, high)]
        parts.append(f'<line class="range" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{y}" y2="{y}"/>')
        for x in ends:
            parts.append(f'<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + 4}"/>')
    return parts
