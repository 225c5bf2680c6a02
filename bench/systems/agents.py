"""`python -m bench.systems.agents ganglion|osbrain`: the program, which is the same but for its import."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from collections import deque
from typing import Any

from bench.systems.serve import WARM_UP_SECONDS, Counter, blast, claim_output, memory_mb, quantiles, serve, until

TOPIC = "prices"


def main(library: str) -> None:
    """Serve until standard input ends."""
    results = claim_output()
    module: Any = importlib.import_module(library)

    class Source(module.Agent):  # type: ignore[misc]
        def push(self, alias: str, size: int, seconds: float) -> int:
            return blast(functools.partial(self.send, alias), size, seconds)

        def publish(self, alias: str, size: int, seconds: float) -> int:
            return blast(functools.partial(self.send, alias, topic=TOPIC), size, seconds)

    class Sink(module.Agent):  # type: ignore[misc]
        def on_init(self) -> None:
            self.counter = Counter()

        def take(self, message: Any) -> None:
            self.counter.take(message)

        def seen(self) -> tuple[int, float, float]:
            return self.counter.seen()

        def reset(self) -> None:
            self.counter.reset()

        def echo(self, value: Any) -> Any:
            return value

    class Idle(module.Agent):  # type: ignore[misc]
        def pid(self) -> int:
            return os.getpid()

    class Timed(module.Agent):  # type: ignore[misc]
        def arm(self, count: int) -> None:
            self.late: list[float] = []
            self.epochs = [0.0] * count
            for i in range(count):
                # The grid of its runs begins here.
                self.epochs[i] = time.monotonic()
                self.each(self.period(i), functools.partial(self.tick, i))

        def period(self, i: int) -> float:
            # No two equal: they spread over time.
            return 1.0 + i / 1e4

        def tick(self, i: int) -> None:
            self.late.append((time.monotonic() - self.epochs[i]) % self.period(i))

        def used(self) -> float:
            return time.process_time()

        def lateness(self) -> list[float]:
            late, self.late = self.late, []
            return late

    ns = module.run_nameserver()
    started = functools.partial(module.run_agent, nsaddr=ns.addr())
    pairs: dict[tuple[str, int], tuple[Any, list[Any]]] = {}

    def pair(kind: str, subscribers: int = 1) -> tuple[Any, list[Any]]:
        """Agents are made once, and idle between rounds."""
        if (kind, subscribers) not in pairs:
            name = f"{kind}{subscribers}"
            source = started(f"source-{name}", base=Source)
            address = source.bind(kind, alias="out")
            sinks = [started(f"sink-{name}-{i}", base=Sink) for i in range(subscribers)]
            for sink in sinks:
                sink.connect(address, handler={TOPIC: "take"} if kind == "PUB" else "take")
            pairs[kind, subscribers] = (source, sinks)
        return pairs[kind, subscribers]

    def push(size: int, seconds: float) -> dict[str, Any]:
        source, (sink,) = pair("PUSH")
        warm = source.push("out", size, WARM_UP_SECONDS)
        until(lambda: sink.seen()[0] == warm, "the warm-up arrives")
        sink.reset()
        sent = source.push("out", size, seconds)
        n, first, last = until(lambda: (seen := sink.seen())[0] == sent and seen, "all arrive")
        sink.reset()
        return {"per_second": n / (last - first)}

    def publish(size: int, seconds: float, subscribers: int) -> dict[str, Any]:
        source, sinks = pair("PUB", subscribers)

        def heard() -> bool:
            source.publish("out", size, 0.001)
            return all(sink.seen()[0] for sink in sinks)

        until(heard, "all subscribers are there")
        quiet(sinks)
        for sink in sinks:
            sink.reset()
        sent = source.publish("out", size, seconds)
        quiet(sinks)
        seen = [sink.seen() for sink in sinks]
        for sink in sinks:
            sink.reset()
        return {"per_second": sum(n / (last - first) for n, first, last in seen), "lost": 1 - sum(n for n, *_ in seen) / (sent * len(seen))}

    def quiet(sinks: list[Any]) -> None:
        """Until nothing arrives any more."""
        before: list[Any] = []

        def still() -> bool:
            nonlocal before
            now = [sink.seen() for sink in sinks]
            same, before = now == before, now
            return same and all(time.monotonic() - last > 0.05 for _, _, last in now)

        until(still, "nothing arrives any more")

    @functools.cache
    def server() -> Any:
        return started("server", base=Sink)

    def call(count: int) -> dict[str, Any]:
        proxy = server()
        for _ in range(20):
            proxy.echo(1)
        samples = []
        for _ in range(count):
            begun = time.perf_counter()
            proxy.echo(1)
            samples.append(time.perf_counter() - begun)
        return quantiles(samples)

    def flight(count: int, flying: int) -> dict[str, Any]:
        proxy = server()
        futures = deque(proxy.future.echo(i) for i in range(flying))
        begun = time.perf_counter()
        for i in range(count):
            futures.popleft().result()
            futures.append(proxy.future.echo(i))
        seconds = time.perf_counter() - begun
        for future in futures:
            future.result()
        return {"per_second": count / seconds}

    def start(agents: int) -> dict[str, Any]:
        begun = time.perf_counter()
        fresh = module.run_nameserver()
        made = [module.run_agent(f"idle-{i}", nsaddr=fresh.addr(), base=Idle) for i in range(agents)]
        processes = [agent.pid() for agent in made]
        seconds = time.perf_counter() - begun
        memory = memory_mb(processes)
        fresh.shutdown(timeout=60)
        return {"seconds": seconds, "pss_mb": memory}

    def timers(count: int, seconds: float) -> dict[str, Any]:
        agent = started("timed", base=Timed)
        agent.arm(count)
        # After the first period the runs are spread out.
        time.sleep(1.5)
        agent.lateness()
        begun, used = time.monotonic(), agent.used()
        time.sleep(seconds)
        spent, passed = agent.used() - used, time.monotonic() - begun
        late = agent.lateness()
        agent.shutdown()
        return {"runs_per_second": len(late) / passed, "cpu": spent / passed, **quantiles(late), "max": max(late) * 1e6}

    def end() -> dict[str, Any]:
        ns.shutdown(timeout=30)
        return {}

    serve(results, {"push": push, "publish": publish, "call": call, "flight": flight, "start": start, "timers": timers, "end": end})


if __name__ == "__main__":
    main(sys.argv[1])
