"""Planted bugs of storing: what returned is stored, in full, once, and no error hides.

Promises 1, 3 and 8.
"""

from __future__ import annotations

from mutant import mutant

SYNC, LEAD, CALLS, MESSAGE = (
    "csrc/sync.c",
    "csrc/lead.c",
    "csrc/calls.c",
    "csrc/message.c",
)
SEND = "csrc/send.c"
CHANNEL, ENGINE, OWNER = "csrc/channel.c", "csrc/engine.c", "csrc/owner.c"
CONFIRMED_EARLY = """    op_outcome(op, result);
    if (op->kind == %s && result > 0) {
        pthread_mutex_lock(&e->mutex);
        ring_finish(e, op);
        ring_unlock(e);
    }
    return 0;
"""
RESULT = "    op_outcome(op, result);\n    return 0;\n"
RUNS = "            if (op_run(e, op) < 0) return -1;\n"

MUTANTS = [
    mutant(
        "What an administrator asked for is confirmed before the fsync",
        "1, CASE 20",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        ("csrc/admin.c", "    op->full = op->broker->full != 0;", "    (void)op;"),
    ),
    mutant(
        "At full a purge is confirmed after its first step",
        "2",
        "test_confirming.py::test_a_purge_in_steps_is_whole",
        ("csrc/admin.c", "op->broker->full && !more;", "op->broker->full;"),
    ),
    mutant(
        "A send is confirmed before its commit",
        "1",
        "test_confirming.py::test_a_failed_commit_confirms_nothing[send]",
        (LEAD, RESULT, CONFIRMED_EARLY % "OP_SEND"),
    ),
    mutant(
        "An ack is confirmed before its commit",
        "2",
        "test_confirming.py::test_a_failed_commit_confirms_nothing[ack]",
        (LEAD, RESULT, CONFIRMED_EARLY % "OP_SETTLE"),
    ),
    mutant(
        "After a commit that failed the engine goes on",
        "8, CASE 24",
        "test_confirming.py::test_a_failed_commit_confirms_nothing[nack]",
        (LEAD, "            ATOMIC_STORE(&e->failed, code);\n", ""),
    ),
    mutant(
        "A send at full does not wait for an fsync",
        "1, CASE 20",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (CALLS, "    op->full = b->full != 0;\n    op->timed", "    op->timed"),
    ),
    mutant(
        "A send_nowait at full does not wait for an fsync",
        "1, CASE 20",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (
            CALLS,
            "    op->full = b->full != 0;\n    int code = ring_stage",
            "    int code = ring_stage",
        ),
    ),
    mutant(
        "The fsync is counted, and not made",
        "1, CASE 20",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (SYNC, "        result = fdatasync(fd);", "        result = fd < 0;"),
    ),
    mutant(
        "The name of a new -wal is not synced",
        "1, CASE 20",
        "test_crash_images.py::test_an_sqlite_that_syncs_no_folder[creation]",
        (
            "csrc/attach.c",
            "s.st_size == 0 ? directory_sync(e->path) : 0;",
            "s.st_size < 0;",
        ),
    ),
    mutant(
        "A checkpoint does not sync what it copies",
        "1, CASE 20",
        "test_confirming.py::test_a_checkpoint_syncs_both_files",
        (
            "csrc/connection.c",
            "pragma synchronous = normal",
            "pragma synchronous = off",
        ),
    ),
    mutant(
        "auto_ack at full removes without an fsync",
        "2",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (CALLS, "    op->full = b->full && op->flags; ", "    op->full = 0; "),
    ),
    mutant(
        "A loop with auto_ack at full removes without an fsync",
        "2",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (
            "csrc/consumer.c",
            "    op->full = c->broker->full && c->flags;",
            "    op->full = 0;",
        ),
    ),
    mutant(
        "An ack waits for an fsync",
        "3",
        "test_confirming.py::test_what_is_synced_before_it_returns",
        (
            CALLS,
            "    op->verb = verb;\n",
            "    op->verb = verb;\n    op->full = b->full != 0;\n",
        ),
    ),
    mutant(
        "A failed fsync confirms all the same",
        "1, CASE 21",
        "test_confirming.py::test_a_failed_fsync_confirms_nothing[send]",
        (
            SYNC,
            "        if (failed)\n            op_outcome(",
            "        if (0)\n            op_outcome(",
        ),
    ),
    mutant(
        "After a failed fsync the next send at full is taken",
        "1, CASE 21",
        "test_confirming.py::test_a_failed_fsync_confirms_nothing[send]",
        (LEAD, "    if (op->full && ATOMIC_LOAD(&e->sync_failed))\n", "    if (0)\n"),
        (
            SYNC,
            "    if (ATOMIC_LOAD(&e->sync_failed) && !failed) failed = EIO;\n",
            "",
        ),
    ),
    mutant(
        "After a rollback memory says what the file does not",
        "1, CASE 23",
        "test_confirming.py::test_a_refused_send_leaves_nothing_behind",
        (LEAD, "    e->epoch++; /* what we remember was never written */\n", ""),
    ),
    mutant(
        "A drained queue forgets which numbers it gave out",
        "1, 4",
        "contract/test_sending.py::test_no_id_comes_twice[core]",
        (
            CHANNEL,
            "{c->next_sequence, c->sent, c->sent_bytes, u->lanes};",
            "{c->stored_sequence, c->sent, c->sent_bytes, u->lanes};",
        ),
    ),
    mutant(
        "What was sent since the row was written is not counted",
        "1",
        "contract/test_sending.py::test_two_processes_share_a_queue[core]",
        (CHANNEL, "    c->next_sequence = t.next_sequence;\n", ""),
    ),
    mutant(
        "A copy goes on with the numbers of its original",
        "1, CASE 14",
        "test_files.py::test_forgotten_numbers_are_passed_over[a copy]",
        (
            CHANNEL,
            "        c->next_sequence += by;\n",
            "        c->next_sequence += by * 0;\n",
        ),
    ),
    mutant(
        "A reboot is not noticed",
        "1, 2, CASE 51",
        "test_files.py::test_forgotten_numbers_are_passed_over[another boot]",
        (OWNER, "!memcmp(known.data, boot_id, known.size) &&", "known.size &&"),
    ),
    mutant(
        "Leases outlive a reboot",
        "2, CASE 51",
        "test_files.py::test_after_a_reboot_no_lease_stands",
        (OWNER, "    if (leases_void(e) < 0 || results_void", "    if (results_void"),
    ),
    mutant(
        "All files have one identity",
        "CASE 48",
        "test_files.py::test_ids_of_two_files_differ",
        ("embq/_schema_sql.py", "  1, 1, random(), '', 0, 0,", "  1, 1, 7, '', 0, 0,"),
    ),
    mutant(
        "The items of a batch are stored one by one",
        "1, CASE 41",
        "contract/test_sending.py::test_one_bad_item_refuses_the_batch[core-1]",
        (
            "embq/queue.py",
            "        handle, channel, file =",
            """        for item in packed[:-1]:
            _native.send_many(self._handle, self._channel, pack([item]), 1, wait)
        del packed[:-1]
        handle, channel, file =""",
        ),
    ),
    mutant(
        "Only the first item of a batch is checked",
        "CASE 41",
        "contract/test_sending.py::test_one_bad_item_refuses_the_batch[core-2]",
        (
            SEND,
            "        if (code < 0) return code;\n    }\n    if (u.failed",
            "        if (code < 0 && !i) return code;\n    }\n    if (u.failed",
        ),
    ),
    mutant(
        "A refused call takes its group with it",
        "7, CASE 41",
        "test_threads.py::test_a_bad_call_in_a_group",
        (
            LEAD,
            RUNS,
            RUNS + "            if (op->result == EMBQ_MESSAGE_TOO_LARGE) {\n"
            "                LIST_EACH (other, group) op_outcome(other, op->result);\n"
            "                return 0;\n"
            "            }\n",
        ),
    ),
    mutant(
        "A body of exactly max_body bytes is refused",
        "CASE 39",
        "contract/test_inputs.py::test_the_limit_and_one_more[core]",
        (SEND, "(body + fields) <= max_body", "(body + fields) < max_body"),
    ),
    mutant(
        "Headers do not count towards max_body",
        "CASE 44",
        "contract/test_inputs.py::test_headers_count_towards_the_limit[core]",
        (SEND, "(body + fields) <= max_body", "(body + fields * 0) <= max_body"),
    ),
    mutant(
        "A buffer that was sent once is not looked at again",
        "CASE 40",
        "contract/test_inputs.py::test_a_bytearray_changed_after_the_call[core]",
        (
            "embq/_codec.py",
            "        return memoryview(data).tobytes()\n",
            """\
        now = memoryview(data).tobytes()
        return _raw.__dict__.setdefault(str(id(data)), now)
""",
        ),
    ),
    mutant(
        "An error tells the payload",
        "8, CASE 60",
        "contract/test_inputs.py::test_no_payload_in_errors_and_reprs[core-json]",
        (
            "embq/_codec.py",
            'msg = f"{type(data).__name__} cannot be encoded as',
            'msg = f"{data!r} cannot be encoded as',
        ),
    ),
    mutant(
        "A failure that nobody awaited is swallowed",
        "8",
        "contract/test_settling.py::test_a_failed_ack_nowait_is_raised_by_flush[core]",
        ("csrc/ring.c", "    if (!b->first_failure) {", "    if (0) {"),
    ),
    mutant(
        "flush() does not wait",
        "1",
        "contract/test_sending.py::test_flush_waits_for_what_is_staged[core]",
        (
            CALLS,
            "    int code = barrier(b, b->full, 1, timeout_ms);",
            "    int code = 0 * timeout_ms;",
        ),
    ),
    mutant(
        "flush() at full waits for the commit alone",
        "1",
        "test_confirming.py::test_flush_waits_for_the_disk",
        (
            CALLS,
            "    int code = barrier(b, b->full, 1, timeout_ms);",
            "    int code = barrier(b, 0, 1, timeout_ms);",
        ),
    ),
    mutant(
        "close() drops what is staged",
        "1, CASE 33",
        "test_closing.py::test_close_stores_what_is_staged",
        (ENGINE, "        code = embq_flush((embq_ref)b, -1);\n", ""),
    ),
    mutant(
        "close() beside a fork drops what is staged",
        "1, CASE 30",
        "test_forking.py::test_a_close_in_the_middle_of_a_fork",
        (
            ENGINE,
            """\
    pthread_mutex_lock(&registry_mutex);
    int attached = e->attached;
    pthread_mutex_unlock(&registry_mutex);
""",
            "    int attached = e->attached;\n",
        ),
    ),
    mutant(
        "Sends go on until the disk is full",
        "2, CASE 23",
        "test_space.py::test_sends_stop_at_the_reserve_and_the_rest_goes_on",
        (
            LEAD,
            "        return (code = space_check(e, op)) < 0 ?",
            "        return (code = 0) < 0 ?",
        ),
    ),
    mutant(
        "What is staged has no bound in bytes",
        "8",
        "test_threads.py::test_what_is_staged_is_bounded",
        (
            "csrc/ring.c",
            "bytes + op_bytes(op) <= EMBQ_RING_BYTES",
            "e->ring_bytes + op_bytes(op) > 0",
        ),
    ),
]
