"""Sends by HTTPS: each message is a POST, and has arrived when the server answers with 2xx."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping

from edge.errors import reason
from edge.link.endpoint import Endpoint
from edge.link.sender import TIMEOUT, TOPICS, LinkError, Refused

REFUSED = (400, 413, 415, 422)  # the message itself is wrong, for this server; anything else may get better
MOST_ANSWER = 1 << 16  # bytes that are read of an answer: a choice


class HttpsSender:
    """POSTs sealed messages (application/jose) to ADDRESS/events, /clips and /stats, over one connection. Redirections
    are not followed: a server is where the site says it is."""

    settles = 0.0  # a server answers when it has stored the message

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None, token: str | None = None):
        self._endpoint, self._context, self._token = endpoint, context, token
        self._connection: http.client.HTTPConnection | None = None

    def connect(self) -> int:
        """Nothing to do: a connection is made for a message, and used again."""
        return 0

    def send(self, kind: str, payload: bytes) -> None:
        reused = self._connection is not None
        try:
            status = self._post(kind, payload)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if reused:  # the server may have closed it, as servers do after a while
                return self.send(kind, payload)
            raise LinkError(f"{self._endpoint}: {reason(error)}") from None
        if status in REFUSED:
            raise Refused(f"{self._endpoint}: the server refused a message ({kind}) with status {status}")
        if not 200 <= status < 300:
            raise LinkError(f"{self._endpoint}: the server answered with status {status}")

    def states(self, states: Mapping[tuple[str, str], bool]) -> None:
        """Nothing to do: the server has the events."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _post(self, kind: str, payload: bytes) -> int:
        """The status that the server answers with."""
        to = self._endpoint
        if self._connection is None:
            if self._context is not None:
                self._connection = http.client.HTTPSConnection(to.host, to.port, timeout=TIMEOUT, context=self._context)
            else:
                self._connection = http.client.HTTPConnection(to.host, to.port, timeout=TIMEOUT)
        headers = {"Content-Type": "application/jose"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._connection.request("POST", f"{to.path}/{TOPICS[kind]}", payload, headers)
        answer = self._connection.getresponse()
        if len(answer.read(MOST_ANSWER + 1)) > MOST_ANSWER:
            self.close()
        return answer.status
