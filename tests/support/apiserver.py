"""A real etcd and kube-apiserver on loopback, for tests of API semantics: CEL, server-side apply, RBAC, watches, tokens."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hack.kind import golang
from tests.support.certificates import write_serving_certificate, write_signing_key
from tests.support.ports import free_ports
from tests.support.wait import wait_for

# A cold start takes about 4 s on two idle cores; the rest is room for a machine that is busy with other tests.
START_SECONDS = 120.0
STOP_SECONDS = 20.0
ISSUER = "https://kubernetes.default.svc"


class StartFailedError(RuntimeError):
    """A server ended or did not become ready; carries the end of its log."""


@dataclass
class _Process:
    name: str
    log: Path
    child: subprocess.Popen[bytes]

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def check(self) -> None:
        """Raise when the process has ended."""
        if self.child.poll() is not None:
            raise StartFailedError(f"{self.name} ended with status {self.child.returncode}\n{self.tail()}")

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


@dataclass
class ApiServer:
    """A running API server; a context manager that stops everything it started.

    Arguments:
        controllers: also run kube-controller-manager: garbage collection, workload controllers (StatefulSet, Job…),
            default service accounts, deletion of namespaces. There are no nodes, so pods stay Pending.
        flags: extra kube-apiserver flags.

    Raises (on entry):
        StartFailedError: a server ended or was not ready in time.
        hack.kind.steps.KindError: the programs are neither cached nor buildable.
    """

    controllers: bool = False
    flags: tuple[str, ...] = ()
    url: str = ""
    token: str = ""
    directory: Path = field(default_factory=Path)
    _processes: list[_Process] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        """Path of a kubeconfig whose user is in system:masters."""
        return self.directory / "kubeconfig"

    @property
    def ca(self) -> Path:
        """Path of the PEM authority that signed the server's certificate."""
        return self.directory / "ca.crt"

    @property
    def signing_key(self) -> Path:
        """Path of the PEM key that signs service-account tokens, for tests that forge expired ones."""
        return self.directory / "service-account.key"

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="ganglion-apiserver-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes, the last started first, and remove their files."""
        while self._processes:
            self._processes.pop().stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the API server itself, e.g. SIGSTOP to let calls hang."""
        os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        """Process id of the API server itself."""
        return next(process for process in self._processes if process.name == "kube-apiserver").child.pid

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run the real kubectl as administrator and return its stdout.

        Raises:
            subprocess.CalledProcessError: with the output of kubectl in its notes.
        """
        command = [str(golang.program("kubectl")), "--kubeconfig", str(self.kubeconfig), *arguments]
        # Its discovery cache is keyed by host and port, and ports are reused.
        environment = {**os.environ, "KUBECACHEDIR": str(self.directory / "kubectl-cache")}
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=True, env=environment)
        except subprocess.CalledProcessError as error:
            error.add_note(error.stdout + error.stderr)
            raise
        return done.stdout

    def merge(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """One merge patch; returns status code and JSON body."""
        return self.request("PATCH", path, body, content="application/merge-patch+json")

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        content: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        """One HTTP request; the administrator's token unless another is given. Returns status code and JSON body."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token if token is None else token}")
        data = None
        if body is not None:
            request.add_header("Content-Type", content)
            data = json.dumps(body).encode()
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, data, timeout=30, context=context) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    @contextlib.contextmanager
    def namespace(self, prefix: str = "test") -> Iterator[str]:
        """A fresh namespace; its deletion is asked for at the end (only the controllers carry it out)."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        status, body = self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert status == 201, body
        try:
            yield name
        finally:
            self.request("DELETE", f"/api/v1/namespaces/{name}")

    def _start(self) -> None:
        bin_directory = golang.programs("apiserver")
        write_serving_certificate(self.directory, names=["localhost"], addresses=["127.0.0.1", "10.0.0.1"])
        write_signing_key(self.signing_key)
        self.token = secrets.token_hex(32)
        tokens = self.directory / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')

        client, peer, secure = free_ports(3)
        self.url = f"https://127.0.0.1:{secure}"
        self._write_kubeconfig()
        etcd_url = f"http://127.0.0.1:{client}"
        etcd = self._spawn(
            "etcd",
            bin_directory / "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        api = self._spawn(
            "kube-apiserver",
            bin_directory / "kube-apiserver",
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--tls-cert-file={self.directory / 'server.crt'}",
            f"--tls-private-key-file={self.directory / 'server.key'}",
            f"--cert-dir={self.directory}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={self.signing_key}",
            f"--service-account-key-file={self.signing_key}",
            # Default service accounts exist only where the controllers make them.
            *([] if self.controllers else ["--disable-admission-plugins=ServiceAccount"]),
            "--endpoint-reconciler-type=none",
            *self.flags,
        )

        def ready() -> bool:
            etcd.check()
            api.check()
            return self._answers("/readyz")

        self._await(ready, api)
        if self.controllers:
            self._start_controllers(bin_directory)

    def _start_controllers(self, bin_directory: Path) -> None:
        manager = self._spawn(
            "kube-controller-manager",
            bin_directory / "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            # Nodes here have no kubelet: after 50 s without a heartbeat it would call all of them lost.
            "--controllers=*,-node-lifecycle-controller",
            f"--root-ca-file={self.ca}",
            f"--service-account-private-key-file={self.signing_key}",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )

        def working() -> bool:
            manager.check()
            return self._answers("/api/v1/namespaces/default/serviceaccounts/default")

        self._await(working, manager)

    def _await(self, condition: Callable[[], bool], process: _Process) -> None:
        try:
            wait_for(condition, timeout=START_SECONDS, what=f"{process.name} ready", interval=0.05)
        except TimeoutError as error:
            raise StartFailedError(f"{error}\n{process.tail()}") from error

    def _answers(self, path: str) -> bool:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        context = ssl.create_default_context(cafile=str(self.ca))
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _spawn(self, name: str, *command: str | Path) -> _Process:
        log = self.directory / f"{name}.log"
        # The kernel ends the server with the test process, however that dies.
        guard = ["setpriv", "--pdeathsig", "KILL", "--"]
        with log.open("wb") as output:
            child = subprocess.Popen([*guard, *map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        process = _Process(name, log, child)
        self._processes.append(process)
        return process

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.touch(mode=0o600)
        # JSON is YAML.
        self.kubeconfig.write_text(json.dumps(config))
