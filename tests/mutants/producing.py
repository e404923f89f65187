"""Planted bugs of sends made again, of what does not fit, of order under kills.

Promises 1, 2 and 6.
"""

from __future__ import annotations

from mutant import mutant

RETRIER, SEND, ENGINE = "embq/_retrier.py", "csrc/send.c", "csrc/engine.c"
SETTLE = "csrc/settle.c"
RETRYING, MISFITS = "test_retrying.py", "test_misfits.py"

MUTANTS = [
    mutant(
        "A retry is stored also where dedup ids are not known",
        "1",
        f"{RETRYING}::test_uncertain_stays_uncertain[configure-InvalidArgument-fsync]",
        (SEND, "if (window_ms && (!tried_ms ||", "if (1 || (!tried_ms ||"),
    ),
    mutant(
        "A retry is stored also when its dedup id is known no more",
        "1",
        f"{RETRYING}::test_uncertain_stays_uncertain[clock-InvalidArgument-fsync]",
        (
            RETRIER,
            "uncertain, tried_ms = error, tried_ms or now_ms",
            "uncertain = error",
        ),
    ),
    mutant(
        "After an uncertain try a busy one says that nothing is stored",
        "1, 8",
        f"{RETRYING}::test_uncertain_stays_uncertain[lock-Busy-fsync]",
        (
            RETRIER,
            "                    raise uncertain from error\n",
            "                    raise\n",
        ),
    ),
    mutant(
        "The sender sees its own retry as a duplicate",
        "8",
        f"{RETRYING}::test_a_call_that_fails_once[one-fsync]",
        (RETRIER, "row & ~_native.DUPLICATE if made else row", "row"),
    ),
    mutant(
        "After a write that failed the retry goes to the engine that is no more",
        "1",
        f"{RETRYING}::test_a_call_that_fails_once[one-pwrite]",
        (RETRIER, "if refused == CommitUncertain.number:", "if False:"),
    ),
    mutant(
        "A retry does not wait for the WAL to start over",
        "1",
        f"{RETRYING}::test_a_call_that_fails_once[many-fsync]",
        (RETRIER, "if refused != StorageIOError.number:", "if True:"),
    ),
    mutant(
        "An engine that is opened anew forgets which fsync failed",
        "1",
        f"{RETRYING}::test_a_doubt_outlives_its_engine",
        (ENGINE, "ATOMIC_STORE(&e->sync_failed, 1);", "(void)e;"),
    ),
    mutant(
        "A retry opens the file anew for a broker that was closed",
        "8",
        f"{RETRYING}::test_uncertain_stays_uncertain[close-Closed-pwrite]",
        (
            "csrc/calls.c",
            "(ATOMIC_LOAD(&b->closed)) return EMBQ_CLOSED",
            "(0) return 0",
        ),
    ),
    mutant(
        "What does not fit is removed where dead letters were given up",
        "2",
        f"{MISFITS}::test_dead_letters_were_given_up_meanwhile",
        (
            SETTLE,
            'return delivery_refuse(e, c, d, op->delay_ms, "schema", note);',
            "return reject(e, c, d, note);",
        ),
    ),
    mutant(
        "What does not fit is met again at once",
        "2",
        f"{MISFITS}::test_how_long_it_waits[a second]",
        (SETTLE, "delay_ms > least_ms ? delay_ms : least_ms", "delay_ms"),
    ),
    mutant(
        "What does not fit comes again after a second, whatever the retry policy says",
        "2",
        f"{MISFITS}::test_how_long_it_waits[by the policy]",
        (SETTLE, "delay_ms > least_ms ? delay_ms : least_ms", "least_ms"),
    ),
    mutant(
        "The history says that what does not fit was rejected",
        "2",
        f"{MISFITS}::test_dead_letters_were_declared_meanwhile",
        (SETTLE, '"schema", note', '"rejected", note'),
    ),
    mutant(
        "The death of its holder frees the key of a message",
        "6",
        "test_ordered_kills.py::test_order_of_keys_under_kills",
        (
            "csrc/delivery.c",
            "d->kind = DELIVERY_SUSPECT;",
            "d->kind = DELIVERY_SUSPECT, key_release(e, c, d->key);",
        ),
    ),
    mutant(
        "The last of a key goes next, not the first",
        "6",
        "test_ordered_kills.py::test_order_of_keys_under_kills",
        (
            "csrc/statement.c",
            """key_hash = ?2\\n"
                    "order by message""",
            """key_hash = ?2\\n"
                    "order by -message""",
        ),
    ),
    mutant(
        "A batch is sent again without dedup ids",
        "1",
        f"{RETRYING}::test_a_call_that_fails_once[many-pwrite]",
        (RETRIER, "if made[-1]:", "if False:"),
    ),
]
