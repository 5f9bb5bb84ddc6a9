"""A standalone Flink on this machine that runs Beam's Python pipelines.

    python deploy/flink/cluster.py fetch          # once: the only download
    python deploy/flink/cluster.py start          # prints what a run needs
    python deploy/flink/cluster.py status
    python deploy/flink/cluster.py stop

A job manager, two task managers, Beam's job server and a pool of SDK workers,
each a process of its own. All listen on localhost only, but for the job
server: Beam binds two of its ports, for jobs and artifacts, everywhere. Who
reaches them runs code as you.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import fetch  # noqa: E402

TASK_MANAGERS = ("taskmanager-1", "taskmanager-2")
SLOTS = 2  # of each, so that one alone can finish a job of parallelism 2
PARALLELISM = 2
HEAP = {
    "jobmanager": "512m",
    "taskmanager-1": "512m",
    "taskmanager-2": "512m",
    "jobserver": "256m",
}
# Flink's scripts derive these from one figure; without them, each is needed.
MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.heap.size": "384m",
    "task.off-heap.size": "0m",
    "managed.size": "128m",
    "network.min": "128m",
    "network.max": "128m",
    "segment-size": "16kb",  # many small buffers: TFX's graphs are wide
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "192m",
    "jvm-overhead.max": "192m",
}
MAIN = {
    "jobmanager": "runtime.entrypoint.StandaloneSessionClusterEntrypoint",
    "taskmanager": "runtime.taskexecutor.TaskManagerRunner",
}
# Flink serializes through the JDK's own fields; from its conf/config.yaml.
OPEN = ("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util")
LOG = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = Out
appender.out.name = Out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %-40c{1} %m%n
"""


class Cluster:
    """The processes of one cluster; its state is a file in `home`."""

    def __init__(self, home: Path, jars: Path | None = None) -> None:
        self.home = home.absolute()
        self.jars = jars or fetch.folder()
        self._file = self.home / "cluster.json"

    def start(self, seconds: float = 300) -> list[str]:
        """Starts everything; returns `runner.beam` when it is up.

        Raises:
            SystemExit: it runs already, Java or a jar is missing, or a process
                ended or was not up after `seconds`.
        """
        if any(self.processes().values()):
            raise SystemExit(f"A cluster runs in {self.home}; stop it first")
        if shutil.which("java") is None:
            raise SystemExit("java is not installed; Flink needs 11 or 17")
        absent = fetch.missing(self.jars)
        if absent:
            raise SystemExit(
                f"{len(absent)} jars are not in {self.jars}:"
                f" run `python {HERE / 'cluster.py'} fetch`"
            )
        self._clear()
        for name in ("conf", "tmp", "log", "artifacts"):
            (self.home / name).mkdir(parents=True)
        ports = _free_ports("rest", "rpc", "jobs", "workers")
        self._configure(ports)
        state: dict[str, Any] = {"ports": ports, "processes": {}}
        for name, command in self._commands(ports).items():
            with (self.home / "log" / f"{name}.txt").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            state["processes"][name] = [process.pid, born(process.pid)]
            self._file.write_text(json.dumps(state), "utf-8")
        try:
            self._wait(ports, seconds)
        except BaseException:
            self.stop()
            raise
        return self.beam()

    def stop(self) -> None:
        """Ends every process of the cluster; none running is no error."""
        pids = [pid for pid in self.processes().values() if pid]
        for number in (signal.SIGTERM, signal.SIGKILL):
            pids = [pid for pid in pids if _signal(pid, number)]
            deadline = time.monotonic() + 30
            while pids and time.monotonic() < deadline:
                time.sleep(0.1)
                pids = [pid for pid in pids if born(pid)]
        self._file.unlink(missing_ok=True)

    def processes(self) -> dict[str, int]:
        """Process -> its pid, 0 for one that has ended."""
        # A pid may belong to another process by now: the start tells.
        return {
            name: pid if born(pid) == began else 0
            for name, (pid, began) in self._state()["processes"].items()
        }

    def beam(self) -> list[str]:
        """`runner.beam` of a config that runs on this cluster."""
        ports = self._state()["ports"]
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{ports['jobs']}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{ports['workers']}",
            f"--parallelism={PARALLELISM}",
            # Between two stages of a job its workers stay.
            "--environment_cache_millis=10000",
        ]

    def rest(self, path: str) -> Any:
        """The answer of Flink's REST API to GET `path`."""
        port = self._state()["ports"]["rest"]
        url = f"http://localhost:{port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def _state(self) -> dict[str, Any]:
        if not self._file.exists():
            return {"ports": {}, "processes": {}}
        state: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        return state

    def _clear(self) -> None:
        """Removes what an earlier cluster left."""
        ours = (self.home / "log" / "jobmanager.txt").exists()
        if not ours and self.home.exists() and any(self.home.iterdir()):
            raise SystemExit(
                f"--home: received {self.home}, which has other files;"
                " accepted: a new or empty folder, or a stopped cluster's"
            )
        shutil.rmtree(self.home, ignore_errors=True)

    def _configure(self, ports: dict[str, int]) -> None:
        config = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": ports["rpc"],
            "jobmanager.bind-host": "localhost",
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": "localhost",
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.bind-port": ports["rest"],
            "rest.port": ports["rest"],
            "io.tmp.dirs": str(self.home / "tmp"),
            "taskmanager.numberOfTaskSlots": SLOTS,
            "taskmanager.load-balance.mode": "SLOTS",
            "taskmanager.cpu.cores": 1,
            **{f"taskmanager.memory.{k}": v for k, v in MEMORY.items()},
            # A task manager that was killed is noticed within seconds, and
            # what it did is done again by the other one.
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 60000,
            "cluster.registration.error-delay": 1000,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "3 s",
        }
        # JSON is YAML.
        text = json.dumps(config, indent=1)
        (self.home / "conf" / "config.yaml").write_text(text, "utf-8")
        (self.home / "conf" / "log4j.properties").write_text(LOG, "utf-8")

    def _commands(self, ports: dict[str, int]) -> dict[str, list[str]]:
        """Process -> its command line."""
        commands = {
            name: [
                *self._java(name),
                "org.apache.flink." + MAIN[name.partition("-")[0]],
                "--configDir",
                str(self.home / "conf"),
            ]
            for name in ("jobmanager", *TASK_MANAGERS)
        }
        commands["jobserver"] = [
            *self._java("jobserver"),
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            "--job-host=localhost",
            f"--job-port={ports['jobs']}",
            "--artifact-port=0",
            "--expansion-port=0",
            f"--artifacts-dir={self.home / 'artifacts'}",
            f"--flink-master=localhost:{ports['rest']}",
        ]
        commands["workers"] = [
            sys.executable,
            str(HERE / "workers.py"),
            f"--port={ports['workers']}",
        ]
        return commands

    def _java(self, name: str) -> list[str]:
        return [
            "java",
            f"-Xmx{HEAP[name]}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Djava.io.tmpdir={self.home / 'tmp'}",
            (
                "-Dlog4j.configurationFile="
                f"{self.home / 'conf' / 'log4j.properties'}"
            ),
            *(f"--add-opens=java.base/java.{p}=ALL-UNNAMED" for p in OPEN),
            "-cp",
            fetch.classpath(self.jars),
        ]

    def _wait(self, ports: dict[str, int], seconds: float) -> None:
        """Returns when all is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, pid in self.processes().items():
                if not pid:
                    log = self.home / "log" / f"{name}.txt"
                    raise SystemExit(
                        f"{name} ended:\n{log.read_text('utf-8')[-2000:]}"
                    )
            if self._up(ports):
                return
            time.sleep(0.5)
        raise SystemExit(f"Not up after {seconds} s; see {self.home / 'log'}")

    def _up(self, ports: dict[str, int]) -> bool:
        try:
            for name in ("jobs", "workers"):
                socket.create_connection(("localhost", ports[name]), 5).close()
            overview = self.rest("/overview")
        except OSError:
            return False
        return overview["taskmanagers"] == len(TASK_MANAGERS)


def _free_ports(*names: str) -> dict[str, int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [int(probe.getsockname()[1]) for probe in probes]
    return dict(zip(names, ports, strict=True))


def born(pid: int) -> str:
    """When a process began, in the kernel's clock ticks; "" if it ended."""
    try:
        with (Path("/proc") / str(pid) / "stat").open() as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _signal(pid: int, number: int) -> bool:
    """True if `pid` was there to take the signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("fetch", "start", "status", "stop"))
    parser.add_argument(
        "--home",
        type=Path,
        default=fetch.folder().parent.parent / "cluster",
        help="where its logs and its state go",
    )
    options = parser.parse_args()
    cluster = Cluster(options.home)
    if options.command == "fetch":
        fetch.fetch(cluster.jars)
        print(cluster.jars)
    elif options.command == "start":
        print(f"--set 'runner.beam=[{', '.join(cluster.start())}]'")
    elif options.command == "status":
        for name, pid in cluster.processes().items():
            print(f"{name:<15} {f'runs, pid {pid}' if pid else 'ended'}")
    else:
        cluster.stop()


if __name__ == "__main__":
    main()
