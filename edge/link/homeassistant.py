"""What Home Assistant needs in order to find the rules of a device by itself (MQTT discovery,
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery): a binary sensor for each rule of each camera."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Entity:
    """A rule of a camera. Home Assistant can't open what is sealed, so names and states are sent as they are."""

    device: str
    prefix: str
    camera: str
    rule: str

    @property
    def state_topic(self) -> str:
        return f"{self.prefix}/{quote(self.camera, safe='')}/{quote(self.rule, safe='')}"

    @property
    def config_topic(self) -> str:
        return f"homeassistant/binary_sensor/{_slug(self.device)}/{_slug(f'{self.camera} {self.rule}')}/config"

    def config(self) -> bytes:
        node = f"edge-vision {_slug(self.device)}"
        found = {
            "name": f"{self.camera}: {self.rule}",
            "unique_id": f"{node} {_slug(f'{self.camera} {self.rule}')}",
            "state_topic": self.state_topic,
            "payload_on": "ON",
            "payload_off": "OFF",
            "availability_topic": f"{self.prefix}/available",
            "payload_available": "online",
            "payload_not_available": "offline",
            "device": {"identifiers": [node], "name": self.device, "manufacturer": "Edge Vision"},
            "origin": {"name": "edge-vision"},
        }
        return json.dumps(found).encode()


def _slug(name: str) -> str:
    """The name in the characters that Home Assistant takes, with a few digits that tell it from similar names."""
    return f"{re.sub('[^A-Za-z0-9_-]+', '_', name)[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
