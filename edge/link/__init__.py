"""Brings events out of the device: sealed, kept in an outbox until they have arrived, over MQTT or HTTPS."""
