"""`ganglion sidecar`: holds the keys and the network sockets of one replica, beside its agent.

It joins the name server, listens, and relays: batches of acknowledged channels by `relay`, everything else by libzmq's proxy. With
`dataPlane: InProcess` it only joins and relays the directory: the agent has the sockets, and a key that the sidecar vouches for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ganglion.runtime.addressees import Addressees
from ganglion.runtime.app_control import AppControl, AppListener
from ganglion.runtime.carrier_legs import Network
from ganglion.runtime.connections import allowed_keys, desired
from ganglion.runtime.control import ControlListener, ControlThread, NameServerUplink
from ganglion.runtime.errors import ConfigurationError, GanglionError
from ganglion.runtime.health import HealthServer, Probes
from ganglion.runtime.links import Identity
from ganglion.runtime.logs import configure
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.plain_receive import PlainReceiver
from ganglion.runtime.plain_send import PlainPush
from ganglion.runtime.plane import MessageId
from ganglion.runtime.proxied import ProxiedChannel
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.receivers import Receivers
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sidecar_end import CLOSE_SECONDS, SidecarEnd
from ganglion.runtime.sidecar_legs import Legs, Relay, at_rest, own, quiet, set_peers
from ganglion.runtime.sidecar_report import merge
from ganglion.runtime.sockets import CurveKeys, make_context
from ganglion.runtime.surroundings import Surroundings, check_legs, next_life
from ganglion.runtime.zap import ZapPolicy
from ganglion.wire.control import (
    AdHoc,
    AdHocTerms,
    AppBye,
    AppHello,
    ChannelState,
    Command,
    Notice,
    Part,
    Peer,
    Phase,
    Refuse,
    Report,
    Watch,
    tarry_seconds,
)
from ganglion.wiring import ChannelWiring, WiringDocument, WiringError, load_wiring

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_CONFIGURATION = 78
_LOOK_SECONDS = 0.05


class Sidecar:
    """One replica's sidecar. Make it and call `run` in an event loop.

    Args:
        wiring: the document.
        here: surroundings with token, uid and host.
    """

    def __init__(self, wiring: WiringDocument, here: Surroundings) -> None:
        self.wiring = wiring
        self.here = here
        self._in_process = wiring.agent.data_plane == "InProcess"
        self._sdk = wiring.agent.target is not None
        self._keys = CurveKeys.generate() if wiring.name_server.security == "Curve" else None
        check_legs(here.run_dir, () if self._in_process else (channel.alias for channel in wiring.channels))
        self._life = next_life(here.run_dir, here.uid)
        self._context = make_context()
        self._policy = ZapPolicy()
        self._relays: dict[str, Relay] = {}
        self._control: ControlThread | None = None
        self._app: AppControl | None = None
        self._app_report: Report | None = None
        self._app_done: AppBye | None = None
        self._phase: Phase = "Starting"
        self._joined = False
        self._directory = False
        self._end = SidecarEnd(float(wiring.agent.drain_timeout_seconds), wiring.domain_end_seconds)
        self._receivers = Receivers(wiring.channels)
        self._handing_back = False
        self._exit_code = EXIT_OK
        self._wake = asyncio.Event()

    async def run(self) -> int:
        """Serve until the replica is over. Returns the exit code."""
        loop = asyncio.get_running_loop()
        reactor = Reactor(loop)
        health = HealthServer(Probes(startup=self._listens, ready=self._why_not_ready, metrics=self._metrics))
        try:
            self._control = self._make_control(loop)
            self._control.watch_signals((signal.SIGTERM, signal.SIGINT), self._signalled)
            self._control.start()
            if not self._in_process:
                self._open(reactor)
            self._app = AppControl(
                self._context, self.here.run_dir / "control.sock", replica=self.here.replica, listener=self._app_listener()
            )
            if self.here.health_port:
                await health.start(self.here.health_port)
            self._control.poke()
            await self._until_the_end()
            return self._exit_code
        finally:
            await health.stop()
            for relay in self._relays.values():
                relay.close()
            if self._app is not None:
                self._app.close()
            reactor.close()
            if self._control is not None:
                self._control.stop()
            # Half a second is what the control leg lingers; nothing else has anything to say.
            self._context.term()

    # -- set up

    def _make_control(self, loop: asyncio.AbstractEventLoop) -> ControlThread:
        server = self.wiring.name_server
        assert self.here.token_file is not None
        uplink = NameServerUplink(
            endpoint=server.endpoint,
            server_key=server.public_key,
            keys=self._keys,
            agent=self.wiring.agent.name,
            replica=self.here.replica,
            incarnation=self._life,
            host=self.here.host,
            token_file=self.here.token_file,
            parts={channel.alias: Part(channel.channel, channel.role) for channel in self.wiring.channels},
            # The agent's own key is not known before the agent is there.
            data_key="" if self._in_process and self._keys is not None else None,
            shutdown_seconds=float(server.shutdown_timeout_seconds),
        )
        listener = ControlListener(
            on_joined=self._on_joined,
            on_directory=self._on_directory,
            on_command=self._on_command,
            on_fatal=self._on_fatal,
            on_stay=self._on_stay,
            on_log_level=lambda level: self._app.log_level(level) if self._app is not None else None,
            on_ad_hoc=self._on_ad_hoc,
            on_ends=lambda ends: self._app.ends(ends) if self._app is not None else None,
        )
        return ControlThread(
            uplink,
            loop=loop,
            report=self._report,
            listener=listener,
            policy=self._policy,
            admits=lambda peers: allowed_keys(self.wiring, peers),
            data_context=self._context if self._keys else None,
        )

    def _open(self, reactor: Reactor) -> None:
        here = self.here
        network = Network(self._context, here.host, here.port_base, self._keys)
        identity = Identity(here.replica, self._life, "sidecar")
        self._relays = Legs(network, self.wiring, identity, here.run_dir, reactor, self._dead).open()

    def _app_listener(self) -> AppListener:
        return AppListener(
            on_hello=self._on_app_hello,
            on_report=self._on_app_report,
            on_bye=self._on_app_bye,
            on_lost=self._on_app_lost,
            on_drain=self._on_drain,
            on_notice=lambda notice: self._control.notice(notice) if self._control is not None else None,
            on_watch=lambda watch: self._control.relay_watch(watch) if self._control is not None else None,
        )

    # -- the name server

    def _on_joined(self, _epoch: str) -> None:
        self._joined = True
        self._latch()

    def _on_ad_hoc(self, terms: AdHocTerms | None) -> None:
        host = self.wiring.name_server.endpoint.rpartition("://")[2].rpartition(":")[0]
        if self._app is not None:
            self._app.set_ad_hoc(AdHoc(name_server=host.strip("[]"), host=self.here.host, terms=terms))

    def _on_directory(self, peers: Mapping[str, Peer], channels: Mapping[str, ChannelState]) -> None:
        wanted = desired(self.wiring, peers.values())
        for alias, relay in self._relays.items():
            set_peers(relay, wanted[alias])
            if isinstance(relay, SendRelay) and relay.channel.addressed:
                relay.set_addressees(Addressees(wanted[alias].values(), channels.get(relay.channel.channel)))
        self._receivers.directory(peers.values(), time.monotonic())
        if self._app is not None:
            self._app.set_directory(peers, channels)
        self._directory = True
        self._latch()

    def _on_command(self, command: Command) -> None:
        log.info("%s within %.0f s: %s", command.kind, command.deadline_seconds, command.reason)
        if command.kind == "Shutdown":
            self._end.shut_down(time.monotonic(), command.deadline_seconds)
            self._resume_intake()
        else:
            self._end.leave(time.monotonic(), command.deadline_seconds)
            self._end.stops = True
            self._stop_intake()
        if self._app is not None:
            self._app.command(command)
        self._ending()

    def _on_stay(self, stay: bool) -> None:
        if self._app is not None:
            self._app.stay(stay)
        if not stay and self._end.deadline is not None and not self._end.in_flow:
            self._stop_intake()

    def _on_fatal(self, refusal: Refuse) -> None:
        log.error("the name server refused this replica: %s: %s", refusal.reason, refusal.message)
        self._exit_code = EXIT_CONFIGURATION
        self._end.end_now(time.monotonic())
        self._wake.set()

    # -- the agent

    def _on_app_hello(self, hello: AppHello) -> None:
        if self._app_done is not None:
            # The report is that of the process before.
            self._app_report = self._app_done = None
        if self._in_process and self._control is not None:
            self._control.set_data_key(hello.key)
        self._changed()

    def _on_app_report(self, report: Report) -> None:
        self._app_report = report
        self._latch()

    def _on_app_bye(self, bye: AppBye) -> None:
        self._app_done = bye
        self._changed()

    def _on_app_lost(self) -> None:
        # Its counts end with it; peers learn from the relays what must be redelivered.
        self._app_report = None
        if self._control is not None:
            # The next process says itself whom it watches.
            self._control.relay_watch(Watch())
        self._changed()

    def _on_drain(self, seconds: float) -> None:
        """The preStop hook: the pod goes. The agent hears of it by its own SIGTERM, or, when it is slow, by this command."""
        log.info("draining within %.0f s", seconds)
        self._end.drain(time.monotonic(), seconds)
        if self._end.in_flow:
            # A part of the domain's end, as for an agent that gets a signal then.
            asyncio.get_running_loop().call_later(self._end.flow_left(time.monotonic()), self._leave, "the pod is being stopped")
        else:
            self._leave("the pod is being stopped", min(seconds, float(self.wiring.agent.drain_timeout_seconds)))
        self._ending()

    def _leave(self, reason: str, seconds: float | None = None) -> None:
        in_flow, self._end.in_flow = self._end.in_flow, False
        if in_flow or not (self._sdk and self._agent_there):
            self._stop_intake()
        else:
            # An SDK process knows when: it may have to stay for a while, because the domain may be ending.
            asyncio.get_running_loop().call_later(tarry_seconds(self._left), self._stop_intake_late)
        if self._app is not None:
            self._app.command(Command(kind="Leave", deadline_seconds=self._left if seconds is None else seconds, reason=reason))

    # -- the end

    def _signalled(self, number: int) -> None:
        """A native sidecar gets SIGTERM when its agent has gone. Alone with a live agent it leads the way out."""
        log.info("%s", signal.Signals(number).name)
        self._end.leave(time.monotonic(), float(self.wiring.agent.drain_timeout_seconds) if self._agent_there else 0.0)
        self._end.stops = True
        self._stop_intake()
        if self._app is not None and self._app.connected:
            self._app.command(Command(kind="Leave", deadline_seconds=self._left, reason="the sidecar is being stopped"))
        self._ending()

    @property
    def _agent_there(self) -> bool:
        return self._app is not None and self._app.connected

    @property
    def _left(self) -> float:
        return self._end.left(time.monotonic())

    def _ending(self) -> None:
        """The bound of the end may have changed."""
        if self._control is not None:
            self._control.force_exit_after(self._left + 2 * CLOSE_SECONDS)
        self._phase = "Draining"
        self._changed()

    def _stop_intake(self) -> None:
        if self._handing_back:
            return
        self._handing_back = True
        for relay in self._relays.values():
            if isinstance(relay, ReceiveRelay | PlainReceiver):
                relay.stop_intake()

    def _stop_intake_late(self) -> None:
        if not self._end.in_flow:
            self._stop_intake()

    def _resume_intake(self) -> None:
        """The pod's own end was told before the domain's, of which it is a part: what is under way is still to be handled."""
        if not self._handing_back:
            return
        self._handing_back = False
        for relay in self._relays.values():
            if isinstance(relay, ReceiveRelay | PlainReceiver):
                relay.resume_intake()

    @property
    def _at_rest(self) -> bool:
        """Nobody needs this sidecar any more: the agent has gone, and what it sent is settled."""
        if self._sdk and self._agent_there:
            return False
        gone = self._receivers.gone(time.monotonic()) if self._end.domain_ends else ()
        return all(at_rest(relay, self.wiring.channel(alias), vain=alias in gone) for alias, relay in self._relays.items())

    async def _until_the_end(self) -> None:
        assert self._control is not None
        said_bye = False
        while True:
            self._wake.clear()
            over = self._end.over(time.monotonic(), self._app.silent_seconds if self._app is not None else 0.0)
            rest = self._at_rest
            if self._end.deadline is not None and (rest or over) and self._app is not None:
                self._app.drained(rest)
            finished = self._app_done is not None and rest
            if finished and not said_bye:
                said_bye = True
                self._phase = "Stopped"
                done = self._app_done
                await self._control.bye(done.completed if done is not None else False, CLOSE_SECONDS)
            if self._end.stops and (over or rest):
                await self._forward_the_rest()
                self._phase = "Stopped"
                if not said_bye and self._joined:
                    await self._control.bye(False, CLOSE_SECONDS)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if self._end.deadline is not None or self._app_done is not None else 1.0):
                    await self._wake.wait()

    async def _forward_the_rest(self) -> None:
        """Let what has arrived on proxied channels leave; nobody acknowledges there. Before the goodbye, at which peers let go of us."""
        proxied = [relay for relay in self._relays.values() if isinstance(relay, ProxiedChannel)]
        if not proxied or self._exit_code != EXIT_OK or self._control is None:
            return
        linger = max(relay.channel.linger_seconds for relay in proxied)
        # Forwarding and sending may each take that long.
        bound = min(2 * linger, float(self.wiring.agent.drain_timeout_seconds)) + CLOSE_SECONDS
        self._control.force_exit_after(bound + 2 * CLOSE_SECONDS)
        for relay in proxied:
            relay.leave()
        deadline = time.monotonic() + bound
        while not all(relay.left for relay in proxied) and time.monotonic() < deadline:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    # -- state

    def _changed(self) -> None:
        self._wake.set()
        if self._control is not None:
            self._control.poke()

    def _latch(self) -> None:
        if self._phase == "Starting" and not self._why_not_ready():
            self._phase = "Ready"
        self._changed()

    def _listens(self) -> str:
        return "" if self._app is not None else "sockets are not open yet"

    def _why_not_ready(self) -> str:
        """Latches: peers and later losses are conditions, not readiness.

        An SDK agent belongs to it: a rollout that went on while new agents are still in `on_init` would leave nobody who serves.
        """
        if self._phase != "Starting":
            return ""
        if self._app is None:
            return "sockets are not open yet"
        if not self._joined:
            return "not joined yet"
        if not self._directory:
            return "no directory yet"
        if self._sdk and self._app_report is None:
            return "the agent has not started yet"
        app = self._app_report
        return "the agent is in on_init or before_loop" if app is not None and app.phase == "Starting" else ""

    def _report(self) -> Report:
        app = self._app_report
        phase: Phase = self._phase
        if phase == "Ready" and self._sdk:
            # A replica whose agent is not there yet takes no work.
            phase = app.phase if app is not None else "Starting"
        elif phase == "Draining":
            rests = all(map(quiet, self._relays.values())) if not self._sdk else app is not None and app.phase == "AtRest"
            phase = "AtRest" if rests else phase
        letters = {channel.dead_letter for channel in self.wiring.channels}
        mine = {
            channel.alias: own(self._relays.get(channel.alias), channel, letters=channel.alias in letters)
            for channel in self.wiring.channels
        }
        report = merge(phase, mine, app)
        if not self._sdk:
            return report
        return msgspec.structs.replace(report, process=(app.process or "") if app is not None else "", goodbye=self._app_done is not None)

    def _metrics(self) -> bytes:
        # Imported when first asked for: most sidecars on a laptop never are.
        from ganglion.runtime.sidecar_metrics import exposition

        refused = self._control.refused_peers if self._control is not None else 0
        return exposition(self.wiring, self._report(), self._relays, refused=refused)

    def _dead(self, channel: ChannelWiring, message: MessageId, body: bytes, reason: str) -> None:
        log.error("channel %s: message %s is given up: %s", channel.alias, message, reason)
        if self._control is not None:
            self._control.notice(Notice(reason="DeadLettered", channel=channel.declared, message=f"message {message}: {reason}"))
        if channel.dead_letter is not None:
            target = self._relays.get(channel.dead_letter)
            if isinstance(target, SendRelay | PlainPush):
                target.inject(body)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sidecar that the environment describes.

    Args:
        argv: arguments without the program's name; there are none to give.
    Returns:
        0 ended as asked, 64 bad command line, 78 configuration.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments:
        print(f"ganglion sidecar: takes no arguments, found {arguments[0]!r}; it is configured by its environment", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    try:
        here = _surroundings()
        wiring = load_wiring(Path(here.wiring))
        configure(os.environ, agent=wiring.agent.name, replica=here.replica)
        os.umask(0o007)
        with asyncio.Runner(loop_factory=DataLoop) as runner:
            return runner.run(_run(wiring, here))
    except (ConfigurationError, WiringError, GanglionError, ValueError) as error:
        print(f"ganglion sidecar: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - the one line that a person needs
        return EXIT_CONFIGURATION


def _surroundings() -> Surroundings:
    here = Surroundings.read(os.environ)
    if here.token_file is None:
        raise ConfigurationError("GANGLION_TOKEN_FILE: not set; a sidecar joins with it")
    return here


async def _run(wiring: WiringDocument, here: Surroundings) -> int:
    return await Sidecar(wiring, here).run()


if __name__ == "__main__":
    sys.exit(main())
