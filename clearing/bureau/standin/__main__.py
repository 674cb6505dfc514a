"""``python -m clearing.bureau.standin``: run the stand-in bureau."""

import sys

from clearing.bureau.standin.server import main

sys.exit(main())
