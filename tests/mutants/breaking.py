"""Planted bugs of bad days: power cuts, kills, failing calls, damaged and old files.

What the rig finds: crash images, the kill sweep, fault loops, the corpus, schedules.
"""

from __future__ import annotations

from mutant import mutant

SYNC, ENGINE, CHECKPOINT = "csrc/sync.c", "csrc/engine.c", "csrc/checkpoint.c"
READER = "test_foreign.py::test_"
IMAGES, FAULTS = "test_crash_images.py::test_power_is_cut", "test_faults.py"
DAMAGE = "test_damage.py"

MUTANTS = [
    mutant(
        "A checkpoint beside writers holds no read transaction",
        "1, CASE 29",
        "test_wal_reset.py::test_the_guard[held]",
        (CHECKPOINT, "select schema_version\\nfrom embq_meta", "select 1"),
    ),
    mutant(
        "A sync confirms what was committed while it ran",
        "1, CASE 20",
        f"{IMAGES}[threads]",
        (
            SYNC,
            """\
    pthread_mutex_lock(&e->mutex);
    LIST_EACH (op, &e->unsynced) op_move(op, &synced, PLACE_UNSYNCED);
    pthread_mutex_unlock(&e->mutex);
    int failed = wal_sync(e->wal_fd) ? errno : 0;
    pthread_mutex_lock(&e->mutex);
""",
            """\
    int failed = wal_sync(e->wal_fd) ? errno : 0;
    pthread_mutex_lock(&e->mutex);
    LIST_EACH (op, &e->unsynced) op_move(op, &synced, PLACE_UNSYNCED);
""",
        ),
        tries=3,
    ),
    mutant(
        "The jump of a new boot may be forgotten again",
        "1, CASE 20",
        f"{IMAGES}[reboot]",
        ("csrc/attach.c", "    op->full = kind == OP_REGISTER;\n", ""),
    ),
    mutant(
        "A new channel at normal may be forgotten with its numbers",
        "1, CASE 20",
        f"{IMAGES}[fresh]",
        (
            "csrc/channel.c",
            "    if (id > ATOMIC_LOAD(&e->channels_certain)) op->full = 1;\n",
            "    op->full = 0;\n",
        ),
    ),
    mutant(
        "The tables are made one by one, each in a transaction of its own",
        "1, CASE 4",
        "test_kill_sweep.py::test_killed_at_every_call[open_new]",
        ("embq/_schema.py", 'connection.execute("begin immediate")', "pass"),
        ("embq/_schema.py", '        connection.execute("commit")\n', ""),
    ),
    mutant(
        "The row of a dead process goes before the last of its leases",
        "7, CASE 17",
        "test_kills.py::test_a_death_with_many_leases",
        (
            "csrc/owner.c",
            "    if (more != 0) return more;",
            "    if (more < 0) return more;",
        ),
    ),
    mutant(
        "A body that is not what was sent is handed out",
        "CASE 6",
        f"{DAMAGE}::test_one_of_three[1-first]",
        (
            "csrc/checksum.h",
            "return flags != flags_of(flags & MESSAGE_PRIORITY, body, size);",
            "(void)body, (void)size;\n    return 0;",
        ),
    ),
    mutant(
        "Only the first bytes of a body have a checksum",
        "CASE 6",
        f"{DAMAGE}::test_one_of_three[5000-last]",
        (
            "csrc/checksum.h",
            "(int64_t)crc32c(body, size) <<",
            "(int64_t)crc32c(body, size < 4096 ? size : 4096) <<",
        ),
    ),
    mutant(
        "A damaged one that was delivered before is delivered again",
        "CASE 6",
        f"{DAMAGE}::test_after_a_nack",
        (
            "csrc/claim.c",
            "    if (message_is_damaged(row)) return damaged_refuse(k, row, &d);\n",
            "",
        ),
    ),
    mutant(
        "Under auto_ack a damaged one does not hold its key",
        "CASE 6",
        f"{DAMAGE}::test_it_holds_its_key_without_dead_letters[auto_ack]",
        ("csrc/fresh.c", "int takes = key && ", "int takes = 0 && key && "),
    ),
    mutant(
        "A call ends at a batch of which nothing is whole",
        "CASE 6",
        f"{DAMAGE}::test_one_call_goes_past_any_number",
        ("csrc/claim.c", "if (!k.count && k.damaged) op->again = 1;", ""),
    ),
    mutant(
        "A move into an ordered queue or another drops the checksum",
        "CASE 6",
        f"{DAMAGE}::test_a_redrive",
        (
            "csrc/message.c",
            "sq.bind_int64(into, 2, flags);",
            "sq.bind_int64(into, 2, flags & MESSAGE_PRIORITY);",
        ),
    ),
    mutant(
        "An interrupted fdatasync has failed",
        "8, CASE 22",
        f"{FAULTS}::test_a_storm_of_interruptions[['fsync']-1]",
        (SYNC, "    } while (result && errno == EINTR);", "    } while (0);"),
    ),
    mutant(
        "After a failed fsync the WAL is not started over while nobody writes",
        "1, CASE 21",
        f"{FAULTS}::test_no_full_send_is_confirmed[once-alone]",
        (
            CHECKPOINT,
            "(failed || trace_due(e))",
            "trace_due(e)",
        ),
    ),
    mutant(
        "close() tells nothing of what it could not store",
        "8, CASE 21",
        f"{FAULTS}::test_close_tells_what_failed[pwrite]",
        (ENGINE, "    if (code == 0 && (code = unawaited_take(b)) < 0)", "    if (0)"),
    ),
    mutant(
        "A send with a time limit makes the sync for all, however slow",
        "CASE 25",
        f"{FAULTS}::test_a_sync_of_two_seconds",
        ("csrc/ring.c", "    if (role == WORD_SYNC && op->timed) return 0;\n", ""),
    ),
    mutant(
        "A lack of memory is taken for damage",
        "8, CASE 24",
        f"{FAULTS}::test_the_nth_call_fails[malloc-ENOMEM-once]",
        ("csrc/error.c", "    case SQLITE_NOMEM: return EMBQ_NO_MEMORY;\n", ""),
    ),
    mutant(
        "A damaged file passes for an empty one",
        "8, CASE 6",
        "test_fuzz.py::test_corpus[database]",
        (
            "csrc/claim.c",
            "        return storage_corrupt(k->e);\n    return 0;\n",
            "        return 0;\n    return 0;\n",
        ),
    ),
    mutant(
        "Nobody is told of a reader that never ends",
        "CASE 27",
        f"{READER}a_reader_that_never_ends",
        (
            CHECKPOINT,
            " && checkpoint_passive(e) >= 0) held_note(e, frames, salt);",
            ") checkpoint_passive(e);",
        ),
    ),
    mutant(
        "A reader that never ends is told of at each checkpoint",
        "CASE 27",
        f"{READER}a_reader_that_never_ends",
        (CHECKPOINT, "if (e->held_salt != salt &&\n", "if (salt != 0 &&\n"),
    ),
    mutant(
        "A reader is told of for ever",
        "CASE 27",
        f"{READER}a_reader_that_never_ends",
        (
            CHECKPOINT,
            "        ATOMIC_STORE(&e->held_since_us, 0);\n        return;\n",
            "        return;\n",
        ),
        (CHECKPOINT, "since_us && pending_bytes(e) > 0;", "since_us > 0;"),
    ),
    mutant(
        "A send does not look for what the log is to have",
        "CASE 27",
        f"{READER}any_verb_tells_of_a_reader[send]",
        (
            "embq/_native.py",
            """\
    \"\"\"Store one message; return its row.\"\"\"
    if _notices[0]:
        _tell()
""",
            """\
    \"\"\"Store one message; return its row.\"\"\"
""",
        ),
    ),
    mutant(
        "A handle of the core can be copied, and is then freed twice",
        "CASE 37",
        "test_exiting.py::test_handles_cannot_be_pickled[handle]",
        ("embq/_handles.py", "    def __reduce__(self)", "    def reduce(self)"),
        ("embq/_handles.py", "    __copy__ = __reduce__\n", ""),
        # Or the copy takes the test with it.
        ("embq/_handles.py", "        _free_broker(self.ref)\n", "        pass\n"),
    ),
]
