"""The worker's ear: a Celery app that hears one bell and nothing else.

Owns the broker's settings (stack.md § Celery on Redis says why each). A message carries no work:
the database holds it, and a bell that is lost, late or doubled costs nothing. Needs no remote
control, no gossip and no results, so that the machine's Redis account needs no channel.
"""

from __future__ import annotations

import logging
import threading

from celery import Celery
from celery.worker import state
from kombu import Queue

from clearing.broker_tls import tls_options
from clearing.worker.config import MachineConfig
from clearing.worker.runner import Runner, place_of

log_ = logging.getLogger(__name__)

BELL_TASK = "qingka.bell"
BELL_QUEUE = "bell"


def make_app(config: MachineConfig, runner: Runner) -> Celery:
    """The app of one machine; its task has a free place claim and work."""
    app = Celery("qingka-reader", broker=config.broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues=[Queue(BELL_QUEUE)],
        task_default_queue=BELL_QUEUE,
        task_create_missing_queues=False,
        # Early: what was claimed and lost is the database's business, not the broker's.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        # A connection that blinks must not end a run in the middle of a command.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_use_ssl=tls_options(config.broker),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A broker that is away is noticed; a message is waited for a second at a time.
        broker_transport_options={
            "global_keyprefix": config.prefix,
            # A bell that is lost needs no redelivery, and the account no scripts for it.
            "ack_emulation": False,
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
        },
    )

    @app.task(name=BELL_TASK, shared=False)
    def bell(*_: object, **__: object) -> None:
        runner.work()

    return app


class Ear:
    """Celery's worker in a thread: a broker that is away stops nothing else."""

    def __init__(self, app: Celery, parallel: int) -> None:
        self._app = app
        self._parallel = parallel
        self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)

    def start(self) -> None:
        # The pool's threads look a task up in the default app, whichever app took the message.
        self._app.set_default()
        self._thread.start()

    @property
    def listening(self) -> bool:
        return self._thread.is_alive()

    def stop(self, within: float) -> None:
        """Hear no more; returns when the last task is done, or after ``within`` seconds."""
        # Noticed in its connection loop too. celery-types knows only the initial None.
        state.should_stop = 0  # type: ignore[assignment]
        self._thread.join(within)

    def _listen(self) -> None:
        try:
            controller = self._app.WorkController(
                pool="threads",
                concurrency=self._parallel,
                queues=[BELL_QUEUE],
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
            )
            controller.start()
        except Exception as error:
            # The presence answers go on ringing.
            log_.error("broker: %s", place_of(error))
