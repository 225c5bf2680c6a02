"""The name server: registry of leases, directory, ordered shutdown."""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_CONFIGURATION = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run a name server until it is told to end; options in `ganglion.nameserver.options`.

    Args:
        argv: flags without the program's name; None: those of this process.
    Returns:
        0 ended as asked, 1 failure, 78 configuration.
    """
    import asyncio
    import logging
    import sys

    import zmq

    from ganglion.nameserver.options import parse_options
    from ganglion.nameserver.server import NameServer
    from ganglion.runtime.errors import ConfigurationError
    from ganglion.runtime.logs import configure

    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        configure(
            {"GANGLION_LOG_FORMAT": options.log_format, "GANGLION_LOG_LEVEL": options.log_level}, agent=options.name, replica=options.name
        )
        server = NameServer(options)
    except ConfigurationError as error:
        print(f"name server: {error}", file=sys.stderr)  # noqa: T201 - the one line that a person needs
        return EXIT_CONFIGURATION
    try:
        return asyncio.run(server.run())
    except (OSError, zmq.ZMQError, ConfigurationError) as error:
        logging.getLogger(__name__).error("name server: %s", error)  # noqa: TRY400 - a bad address needs no traceback
        return EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else EXIT_FAILURE
