"""The fault walk: a fault at every device command and every bureau and server call of a run.

``plan``: what is to go wrong where, and the trace of what was called. ``child``, ``machine``: the
programs of a reader machine with such a plan; ``nursery``: forks the children. ``paths``: the ways
a month can go, per kind of disk; ``spread``: on which machine each is played. ``house``: what a
stack needs for them in its database. ``director``: starts the runs, plays the people, waits.
``round``: one stack from start to judge; ``deploy.fault_walk`` is the command over all.
Everything is simulated (模拟), and no product code
knows of a fault.
"""
