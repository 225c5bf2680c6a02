"""`python -m ganglion.nameserver`: the name server without the command line interface around it."""

import sys

from ganglion.nameserver import main

sys.exit(main())
