"""Calls each host:port of the command line at 127.0.0.1, and says whether its certificate is trusted."""

import socket
import ssl
import sys

context = ssl.create_default_context()
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        with socket.create_connection(("127.0.0.1", int(port))) as plain:
            with context.wrap_socket(plain, server_hostname=host):
                print("accepted")
    except ssl.SSLCertVerificationError as error:
        print("refused:", error)
