// The official TypeScript clients: 1.x (legacy) and 2.x (legacy or modern). Reads one JSON document on stdin:
//   { packages, url, token, mode: "1" | "2-legacy" | "2-modern", calls: [{ name, arguments, cancelAt? }] }
// and writes one: { tools, results: [{ result } | { error }], progress: [[...]] }.
// `packages` is a folder whose node_modules holds them; a call with `cancelAt` is cancelled once its progress gets there.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(`${asked.packages}/package.json`);
const options = { requestInit: { headers: { authorization: `Bearer ${asked.token}` } } };
const me = { name: "stranger", version: "1" };

// A client, its transport, and its way to call a tool.
function connectable() {
    if (asked.mode === "1") {
        const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
        const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
        const client = new Client(me);
        const call = (params, with_) => client.callTool(params, undefined, with_);
        return [client, new StreamableHTTPClientTransport(new URL(asked.url), options), call];
    }
    const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
    const mode = asked.mode === "2-modern" ? { pin: "2026-07-28" } : "legacy";
    const client = new Client(me, { versionNegotiation: { mode } });
    const call = (params, with_) => client.callTool(params, with_);
    return [client, new StreamableHTTPClientTransport(new URL(asked.url), options), call];
}

const [client, transport, call] = connectable();
await client.connect(transport);
const { tools } = await client.listTools();
const results = [];
const progress = [];
for (const { cancelAt, ...params } of asked.calls ?? []) {
    const seen = [];
    const stop = new AbortController();
    const onprogress = (one) => {
        seen.push(one);
        if (cancelAt !== undefined && one.progress >= cancelAt) stop.abort("enough");
    };
    try {
        results.push({ result: await call(params, { onprogress, signal: stop.signal }) });
    } catch (error) {
        results.push({ error: { message: String(error.message ?? error) } });
    }
    progress.push(seen);
}
await client.close();
process.stdout.write(JSON.stringify({ tools, results, progress }));
