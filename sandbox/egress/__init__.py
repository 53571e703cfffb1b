"""The only way out of a sandbox: a forwarder inside, an allow-list proxy outside, and a framed stream between them."""
