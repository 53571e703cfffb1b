"""TLS ended at the proxy, for destinations whose requests get a header: an authority that one sandbox trusts.

Its key exists in this process's memory only, and its certificate holds for the named hosts only (RFC 5280, 4.2.1.10):
whoever trusted it further would still be safe.
"""

import asyncio
import datetime
import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox.egress.refusal import Cut
from sandbox.egress.streams import Stream

LIFE: Final = datetime.timedelta(days=800)
"""More than a gateway runs without a restart, less than clients refuse as too long."""
READ_BYTES: Final = 64 << 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authority:
    """Issues certificates for its hosts."""

    certificate: str
    """PEM."""
    _contexts: dict[str, ssl.SSLContext]

    @classmethod
    def for_hosts(cls, hosts: Iterable[str]) -> "Authority":
        names = sorted(set(hosts))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pratique egress proxy")])
        only = x509.NameConstraints(permitted_subtrees=[x509.DNSName(name) for name in names], excluded_subtrees=None)
        own = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(only, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        contexts = {name: _context(name, own, key) for name in names}
        return cls(certificate=_pem(own), _contexts=contexts)

    def context(self, host: str) -> ssl.SSLContext:
        """For a server that answers as this host."""
        return self._contexts[host]


def outward() -> ssl.SSLContext:
    """For a client that believes this machine's authorities, and speaks HTTP/1.1."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Truncated(Cut):
    """The stream beneath ended, and TLS had not."""


@dataclass(slots=True, kw_only=True, eq=False)
class TlsStream:
    """A stream within a stream."""

    under: Stream
    _tls: ssl.SSLObject
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    was_truncated: bool = False
    """Its end came without TLS's own: what was read may be less than was sent."""
    _leaving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time carries what has been encrypted, so that records stay in order."""

    @classmethod
    async def server(cls, under: Stream, context: ssl.SSLContext) -> "TlsStream":
        """Raises:
        Cut: the client does not believe us, or broke off.
        """
        return await cls._shaken(under, context, None)

    @classmethod
    async def client(cls, under: Stream, context: ssl.SSLContext, host: str) -> "TlsStream":
        """Raises:
        Cut: the server could not prove that it is `host`, or broke off.
        """
        return await cls._shaken(under, context, host)

    @classmethod
    async def _shaken(cls, under: Stream, context: ssl.SSLContext, host: str | None) -> "TlsStream":
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=host is None, server_hostname=host)
        stream = cls(under=under, _tls=tls, _incoming=incoming, _outgoing=outgoing)
        await stream._do(tls.do_handshake)
        return stream

    async def read(self) -> bytes:
        try:
            return await self._do(lambda: self._tls.read(READ_BYTES))
        except ssl.SSLZeroReturnError:
            return b""
        except _Truncated:
            self.was_truncated = True
            return b""

    async def write(self, data: bytes) -> None:
        self._tls.write(data)  # into memory: it takes all
        await self._flush()

    async def end(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it waits for the other side's farewell, which we do not; ours is written
            await self._flush()
        await self.under.end()

    async def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self.under.read():
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLZeroReturnError:
                raise
            except ssl.SSLEOFError as error:
                raise _Truncated("TLS was broken off") from error
            except ssl.SSLError as error:
                await self._flush()  # the alert that says why
                raise Cut(_complaint(error)) from error
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        async with self._leaving:
            while data := self._outgoing.read():
                await self.under.write(data)


def _complaint(error: ssl.SSLError) -> str:
    return "its certificate is not believed" if isinstance(error, ssl.SSLCertVerificationError) else "TLS failed"


def _context(host: str, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    leaf = (
        _builder(subject, issuer.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)  # `ssl` reads files only, and no disk is to hold a key
    try:
        os.write(descriptor, secret + _pem(leaf).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
