"""New, corrupt and revoked versions under a running server."""

import threading
import time
from pathlib import Path

import pytest

from components.pusher.rollback import roll_back
from serving import Client, manifest
from tests.serving.tiny import (
    OTHER_INPUTS,
    ROW,
    SLOW_USER,
    RunningServer,
    expected_ctr,
)


def ctr(bias: float) -> float:
    return expected_ctr(bias, 1.5, "abc", 7)


def current(server: RunningServer) -> float:
    status, answer = server.predict({"instances": [ROW]})
    assert status == 200, answer
    return float(answer["predictions"][0])


def test_new_versions_take_over_without_a_failed_request(
    server: RunningServer,
) -> None:
    """Two versions are pushed and one revoked while four clients ask."""
    seen: list[float] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        client = Client(server.url, "tiny")
        while not done.is_set():
            try:
                seen.extend(client.predict([ROW]))
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        server.push(2, bias=1.0)
        server.wait_for(lambda: server.states().get(2) == "AVAILABLE")
        server.push(3, bias=2.0)
        available = {3: "AVAILABLE", 2: "AVAILABLE"}
        server.wait_for(lambda: server.states() == available)
        server.revoke(3)
        server.wait_for(lambda: 3 not in server.states())
        time.sleep(0.2)
    finally:
        done.set()
        for thread in threads:
            thread.join(20)
    assert not failures
    assert len(seen) > 50
    expected = [ctr(0.0), ctr(1.0), ctr(2.0)]
    assert {min(expected, key=lambda e: abs(e - x)) for x in seen} == set(
        expected
    )
    for x in seen:
        assert any(abs(x - e) < 1e-6 for e in expected)
    assert current(server) == pytest.approx(ctr(1.0), abs=1e-6)


def test_the_version_before_stays_available_by_number(
    server: RunningServer,
) -> None:
    server.push(2, bias=1.0)
    server.wait_for(lambda: server.states().get(2) == "AVAILABLE")
    _, old = server.predict({"instances": [ROW]}, "/versions/1")
    assert old["predictions"] == pytest.approx([ctr(0.0)], abs=1e-6)
    assert current(server) == pytest.approx(ctr(1.0), abs=1e-6)


def test_a_revoked_version_gives_way_to_the_newest_remaining(
    server: RunningServer,
) -> None:
    server.push(2, bias=1.0)
    server.wait_for(lambda: server.states().get(2) == "AVAILABLE")
    server.revoke(2)
    server.wait_for(lambda: server.states() == {1: "AVAILABLE"})
    assert current(server) == pytest.approx(ctr(0.0), abs=1e-6)
    assert server.predict({"instances": [ROW]}, "/versions/2")[0] == 404


def test_a_corrupt_version_is_reported_and_the_old_one_goes_on(
    server: RunningServer,
) -> None:
    broken = server.model_dir / ".tmp-5"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a protocol buffer")
    broken.rename(server.model_dir / "5")
    server.wait_for(lambda: server.states().get(5) == "END")
    assert server.states() == {5: "END", 1: "AVAILABLE"}
    _, answer = server.call("/v1/models/tiny/versions/5")
    (status,) = answer["model_version_status"]
    assert status["status"]["error_code"] == "UNKNOWN"
    assert status["status"]["error_message"]
    assert current(server) == pytest.approx(ctr(0.0), abs=1e-6)
    assert server.predict({"instances": [ROW]}, "/versions/5")[0] == 404
    assert "version 5 is skipped" in server.log.read_text()


def reason(server: RunningServer, version: int) -> str:
    """Why a version is not served, from TF Serving's status call."""
    server.wait_for(lambda: server.states().get(version) == "END")
    _, answer = server.call(f"/v1/models/tiny/versions/{version}")
    (status,) = answer["model_version_status"]
    return str(status["status"]["error_message"])


def test_a_damaged_version_is_skipped_and_the_old_one_goes_on(
    server: RunningServer,
) -> None:
    def flip(version: Path) -> None:
        (path,) = version.glob("variables/variables.data*")
        content = bytearray(path.read_bytes())
        content[0] ^= 1
        path.write_bytes(content)

    server.push(5, 1.0, flip)
    assert "variables.data-00000-of-00001 has sha256" in reason(server, 5)
    assert current(server) == pytest.approx(ctr(0.0), abs=1e-6)
    assert "version 5 is skipped: files differ" in server.log.read_text()


def test_a_version_that_answers_nan_is_skipped(server: RunningServer) -> None:
    server.push(5, "nan")
    assert "answers 'ctr' = nan" in reason(server, 5)
    assert current(server) == pytest.approx(ctr(0.0), abs=1e-6)


def test_a_version_with_other_inputs_is_skipped_until_it_is_pinned(
    server: RunningServer,
) -> None:
    server.push(5, OTHER_INPUTS)
    told = reason(server, 5)
    assert "than the served version 1: it lacks 'I1'; adds 'I2'" in told
    assert "--allow-input-change" in told
    assert current(server) == pytest.approx(ctr(0.0), abs=1e-6)
    (server.model_dir / ".pinned").write_text("5")
    row = {"I2": 1.5, "C1": "abc", "user": 7}
    server.wait_for(lambda: server.predict({"instances": [row]})[0] == 200)


def test_a_pinned_version_answers_where_none_is_named(
    server: RunningServer,
) -> None:
    server.push(2, bias=1.0)
    server.wait_for(lambda: current(server) == pytest.approx(ctr(1.0)))
    (server.model_dir / ".pinned").write_text("1\n")
    server.wait_for(lambda: current(server) == pytest.approx(ctr(0.0)))
    _, newest = server.predict({"instances": [ROW]}, "/versions/2")
    assert newest["predictions"] == pytest.approx([ctr(1.0)], abs=1e-6)
    (server.model_dir / ".pinned").unlink()
    server.wait_for(lambda: current(server) == pytest.approx(ctr(1.0)))


def test_a_rollback_is_served_at_once_without_a_failed_request(
    server: RunningServer,
) -> None:
    server.push(2, bias=1.0)
    server.wait_for(lambda: current(server) == pytest.approx(ctr(1.0)))
    new, of, before = roll_back(str(server.model_dir))
    assert (of, before) == (1, 2)
    # `current` asserts that each request is answered.
    server.wait_for(lambda: current(server) == pytest.approx(ctr(0.0)))
    # The version that was served before is unloaded a moment later.
    kept = {new: "AVAILABLE", 2: "AVAILABLE"}
    server.wait_for(lambda: server.states() == kept)
    assert {p.name for p in server.model_dir.glob("[0-9]*")} == {
        "1",
        "2",
        str(new),
    }


def test_a_version_without_a_manifest_is_served_with_a_warning(
    server: RunningServer,
) -> None:
    server.push(6, 2.0, lambda path: (path / manifest.NAME).unlink())
    server.wait_for(lambda: current(server) == pytest.approx(ctr(2.0)))
    assert "version 6 has no manifest" in server.log.read_text()


def test_without_any_version_the_server_is_live_and_not_ready(
    server: RunningServer,
) -> None:
    server.revoke(1)
    server.wait_for(lambda: server.states() == {})
    status, answer = server.predict({"instances": [ROW]})
    assert (status, list(answer)) == (503, ["error"])
    assert server.call("/v2/health/ready")[0] == 503
    assert server.call("/v2/models/tiny/ready")[0] == 503
    assert server.call("/v2/health/live")[0] == 200
    server.push(4, bias=2.0)
    server.wait_for(lambda: server.call("/v2/health/ready")[0] == 200)
    assert current(server) == pytest.approx(ctr(2.0), abs=1e-6)


def test_sigterm_finishes_the_request_under_way(
    server: RunningServer,
) -> None:
    """Stays last here: the next test to want a server starts a new one."""
    answers: list[int] = []
    body = {"instances": [{**ROW, "user": SLOW_USER}]}
    thread = threading.Thread(
        target=lambda: answers.append(server.predict(body)[0])
    )
    thread.start()
    time.sleep(0.3)
    assert not answers, "the slow request is not slow enough for this test"
    assert server.stop() == 0, server.log.read_text()
    thread.join(20)
    assert answers == [200]
