"""A token and TLS keep strangers out, over HTTP and gRPC; limits hold."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as v2_stubs
from prometheus_client.parser import text_string_to_metric_families

from serving.access import Access
from serving.errors import ServingError
from tests.serving.tiny import REPOSITORY, ROW, RunningServer

MAIN = "import sys; from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    certify(folder)
    return folder


def certify(folder: Path) -> None:
    """Write a new cert.pem and key.pem."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        + ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def guarded(
    session_server: RunningServer, certificate: Path
) -> Iterator[tuple[str, str]]:
    """URL and gRPC address of a server with a token, TLS and small limits."""
    (certificate / "token").write_text("s3cret\n")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "serve", session_server.model_dir]
        + ["--port=0", "--grpc-port=0", "--max-rows=20", "--max-body-mb=0.01"]
        + ["--ignore-unknown", f"--token-file={certificate / 'token'}"]
        + [f"--tls-cert={certificate / 'cert.pem'}"]
        + [f"--tls-key={certificate / 'key.pem'}"],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"(https://[^/]+)/.* gRPC ([^;]+);", line)
    assert found, line
    yield found[1], found[2]
    process.send_signal(signal.SIGTERM)
    process.wait(40)


def call(
    url: str, folder: Path, token: str = "s3cret", body: object = None
) -> int:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}"} if token else {},
    )
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    try:
        with urllib.request.urlopen(request, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_http(guarded: tuple[str, str], certificate: Path) -> None:
    predict = f"{guarded[0]}/v1/models/tiny:predict"
    body = {"instances": [{**ROW, "no feature": 1}]}
    assert call(predict, certificate, body=body) == 200
    for token in ("", "wrong", "s3cret2"):
        assert call(predict, certificate, token, body) == 401
    for path in ("/v2/health/ready", "/metrics"):
        assert call(guarded[0] + path, certificate, "") == 200
    assert call(guarded[0] + "/v2/models/tiny", certificate, "") == 401
    assert refused(guarded[0], certificate) >= 4


def refused(url: str, folder: Path) -> float:
    """How many requests without the token the metrics know of."""
    context = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    with urllib.request.urlopen(f"{url}/metrics", context=context) as response:
        families = text_string_to_metric_families(response.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "lionctr_requests_total"
        and sample.labels["code"] == "401"
    )


def test_limits(guarded: tuple[str, str], certificate: Path) -> None:
    predict = f"{guarded[0]}/v1/models/tiny:predict"
    for rows, status in ((20, 200), (21, 413)):
        body = {"instances": [ROW] * rows}
        assert call(predict, certificate, body=body) == status
    long = {"instances": [{**ROW, "C1": "x" * 20_000}]}
    assert call(predict, certificate, body=long) == 413


def test_grpc(guarded: tuple[str, str], certificate: Path) -> None:
    credentials = grpc.ssl_channel_credentials(
        (certificate / "cert.pem").read_bytes()
    )
    with grpc.secure_channel(guarded[1], credentials) as channel:
        stub = v2_stubs.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=20).ready
        request = pb.ModelReadyRequest(name="tiny")
        token = (("authorization", "Bearer s3cret"),)
        assert stub.ModelReady(request, metadata=token, timeout=20).ready
        before = refused(guarded[0], certificate)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelReady(request, timeout=20)
        assert refused(guarded[0], certificate) == before + 1
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_pair_is_renewed_when_both_files_belong_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    certify(tmp_path)
    certify(new)
    access = Access("", tmp_path / "cert.pem", tmp_path / "key.pem")
    pair = access.pair()
    assert pair is not None and not pair.renewed()
    (new / "cert.pem").replace(tmp_path / "cert.pem")  # not yet its key
    assert not pair.renewed() and "is not used" in caplog.text
    (new / "key.pem").replace(tmp_path / "key.pem")
    assert pair.renewed()
    assert not pair.renewed()
    (tmp_path / "key.pem").unlink()
    assert not pair.renewed()


def test_grpc_takes_a_new_certificate_at_the_next_handshake(
    guarded: tuple[str, str], certificate: Path
) -> None:
    """Stays behind the others: HTTP follows some seconds later."""
    certify(certificate)
    credentials = grpc.ssl_channel_credentials(
        (certificate / "cert.pem").read_bytes()
    )
    with grpc.secure_channel(guarded[1], credentials) as channel:
        stub = v2_stubs.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=20).ready


@pytest.mark.ci  # 10 s
def test_http_takes_a_new_certificate(
    guarded: tuple[str, str], certificate: Path
) -> None:
    certify(certificate)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            return test_http(guarded, certificate)
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ssl.SSLError)
            time.sleep(0.5)
    pytest.fail("the old certificate is still there")


def test_wrong_options_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "cert").write_text("")
    empty, cert, none = (tmp_path / n for n in ("empty", "cert", "none"))
    for files, words in (
        ((empty, None, None, None), "--token-file.*first line"),
        ((none, None, None, None), "--token-file: no file"),
        ((None, cert, None, None), "go together"),
        ((None, None, None, cert), "needs --tls-cert"),
    ):
        with pytest.raises(ServingError, match=words):
            Access.of(*files)


def test_a_warning_where_everybody_may_ask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Access().check("127.0.0.1")
    Access().check("localhost")
    assert not caplog.text
    Access().check("0.0.0.0")
    assert "--token-file" in caplog.text
    Access(token="a").check("0.0.0.0")
    assert "plain text" in caplog.text
