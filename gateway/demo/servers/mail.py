"""The traveller's mailbox. What is sent is a row in `sent`, and gone."""

import secrets
import sqlite3

from gateway.demo.servers.serving import JSONObject, Tool, list_of, rows, run

SCHEMA = """
CREATE TABLE inbox (id TEXT PRIMARY KEY, "from" TEXT, subject TEXT, body TEXT);
INSERT INTO inbox VALUES
    ('m-1', 'office@lisbon.example', 'Board meeting', 'See you on the 14th. Please be there the evening before.');
CREATE TABLE sent (id TEXT PRIMARY KEY, "to" TEXT, subject TEXT, body TEXT);
"""
_TEXT = {"type": "string"}


def read_inbox(connection: sqlite3.Connection, _arguments: JSONObject) -> JSONObject:
    return {"messages": rows(connection, "SELECT * FROM inbox ORDER BY id")}


def send(connection: sqlite3.Connection, arguments: JSONObject) -> JSONObject:
    message = {"id": f"s-{secrets.token_hex(4)}", **{key: arguments[key] for key in ("to", "subject", "body")}}
    connection.execute("INSERT INTO sent VALUES (?, ?, ?, ?)", tuple(message.values()))
    return {"id": message["id"], "to": message["to"]}


TOOLS = (
    Tool(
        name="read_inbox",
        description="Every message of the inbox.",
        arguments={},
        result={"messages": list_of({"id": _TEXT, "from": _TEXT, "subject": _TEXT, "body": _TEXT})},
        body=read_inbox,
        read_only=True,
    ),
    Tool(
        name="send",
        description="Send a plain-text message to one address.",
        arguments={"to": {"type": "string", "format": "email"}, "subject": _TEXT, "body": _TEXT},
        result={"id": _TEXT, "to": _TEXT},
        body=send,
    ),
)

if __name__ == "__main__":
    run("mail", SCHEMA, TOOLS)
