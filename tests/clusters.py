"""Workers on this machine, for tests of several of them."""

import json
import socket


def free_ports(number=2):
    """Ports that nothing listens at."""
    sockets = [socket.create_server(("", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def tf_config(worker, *ports):
    """`TF_CONFIG` of one of the workers at some ports."""
    addresses = [f"localhost:{port}" for port in ports]
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": worker}}
    )
