"""The stand-in bureau (模拟税局): a small server that takes, refuses and clears like the real one.

For tests, practice agencies and the demo; never for production. Run it with
``python -m clearing.bureau.standin``; look at what it did with :func:`read_state` and
:func:`read_log`; change it while it runs with :func:`clearing.bureau.standin.control.send`.

``state`` what is remembered · ``rules`` what is decided · ``service`` one request, faults included
· ``control`` what may be changed · ``server`` HTTP.
"""

from clearing.bureau.standin.state import State, read_log, read_state

__all__ = ["State", "read_log", "read_state"]
