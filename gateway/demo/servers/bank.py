"""The traveller's bank: one account, known payees, and payments that cannot be called back."""

import secrets
import sqlite3

from gateway.demo.servers.serving import JSONObject, Tool, ToolError, list_of, rows, run

SCHEMA = """
CREATE TABLE account (iban TEXT, owner TEXT, balance_cents INTEGER, currency TEXT);
INSERT INTO account VALUES ('DE02500105170137075030', 'Alice Martin', 150000, 'EUR');
CREATE TABLE payees (name TEXT, iban TEXT);
INSERT INTO payees VALUES
    ('Meridian Air', 'DE89370400440532013000'),
    ('Landlord', 'DE02300209000106531065');
CREATE TABLE payments (payment TEXT PRIMARY KEY, "to" TEXT, amount_cents INTEGER, currency TEXT, memo TEXT);
"""
_TEXT = {"type": "string"}
_CENTS = {"type": "integer", "minimum": 0}


def list_payees(connection: sqlite3.Connection, _arguments: JSONObject) -> JSONObject:
    return {"payees": rows(connection, "SELECT * FROM payees ORDER BY name")}


def balance(connection: sqlite3.Connection, _arguments: JSONObject) -> JSONObject:
    return rows(connection, "SELECT iban, balance_cents, currency FROM account")[0]


def pay(connection: sqlite3.Connection, arguments: JSONObject) -> JSONObject:
    amount, to = arguments["amount_cents"], arguments["to"].replace(" ", "")
    payment = secrets.token_hex(4)
    connection.execute("BEGIN IMMEDIATE")
    try:
        taken = connection.execute(
            "UPDATE account SET balance_cents = balance_cents - ? WHERE currency = ? AND balance_cents >= ?",
            (amount, arguments["currency"], amount),
        )
        if taken.rowcount != 1:
            raise ToolError("not enough money in that currency")
        connection.execute(
            "INSERT INTO payments VALUES (?, ?, ?, ?, ?)",
            (payment, to, amount, arguments["currency"], arguments["memo"]),
        )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return {"payment": payment, "to": to, "amount_cents": amount, "currency": arguments["currency"]}


TOOLS = (
    Tool(
        name="list_payees",
        description="The payees the account's owner has saved, by name and IBAN.",
        arguments={},
        result={"payees": list_of({"name": _TEXT, "iban": _TEXT})},
        body=list_payees,
        read_only=True,
    ),
    Tool(
        name="balance",
        description="The account's IBAN and balance.",
        arguments={},
        result={"iban": _TEXT, "balance_cents": _CENTS, "currency": _TEXT},
        body=balance,
        read_only=True,
    ),
    Tool(
        name="pay",
        description="Transfer money to an IBAN at once. Amounts are in cents.",
        arguments={
            "to": _TEXT,
            "amount_cents": {"type": "integer", "minimum": 1},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
            "memo": {"type": "string", "maxLength": 140},
        },
        result={"payment": _TEXT, "to": _TEXT, "amount_cents": _CENTS, "currency": _TEXT},
        body=pay,
    ),
)

if __name__ == "__main__":
    run("bank", SCHEMA, TOOLS)
