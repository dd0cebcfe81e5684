"""Sends by MQTT 5 or 3.1.1: QoS 1, a message has arrived when the broker acknowledges it.

Topics as Frigate has them (https://docs.frigate.video/integrations/mqtt): PREFIX/available (online, offline), /events,
/stats; and PREFIX/clips, CAMERA/RULE for the states that Home Assistant shows, and what `edge.link.inputs` listens to.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from edge.errors import reason
from edge.link import homeassistant, inputs
from edge.link.endpoint import Endpoint
from edge.link.extra import needed
from edge.link.sender import TIMEOUT, TOPICS, LinkError, Refused, Unheard

KEEPALIVE = 30  # seconds: a broker tells of a device that vanished after one and a half times that
ROOM = 100  # bytes of a packet beside topic and payload, at most
PROTOCOLS = ("5", "3.1.1")
NO_SUBSCRIBERS = 0x10  # reason codes of MQTT 5, 3.4.2.1
NEVER = (0x90, 0x95, 0x99)  # topic name invalid, packet too large, payload format invalid: will not get better
WITH_WILL = 0x04  # of DISCONNECT: the broker publishes the last will all the same


@dataclass(frozen=True)
class Settings:
    """How to speak to the broker; `device` is the id of the client."""

    endpoint: Endpoint
    device: str
    prefix: str
    protocol: str = "5"
    context: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    home_assistant: bool = False


class MqttSender:
    """One connection after another: what a lost one had not delivered is sent again by whoever keeps the messages, so
    paho keeps none. With MQTT 5 a message that the broker has no subscriber for counts as not arrived.

    A broker acknowledges what it has passed on, which a subscriber may not have read yet: if the broker dies in that
    moment, both lose it. So what was acknowledged shortly before the end of a connection is sent again.
    """

    settles = 10.0  # seconds: a choice, a hundred times what subscribers took in tests on a busy machine

    def __init__(self, settings: Settings, heard: Callable[[str, bytes], None] | None = None):
        """`heard` gets what comes in, topic and payload, in a thread of paho's, which it must not end."""
        self._settings, self._heard = settings, heard
        self._paho, self._properties = needed("paho.mqtt.client"), needed("paho.mqtt.properties")
        self._packets = needed("paho.mqtt.packettypes").PacketTypes
        self._client: Any = None
        self._number = 0  # of connections that were made
        self._changed = threading.Condition()
        self._connected: bool | None = None  # None: the broker has not answered yet
        self._why = ""
        self._most = 0  # bytes of a packet that the broker takes; 0: it didn't say
        self._arrived: dict[int, int] = {}  # reason code by the number of the message
        self._shown: dict[tuple[str, str], bool] = {}

    def connect(self) -> int:
        with self._changed:
            if self._client is not None and self._connected:
                return self._number
        self._drop()
        client = self._new_client()
        self._client = client
        try:
            options = {"clean_start": True} if self._settings.protocol == "5" else {}
            client.connect(self._settings.endpoint.host, self._settings.endpoint.port, KEEPALIVE, **options)
            client.loop_start()
        except (OSError, ValueError) as error:
            self._drop()
            raise LinkError(f"{self._settings.endpoint}: {reason(error)}") from None
        with self._changed:
            self._changed.wait_for(lambda: self._connected is not None, TIMEOUT)
            if not self._connected:
                why = self._why or "no answer"
                self._drop()
                raise LinkError(f"{self._settings.endpoint}: {why}")
        self._number += 1
        self._publish(f"{self._settings.prefix}/available", b"online", retain=True)
        self._show(dict(self._shown))
        return self._number

    def send(self, kind: str, payload: bytes) -> None:
        topic = f"{self._settings.prefix}/{TOPICS[kind]}"
        if 0 < self._most < len(payload) + len(topic) + ROOM:
            raise Refused(f"{self._settings.endpoint}: the broker takes {self._most} bytes at most; a message has more")
        code = self._publish(topic, payload)
        if code == NO_SUBSCRIBERS:
            raise Unheard(f"{self._settings.endpoint}: nobody subscribes to {topic}")
        if code in NEVER:
            raise Refused(f"{self._settings.endpoint}: the broker refused a message ({kind}) with reason {code:#04x}")
        if code >= 0x80:
            raise LinkError(f"{self._settings.endpoint}: the broker does not take {topic} (reason {code:#04x})")

    def states(self, states: Mapping[tuple[str, str], bool]) -> None:
        if not self._settings.home_assistant:
            return
        new = {key: state for key, state in states.items() if self._shown.get(key) is not state}
        self._shown.update(states)
        if new:
            self._show(new)

    def close(self) -> None:
        if self._client is not None and self._connected:
            with suppress(LinkError):  # then the last will says so
                self._publish(f"{self._settings.prefix}/available", b"offline", retain=True, timeout=2)
                self._client.disconnect()
                with self._changed:  # until paho's thread has sent it
                    self._changed.wait_for(lambda: not self._connected, 1)
        self._drop()

    def _show(self, states: Mapping[tuple[str, str], bool]) -> None:
        """Publishes states, and what Home Assistant needs in order to find them."""
        for (camera, rule), state in states.items():
            entity = homeassistant.Entity(self._settings.device, self._settings.prefix, camera, rule)
            self._publish(entity.config_topic, entity.config(), retain=True)
            self._publish(entity.state_topic, b"ON" if state else b"OFF", retain=True)

    def _publish(self, topic: str, payload: bytes, retain: bool = False, timeout: float | None = None) -> int:
        """The reason code of the broker's acknowledgement (0 in MQTT 3.1.1); LinkError when there is none."""
        options = {}
        if self._settings.protocol == "5" and not retain:
            options["properties"] = self._properties.Properties(self._packets.PUBLISH)
            options["properties"].ContentType = "application/jose"
        if self._client is None:
            raise LinkError(f"{self._settings.endpoint}: not connected")
        # not with the lock, which paho's thread waits for while it holds locks that this needs
        number = self._client.publish(topic, payload, 1, retain, **options).mid
        with self._changed:
            self._changed.wait_for(lambda: number in self._arrived or not self._connected, timeout or TIMEOUT)
            if number in self._arrived:
                return self._arrived.pop(number)
            why = "no acknowledgement" if self._connected else self._why
        self._drop()
        raise LinkError(f"{self._settings.endpoint}: {why}")

    def _drop(self) -> None:
        """Ends the connection without a farewell, so that the broker publishes the last will."""
        client, self._client = self._client, None
        if client is None:
            return
        client.on_connect = client.on_publish = client.on_disconnect = client.on_message = None
        open_socket = client.socket()
        if open_socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(open_socket, socket.SHUT_RDWR)  # not TLS's, which another thread is using
        client.loop_stop()
        self._connected, self._most = None, 0
        self._arrived.clear()

    def _new_client(self) -> Any:
        to, paho = self._settings, self._paho
        version = paho.MQTTv5 if to.protocol == "5" else paho.MQTTv311
        options = {} if to.protocol == "5" else {"clean_session": True}
        api = paho.CallbackAPIVersion.VERSION2
        client = paho.Client(api, to.device, protocol=version, reconnect_on_failure=False, **options)
        if to.context is not None:
            client.tls_set_context(to.context)
        if to.user is not None:
            client.username_pw_set(to.user, to.password)
        client.will_set(f"{to.prefix}/available", b"offline", 1, True)
        client.connect_timeout = TIMEOUT
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish, client.on_message = self._on_publish, self._on_message
        return client

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        with self._changed:
            self._connected = not code.is_failure
            self._why = f"the broker refused the connection: {code}"
            self._most = getattr(properties, "MaximumPacketSize", 0)
            self._changed.notify_all()
        if self._connected and self._heard is not None:
            client.subscribe([(f"{self._settings.prefix}/{topic}", 1) for topic in inputs.TOPICS])

    def _on_disconnect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        with self._changed:
            if self._connected is not False:
                self._why = f"the connection was lost: {code}"
            self._connected = False
            self._changed.notify_all()

    def _on_publish(self, client: Any, data: Any, number: int, code: Any, properties: Any) -> None:
        with self._changed:
            self._arrived[number] = code.value
            self._changed.notify_all()

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        if self._heard is not None:
            self._heard(message.topic[len(self._settings.prefix) + 1 :], message.payload)
