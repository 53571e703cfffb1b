"""The traveller's calendar and profile. The passport number lives here."""

import sqlite3

from gateway.demo.servers.serving import JSONObject, Tool, list_of, rows, run

SCHEMA = """
CREATE TABLE events (id TEXT PRIMARY KEY, day TEXT, start TEXT, title TEXT, place TEXT, notes TEXT);
INSERT INTO events VALUES
    ('ev-301', '2027-05-14', '10:00', 'Board meeting, Lisbon office', 'LIS', 'Be there the evening before.'),
    ('ev-302', '2027-05-14', '19:30', 'Dinner with the Lisbon team', 'LIS', '');
CREATE TABLE traveller (name TEXT, email TEXT, passport TEXT);
INSERT INTO traveller VALUES ('Alice Martin', 'alice@home.example', 'C01X00T47');
"""
_TEXT = {"type": "string"}
_EVENT = {"id": _TEXT, "day": _TEXT, "start": _TEXT, "title": _TEXT, "place": _TEXT, "notes": _TEXT}


def list_events(connection: sqlite3.Connection, arguments: JSONObject) -> JSONObject:
    return {"events": rows(connection, "SELECT * FROM events WHERE day = ? ORDER BY start", arguments["day"])}


def get_traveller(connection: sqlite3.Connection, _arguments: JSONObject) -> JSONObject:
    return rows(connection, "SELECT * FROM traveller")[0]


TOOLS = (
    Tool(
        name="list_events",
        description="The events of one day (YYYY-MM-DD).",
        arguments={"day": {"type": "string", "format": "date"}},
        result={"events": list_of(_EVENT)},
        body=list_events,
        read_only=True,
    ),
    Tool(
        name="get_traveller",
        description="Name, e-mail address and passport number of the calendar's owner.",
        arguments={},
        result={"name": _TEXT, "email": _TEXT, "passport": _TEXT},
        body=get_traveller,
        read_only=True,
    ),
)

if __name__ == "__main__":
    run("calendar", SCHEMA, TOOLS)
