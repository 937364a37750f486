"""A root of the drill's own, and certificates that are good, expired, for another name, or from nobody known."""

import subprocess

from lib.processes import RUN

KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
CA_CONF = """
[ca]
default_ca = drill
[drill]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
[policy]
commonName = supplied
"""


def openssl(folder, command):
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def certificates():
    """The folder with `ca.pem`, and with NAME.pem and NAME.key for good, expired, other-name and self-signed."""
    folder = RUN / "drill-tls"
    if (folder / "ready").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.conf").write_text(CA_CONF)
    (folder / "index.txt").write_text("")
    (folder / "index.txt.attr").write_text("unique_subject = no\n")
    (folder / "serial").write_text("01\n")
    (folder / "own.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    (folder / "other.ext").write_text("subjectAltName=DNS:portal.example\nbasicConstraints=CA:FALSE\n")
    openssl(
        folder,
        f"req -x509 {KEY} -days 3650 -keyout ca.key -out ca.pem -subj /CN=drill-root"
        " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
    )
    openssl(
        folder,
        f"req -x509 {KEY} -days 3650 -keyout self-signed.key -out self-signed.pem -subj /CN=drill-self-signed"
        " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
    )
    for name, extensions, end in (
        ("good", "own.ext", "20400101000000Z"),
        ("expired", "own.ext", "20200201000000Z"),
        ("other-name", "other.ext", "20400101000000Z"),
    ):
        openssl(folder, f"req -new {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        openssl(
            folder,
            f"ca -batch -config ca.conf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem"
            f" -extfile {extensions} -startdate 20200101000000Z -enddate {end} -notext",
        )
    (folder / "ready").touch()
    return folder


def certificate(name):
    """The paths of the chain and of the key."""
    folder = certificates()
    return folder / f"{name}.pem", folder / f"{name}.key"
