"""`python -m ganglion_operator`."""

from ganglion_operator.main import main

raise SystemExit(main())
