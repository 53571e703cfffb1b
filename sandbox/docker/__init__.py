"""The Docker driver: hardened containers, run by runc on the host's kernel or by gVisor on one of its own."""

from sandbox.docker.driver import Docker

__all__ = ["Docker"]
