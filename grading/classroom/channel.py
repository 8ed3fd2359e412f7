"""The line between the grader and the process that runs a submission: plain data only, and each message signed.

What a submission writes to the line itself lacks the token, which is how a forged message is told. Nothing that comes
from the child is ever unpickled.
"""

import json
from collections.abc import Callable
from multiprocessing.connection import Connection

LONGEST = 64 * 2**20
FORGED = "forged"


class Line:
    """The grader's end."""

    def __init__(self, connection: Connection, token: str) -> None:
        self._connection, self._token = connection, token

    def poll(self, timeout: float) -> bool:
        """Whether there is a message."""
        return self._connection.poll(timeout)

    def recv(self) -> list:
        """The next message, `["forged"]` for one that the trusted side of the child has not sent."""
        try:
            token, *message = json.loads(self._connection.recv_bytes(LONGEST))
        except (ValueError, TypeError, RecursionError):
            return [FORGED]
        return message if token == self._token and message and isinstance(message[0], str) else [FORGED]

    def reply(self, answer: object) -> None:
        """Answer what the child has asked."""
        self._connection.send_bytes(json.dumps(answer).encode())

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def teller(connection: Connection, token: str) -> tuple[Callable[..., None], Callable[..., object]]:
    """The child's end: `tell(*message)`, and `ask(*message)`, which waits for the answer.

    The token lives in these closures only, so that what a submission can reach by name does not lead to it.
    """
    dumps, loads, send, receive = json.dumps, json.loads, connection.send_bytes, connection.recv_bytes

    def tell(*message: object) -> None:
        send(dumps([token, *message]).encode())

    def ask(*message: object) -> object:
        tell(*message)
        return loads(receive())

    return tell, ask
