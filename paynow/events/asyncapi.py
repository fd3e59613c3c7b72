"""The AsyncAPI 3.0 document: by which ways events leave, and what consumers get there. Made of the declarations of events."""

from __future__ import annotations

from functools import cache

import orjson

import paynow
from paynow.events.examples import EXAMPLES
from paynow.events.forms import EVENT_TYPES, EventType
from paynow.events.schemas import DESCRIPTION, TITLE, Json, definitions

CONTENT_TYPE = "application/cloudevents+json"
NAME = "paynow.events"
"""What the settings call topic, exchange and stream if nobody says otherwise."""
PROMISES = (
    "Every event arrives at least once: remember the `id`s that you have worked off. Kafka, RabbitMQ and Redis streams keep a customer's events "
    "in their `sequence`; webhooks promise no order. Between customers there is none."
)

_SCHEMAS, _MESSAGES = "#/components/schemas/", "#/components/messages/"


@cache
def document() -> Json:
    """The document as plain JSON values. Names that the settings give are parameters, with the defaults as defaults."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": TITLE,
            "version": paynow.__version__,
            "description": f"{DESCRIPTION} {PROMISES}",
            "license": {"name": "Apache License 2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "kafka": _server("kafka", "The brokers that `KAFKA_BOOTSTRAP_SERVERS` names"),
            "rabbitmq": _server("amqp", "The server that `AMQP_URL` names"),
            "redis": _server("redis", "The server that `REDIS_URL` names"),
            "webhook": _server("https", "Your own server, as an endpoint of `events.webhooks` names it"),
        },
        "channels": {
            "kafka": _channel("kafka", _KAFKA, "{topic}", {"description": "The setting `events.kafka.topic`", "default": NAME}),
            "rabbitmq": {**_channel("rabbitmq", _RABBITMQ, "{type}", _ROUTING_KEY), "bindings": {"amqp": _EXCHANGE}},
            "redis": _channel("redis", _REDIS, "{stream}", {"description": "The setting `events.redis_streams.stream`", "default": NAME}),
            "webhook": _channel("webhook", _WEBHOOK, "{path}", {"description": "The path of the endpoint's `url`"}),
        },
        "operations": {f"sendTo{name.capitalize()}": _sending(name) for name in ("kafka", "rabbitmq", "redis", "webhook")},
        "components": {
            "messages": {one.name: _message(one) for one in EVENT_TYPES},
            "schemas": definitions(_SCHEMAS),
        },
    }


@cache
def as_bytes() -> bytes:
    """The document as it is sent."""
    return orjson.dumps(document())


_KAFKA = "The sink `kafka`: the event is the value, its `partitionkey` the key, so that a customer's events lie in one partition."
_RABBITMQ = (
    "The sink `rabbitmq`: the event is the body, with `partitionkey` and `sequence` as headers too. The setting `events.rabbitmq.exchange` names the "
    "exchange; with `exchange_type` `x-consistent-hash` the routing key is the `partitionkey`."
)
_REDIS = "The sink `redis_streams`: the field `event` of an entry holds the event, beside `id`, `type` and `partitionkey`."
_WEBHOOK = "The sink `webhook`: a POST for each event, to every endpoint whose filter wants it."
_ROUTING_KEY = {"description": "The event's type", "location": "$message.payload#/type", "examples": [one.type for one in EVENT_TYPES]}
_EXCHANGE = {"is": "routingKey", "exchange": {"name": NAME, "type": "topic", "durable": True}, "bindingVersion": "0.3.0"}


def _server(protocol: str, where: str) -> Json:
    return {"host": "{host}", "protocol": protocol, "description": f"{where}.", "variables": {"host": {"description": where}}}


def _channel(server: str, description: str, address: str, parameter: Json) -> Json:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "parameters": {address.strip("{}"): parameter},
        "messages": {one.name: {"$ref": f"{_MESSAGES}{one.name}"} for one in EVENT_TYPES},
    }


def _sending(channel: str) -> Json:
    return {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}}


def _message(one: EventType) -> Json:
    key = definitions(_SCHEMAS)["Event"]["properties"]["partitionkey"]
    return {
        "name": one.type,
        "title": one.name,
        "summary": one.when,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"{_SCHEMAS}{one.name}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "examples": [{"name": one.type, "payload": EXAMPLES[one.type]}],
    }
