"""A machine says nothing to a server, broker or bureau whose certificate nobody vouches for."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kombu.exceptions import OperationalError

from clearing.bureau.port import DiskAddress
from clearing.bureau.session import BureauSession
from clearing.worker.app import make_app
from clearing.worker.client import ServerClient, Unreachable
from clearing.worker.config import MachineConfig
from clearing.worker.runner import Runner
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month


@dataclass
class Impostor:
    """Listens with a certificate of its own for 127.0.0.1; keeps what it was told."""

    port: int = 0
    told: bytes = b""
    refused: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def listen(self, context: ssl.SSLContext, listener: socket.socket) -> None:
        listener.settimeout(0.2)
        while not self.over.is_set():
            try:
                plain, _from = listener.accept()
            except TimeoutError:
                continue
            plain.settimeout(10)
            try:
                with context.wrap_socket(plain, server_side=True) as spoken:
                    self.told += spoken.recv(4096)
            except OSError:
                self.refused.set()


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "impostor.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Impostor]:
    made = Impostor()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        thread = threading.Thread(target=made.listen, args=(self_signed(tmp_path), listener))
        thread.start()
        yield made
        made.over.set()
        thread.join()


def test_the_token_is_not_told_to_a_server_with_a_certificate_of_its_own(
    impostor: Impostor,
) -> None:
    with (
        ServerClient(f"https://127.0.0.1:{impostor.port}", "secret-token") as client,
        pytest.raises(Unreachable),
    ):
        client.greet(within=1)
    assert impostor.told == b""


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_nothing_is_told_to_a_bureau_with_a_certificate_of_its_own(
    impostor: Impostor, scheme: str
) -> None:
    address = f"{scheme}://127.0.0.1:{impostor.port}/"
    disk = DiskAddress("661900000001", "91420100MA00000017", 0)
    session = BureauSession(address, disk, timeout_seconds=10)
    try:
        with pytest.raises(Failure) as refused:
            session.status(Month(2026, 10))
    finally:
        session.close()
    assert refused.value.code == Code.BUREAU_UNREACHABLE
    assert impostor.told == b""
    assert impostor.refused.wait(60)


def test_the_password_is_not_told_to_a_broker_with_a_certificate_of_its_own(
    impostor: Impostor, tmp_path: Path
) -> None:
    broker = f"rediss://m1:secret-password@127.0.0.1:{impostor.port}/0"
    config = MachineConfig("https://h", "t", tmp_path, broker=broker, prefix="m1:")
    app = make_app(config, cast(Runner, None))  # no bell ever comes
    with (
        app.connection_for_read() as connection,
        pytest.raises(OperationalError, match="certificate"),
    ):
        connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)
    assert impostor.told == b""
    assert impostor.refused.wait(60)
