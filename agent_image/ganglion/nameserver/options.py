"""How the name server is told what it is: environment variables, each with a flag of the same meaning."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.sockets import CurveKeys


@dataclass(frozen=True, slots=True)
class Options:
    """See the table in docs/architecture.md."""

    name: str
    namespace: str
    uid: str
    join_address: str
    security: Literal["Curve", "None"]
    key_dir: Path | None
    jwks_file: Path | None
    token_issuer: str
    join_secret_file: Path | None
    admin_socket: Path | None
    ad_hoc_address: str
    ad_hoc_relay: str
    remote_code: Literal["Forbidden", "Signed", "Trusted"]
    shutdown_timeout: float
    health_port: int
    log_format: str
    log_level: str

    def keys(self) -> CurveKeys | None:
        """Our key pair; None with `security: None`.

        Raises:
            ConfigurationError: unreadable, or the halves do not belong together.
        """
        if self.security == "None":
            return None
        assert self.key_dir is not None
        try:
            secret = (self.key_dir / "secret").read_text(encoding="ascii").strip()
            public = (self.key_dir / "public").read_text(encoding="ascii").strip()
            keys = CurveKeys.from_secret(secret)
        except OSError as error:
            raise ConfigurationError(
                f"GANGLION_KEY_DIR: {self.key_dir}: {error.strerror}; it must hold files `public` and `secret`"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"GANGLION_KEY_DIR: {self.key_dir}: {error}") from error
        if keys.public != public:
            raise ConfigurationError(
                f"GANGLION_KEY_DIR: {self.key_dir}: `public` does not belong to `secret`; copy both files of one Secret"
            )
        return keys


_FLAGS: tuple[tuple[str, str, str, str], ...] = (
    ("name", "GANGLION_NAMESERVER", "", "name of the NameServer"),
    ("namespace", "GANGLION_NAMESPACE", "default", "its namespace"),
    ("uid", "GANGLION_NAMESERVER_UID", "", "its UID"),
    ("join-address", "GANGLION_JOIN_ADDRESS", "tcp://0.0.0.0:7500", "tcp://IP:port to bind; port * is any free one"),
    ("security", "GANGLION_SECURITY", "Curve", "Curve or None"),
    ("key-dir", "GANGLION_KEY_DIR", "", "directory with files `public` and `secret`"),
    ("jwks-file", "GANGLION_JWKS_FILE", "", "key set of the API server's token signer"),
    ("token-issuer", "GANGLION_TOKEN_ISSUER", "", "expected issuer of tokens"),
    ("join-secret-file", "GANGLION_JOIN_SECRET_FILE", "", "join secret, instead of tokens"),
    ("admin-socket", "GANGLION_ADMIN_SOCKET", "", "ipc path of the supervisor's socket, instead of the Kubernetes API"),
    ("ad-hoc-address", "GANGLION_AD_HOC_ADDRESS", "", "tcp://IP:port of the directory of agents that programs make; unset: they may not"),
    (
        "ad-hoc-relay",
        "GANGLION_AD_HOC_RELAY",
        "",
        "host:port for programs outside of the cluster, which `ganglion connect` forwards; unset: none",
    ),
    ("remote-code", "GANGLION_REMOTE_CODE", "Forbidden", "whether these may send each other code: Forbidden, Signed or Trusted"),
    ("shutdown-timeout", "GANGLION_SHUTDOWN_TIMEOUT_SECONDS", "60", "seconds for the end of the domain"),
    ("health-port", "GANGLION_HEALTH_PORT", "0", "HTTP port of probes and metrics; 0 is off"),
    ("log-format", "GANGLION_LOG_FORMAT", "text", "text or json"),
    ("log-level", "GANGLION_LOG_LEVEL", "INFO", "standard level name"),
)


def parse_options(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Options:
    """Flags win over the environment.

    Raises:
        ConfigurationError: a value is missing or wrong; the text names the variable, what was found and what to do.
        SystemExit: `--help`, or an unknown flag.
    """
    environ = os.environ if environ is None else environ
    parser = argparse.ArgumentParser(prog="ganglion nameserver", description="Registry, directory and ordered shutdown of one domain.")
    for flag, variable, default, text in _FLAGS:
        parser.add_argument(f"--{flag}", default=environ.get(variable, default), help=f"{text} ({variable})")
    values = parser.parse_args(list(argv))

    def path(text: str) -> Path | None:
        return Path(text) if text else None

    options = Options(
        name=_required("GANGLION_NAMESERVER", values.name),
        namespace=_required("GANGLION_NAMESPACE", values.namespace),
        uid=values.uid,
        join_address=values.join_address,
        security=_choice("GANGLION_SECURITY", values.security, "Curve", "None"),  # type: ignore[arg-type]
        key_dir=path(values.key_dir),
        jwks_file=path(values.jwks_file),
        token_issuer=values.token_issuer,
        join_secret_file=path(values.join_secret_file),
        admin_socket=path(values.admin_socket),
        ad_hoc_address=values.ad_hoc_address,
        ad_hoc_relay=values.ad_hoc_relay,
        remote_code=_choice("GANGLION_REMOTE_CODE", values.remote_code, "Forbidden", "Signed", "Trusted"),  # type: ignore[arg-type]
        shutdown_timeout=_number("GANGLION_SHUTDOWN_TIMEOUT_SECONDS", values.shutdown_timeout, 1, 86400),
        health_port=int(_number("GANGLION_HEALTH_PORT", values.health_port, 0, 65535)),
        log_format=_choice("GANGLION_LOG_FORMAT", values.log_format, "text", "json"),
        log_level=_choice("GANGLION_LOG_LEVEL", values.log_level.upper(), "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    if (options.jwks_file is None) == (options.join_secret_file is None):
        raise ConfigurationError("GANGLION_JWKS_FILE, GANGLION_JOIN_SECRET_FILE: exactly one of them must be set")
    if options.jwks_file is not None and (not options.token_issuer or not options.uid):
        raise ConfigurationError("GANGLION_TOKEN_ISSUER, GANGLION_NAMESERVER_UID: both must go with GANGLION_JWKS_FILE")
    if options.security == "Curve" and options.key_dir is None:
        raise ConfigurationError("GANGLION_KEY_DIR: missing; it must go with GANGLION_SECURITY=Curve")
    if options.ad_hoc_address and options.security != "Curve":
        raise ConfigurationError("GANGLION_AD_HOC_ADDRESS: must go with GANGLION_SECURITY=Curve")
    return options


def _required(variable: str, value: str) -> str:
    if not value:
        raise ConfigurationError(f"{variable}: missing; set it")
    return value


def _choice(variable: str, value: str, *choices: str) -> str:
    if value not in choices:
        raise ConfigurationError(f"{variable}: found {value!r}, must be one of {', '.join(choices)}")
    return value


def _number(variable: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise ConfigurationError(f"{variable}: found {value!r}, must be a number from {low:g} to {high:g}")
    return number
