"""Planted bugs of dedup ids, and of what is asked for of a queue or of one message.

Each shows only when power is lost, when a process dies, or beside another process.
Promises 1, 2, 3 and 7.
"""

from __future__ import annotations

from mutant import mutant

ADMIN, SEND, CHANNEL = "csrc/admin.c", "csrc/send.c", "csrc/channel.c"
IDEMPOTENCY = "csrc/idempotency.c"
IMAGES = "test_crash_images.py::test_power_is_cut"
SWEEP = "test_kill_sweep.py::test_killed_at_every_call"
BESIDE = "test_interleavings.py"

NOTED = """
    if (id > 0 && dedup.data && dedup_note(e, c, dedup, id, now_ms) < 0) return -1;
"""
NOTED_APART = """
    if (id > 0 && dedup.data) {
        channels_flush(e);
        statement_do(e, ST_COMMIT, 0, 0, NULL);
        statement_do(e, ST_BEGIN, 0, 0, NULL);
        if (dedup_note(e, c, dedup, id, now_ms) < 0) return -1;
    }
"""
LOOKED_UP = """
    if (!s) return -1;
    sq.bind_int64(s, 3, now_ms);
    int found"""
LOOKED_UP_EARLY = """
    if (!s || e->epoch % 2) return s ? 0 : -1;
    sq.bind_int64(s, 3, now_ms);
    int found"""
SENT = """
    return item_send(e, c, now_ms, &it);
"""
DUPLICATE_IS_EARLY = """
    int64_t row = item_send(e, c, now_ms, &it);
    if (row > 0 && row & EMBQ_DUPLICATE) op->full = 0;
    return row;
"""
COUNTED = """
        if (c->dirty && subscription_write(e, c) < 0) return -1;
"""
COUNTED_LATE = """
        if (e->stepping) continue;
        if (c->dirty && subscription_write(e, c) < 0) return -1;
"""
OF_ONE_PROCESS = """
#include <unistd.h>
#define FORGET_STEP"""

MUTANTS = [
    mutant(
        "A dedup id is stored by another transaction than its message",
        "1",
        f"{IMAGES}[again]",
        (SEND, NOTED, NOTED_APART),
    ),
    mutant(
        "A producer that died is not known to have sent it",
        "1",
        f"{SWEEP}[send_once]",
        (IDEMPOTENCY, "\n#define FORGET_STEP", OF_ONE_PROCESS),
        (
            IDEMPOTENCY,
            "    sq.bind_int64(s, 1, c->id);",
            "    sq.bind_int64(s, 1, c->id + ((int64_t)getpid() << 20));",
        ),
    ),
    mutant(
        "A dedup id that others stored just now is not seen",
        "1, 7",
        f"{BESIDE}::test_one_dedup_id_from_two_processes",
        (IDEMPOTENCY, LOOKED_UP, LOOKED_UP_EARLY),
    ),
    mutant(
        "A duplicate is confirmed before the fsync of the first",
        "1, CASE 20",
        f"{IMAGES}[again]",
        (SEND, SENT, DUPLICATE_IS_EARLY),
    ),
    mutant(
        "A cancelled message comes back after a power cut",
        "3, CASE 20",
        f"{IMAGES}[upkeep]",
        (
            ADMIN,
            "    op_sync(op);\n    return delivery_drop",
            "    return delivery_drop",
        ),
    ),
    mutant(
        "At full a purge is confirmed before its last step is synced",
        "3, CASE 20",
        f"{IMAGES}[upkeep]",
        (ADMIN, "    op->full = op->broker->full && !more;", "    op->full = 0;"),
    ),
    mutant(
        "The steps of a purge are counted by the last of them alone",
        "2",
        f"{SWEEP}[purge_many]",
        (CHANNEL, COUNTED, COUNTED_LATE),
    ),
    mutant(
        "A purge takes what is held by a batch",
        "2, 4",
        f"{BESIDE}::test_a_purge_beside_users",
        (
            ADMIN,
            "int64_t from = channel_cursor(c, lane), to",
            "int64_t from = message_id(c->id, lane, 0), to",
        ),
    ),
]
