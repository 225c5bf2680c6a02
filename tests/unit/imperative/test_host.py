"""What a program has started."""

from __future__ import annotations

import threading

from ganglion.imperative.host import Child
from tests.support.wait import wait_for


def test_the_interpreter_waits_for_a_farewell() -> None:
    daemons: list[bool] = []
    child = Child()
    child.on_end = lambda: daemons.append(threading.current_thread().daemon)
    # As the thread that learns of ends: what a daemon starts is a daemon unless it says otherwise.
    loop = threading.Thread(target=child.finish, args=(-9,), daemon=True)
    loop.start()
    loop.join(10)
    wait_for(lambda: bool(daemons), what="the farewell")
    assert daemons == [False]
