"""What stands in for WeChat: nginx with TLS 1.3 and fixed replies, and an echo that checks what arrives."""

import json
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .processes import RUN, Program, free_port, listens, wait_until

# As long as one of WeChat's.
TOKEN = "bench_" + "0123456789abcdefghijABCDEFGHIJ" * 5
POST, GET, CHUNKED, DOWNLOAD, UPLOAD = (
    "/cgi-bin/message/custom/send",
    "/cgi-bin/user/get",
    "/cgi-bin/menu/get",
    "/cgi-bin/media/get",
    "/cgi-bin/media/upload",
)
SMALL = '{"errcode":0,"errmsg":"ok","msgid":1234567890123456,"type":0 }'
LARGE = 1 << 20
TOKEN_REPLY = json.dumps({"access_token": TOKEN, "expires_in": 7200})


def two_kib():
    """A page of followers, as WeChat lists them, of 2,048 bytes."""
    openids = ",".join(f'"oBench{number:022d}"' for number in range(62))
    text = f'{{"total":62,"count":62,"data":{{"openid":[{openids}]}},"next_openid":"'
    return text + "o" * (2048 - len(text) - 2) + '"}'


def certificates():
    """A root of the bench's own, and a certificate from it for loopback names; made once."""
    folder = RUN / "tls"
    if (folder / "ready").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650"
    for command in (
        f"req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=bench-root"
        " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        f"req -new {key} -keyout key.pem -out leaf.csr -subj /CN=localhost",
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out cert.pem -extfile extensions",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    (folder / "ready").touch()
    return folder


# Long-lived connections on both sides; the bodies of uploads are read whole before the reply.
CONF = """
user root;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
daemon off;
events {{ worker_connections 19500; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_timeout {idle};
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl backlog=4096;
        ssl_certificate {certificates}/cert.pem;
        ssl_certificate_key {certificates}/key.pem;
        ssl_protocols TLSv1.3;
        ssl_session_tickets {tickets};
        location = /cgi-bin/stable_token {{ return 200 '{token_reply}'; }}
        location = {post} {{ return 200 '{small}'; }}
        location = {get} {{ return 200 '{two_kib}'; }}
        # nginx does not say how long what it has looked through is.
        location = {chunked} {{ ssi on; ssi_types application/json; return 200 '{two_kib}'; }}
        location = {download} {{ default_type image/jpeg; alias {folder}/large; }}
        location = {upload} {{
            proxy_pass http://unix:{folder}/done.sock;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
        location / {{ return 200 '{small}'; }}
    }}
    server {{
        listen unix:{folder}/done.sock;
        location / {{ return 200 '{small}'; }}
    }}
}}
"""


class Upstream:
    """nginx, with TLS on one port and without on another."""

    def __init__(self, cores=None, workers=2, idle="1h", tickets=True, name="upstream"):
        self.plain, self.tls = free_port(), free_port()
        folder = RUN / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "large").write_bytes(bytes(range(256)) * (LARGE // 256))
        (folder / "done.sock").unlink(missing_ok=True)
        self.certificates = certificates()
        conf = folder / "nginx.conf"
        conf.write_text(
            CONF.format(
                workers=workers,
                folder=folder,
                idle=idle,
                plain=self.plain,
                tls=self.tls,
                certificates=self.certificates,
                tickets="on" if tickets else "off",
                token_reply=TOKEN_REPLY,
                small=SMALL,
                two_kib=two_kib(),
                post=POST,
                get=GET,
                chunked=CHUNKED,
                download=DOWNLOAD,
                upload=UPLOAD,
            )
        )
        self.program = Program(name, ["nginx", "-p", folder, "-c", conf, "-e", folder / "error.log"], cores)
        wait_until(lambda: listens(self.tls), f"{name} listens", self.program)

    @property
    def ca(self):
        return self.certificates / "ca.pem"

    def stop(self):
        self.program.stop()


class Echo:
    """An upstream that remembers each request, and answers with what it got as the body."""

    def __init__(self):
        self.requests, self.connections = [], 0
        self.lock = threading.Lock()
        echo = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with echo.lock:
                    echo.connections += 1

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                is_token = self.path.startswith("/cgi-bin/stable_token")
                if not is_token:
                    with echo.lock:
                        echo.requests.append((self.command, self.path, body))
                reply = TOKEN_REPLY.encode() if is_token else (body or SMALL.encode())
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if not body else "application/octet-stream")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                # A proxy that ends its connections is no failure of the echo's.
                pass

        self.certificates = certificates()
        self.ca = self.certificates / "ca.pem"
        self.tls = free_port()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificates / "cert.pem", self.certificates / "key.pem")
        self.server = Server(("127.0.0.1", self.tls), Answer)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
